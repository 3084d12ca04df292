#!/bin/sh
# Writes a megabyte to its standard error before it reads, then answers.
yes "a line of progress" | head -c 1000000 >&2
cat >/dev/null
echo heard
