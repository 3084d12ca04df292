#!/bin/sh
# Reads a little, closes its standard input, and answers later.
head -c 1000 >/dev/null
exec <&-
sleep 0.3
echo enough
