#!/bin/sh
# Prints bytes that are not UTF-8 around words.
cat >/dev/null
printf 'caf\303\251 \377 au lait'
