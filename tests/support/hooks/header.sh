#!/bin/sh
# Prints the size of what arrived, and its first 44 bytes, which are a WAV header, in hexadecimal.
exec 3<&0
head -c 44 <&3 | od -An -v -tx1 | tr -d ' \n'
printf ' %s\n' "$(wc -c <&3)"
