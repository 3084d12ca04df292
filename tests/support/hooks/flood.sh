#!/bin/sh
# Never reads, and prints without end.
exec yes words words words
