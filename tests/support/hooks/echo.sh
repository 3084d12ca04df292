#!/bin/sh
# Reads the whole segment, then prints its arguments with white space around them.
cat >/dev/null
printf '  %s \n\n' "$*"
