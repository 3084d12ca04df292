#!/bin/sh
# Fails while the file $1 exists.
cat >/dev/null
if [ -e "$1" ]; then echo "not today" >&2; exit 1; fi
echo fine
