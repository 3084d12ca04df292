#!/bin/sh
# Ends at once with status 3 and something to say; what it prints is no transcript.
echo "half a sen"
echo "loading" >&2
echo "the model file is missing" >&2
exit 3
