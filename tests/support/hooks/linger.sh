#!/bin/sh
# Answers and ends, but leaves a child behind that holds the pipes; its process id goes to the file $1.
sleep 1000 &
echo "$!" >"$1"
echo done
