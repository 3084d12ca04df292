#!/usr/bin/env bash
# Installs a real Home Assistant Core into a cache outside of the project, once (some 800 MB, minutes),
# and prints the folder of its Python environment. Only that folder goes to standard output.
set -euo pipefail
cd "$(dirname "$0")/../.."

VERSION=2025.4.4 # the last that runs on Python 3.13.0 and 3.13.1
cache=${UNDERTONE_HOME_ASSISTANT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/undertone}
venv=$cache/home-assistant-$VERSION

say() { printf '%s\n' "setup: $*" >&2; }

scripts/setup.sh build >&2
scripts/setup.sh runtime >&2
scripts/setup.sh home-assistant >&2

if [ ! -e "$venv/complete" ]; then
    python=${HOME_ASSISTANT_PYTHON:-}
    for candidate in "$python" "$(command -v python3.13 || true)" "$HOME"/.pyenv/versions/3.13.*/bin/python; do
        if [ -x "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -x "$python" ] || { say "Home Assistant $VERSION needs Python 3.13; install it, or name it in HOME_ASSISTANT_PYTHON"; exit 1; }
    say "installing Home Assistant $VERSION into $venv (some 800 MB; only this once)"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check "homeassistant==$VERSION"
    # What its parts ask for when they are started; `--skip-pip` keeps it from installing more by itself.
    components=$(echo "$venv"/lib/python3*/site-packages/homeassistant/components)
    for part in frontend mqtt recorder; do
        "$venv/bin/python" -c 'import json, sys; print("\n".join(json.load(open(sys.argv[1]))["requirements"]))' \
            "$components/$part/manifest.json"
    done | xargs "$venv/bin/pip" install -q --disable-pip-version-check
    touch "$venv/complete"
fi
printf '%s\n' "$venv"
