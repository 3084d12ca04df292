#!/bin/sh
# The commit that is built, for `undertone --version`; nothing outside of a repository.
cd "$(dirname "$0")/.." || exit 1
git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || true
