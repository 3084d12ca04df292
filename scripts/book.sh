#!/usr/bin/env bash
# The book as a package carries it: README, chapters, and what they link to, in the same folders as here, so that links
# hold. A link to what a package does not carry (the source) becomes its words.
#
#   scripts/book.sh DIR
set -euo pipefail
cd "$(dirname "$0")/.."

book=${1:?a folder}
mkdir -p "$book"/{config,models,deploy/container,deploy/mosquitto,deploy/home-assistant}
cp README.md NOTICE "$book/"
cp -r docs "$book/docs"
cp config/undertone.toml "$book/config/"
cp -r models/MODEL_CARD.md models/EVALUATE.md models/report "$book/models/"
cp deploy/README.md "$book/deploy/"
cp deploy/container/{README.md,compose.yaml} "$book/deploy/container/"
cp deploy/mosquitto/* "$book/deploy/mosquitto/"
cp -r deploy/home-assistant/{README.md,dashboard.yaml,blueprints,*.png} "$book/deploy/home-assistant/"
find "$book" -type d -exec chmod 755 {} + -o -type f -exec chmod 644 {} +

find "$book" -name '*.md' -print0 | xargs -0 perl -i -pe '
    use File::Basename;
    s{!?\[([^\[\]]*)\]\((?!\w+:|#)([^()\s#]+)(#[^()\s]*)?\)}{ -e dirname($ARGV) . "/$2" ? $& : $1 }ge'
