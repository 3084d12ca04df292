#!/usr/bin/env bash
# Puts the Home Assistant add-on together, into dist/addon-ARCH: copy that folder to /addons/undertone.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:?amd64 or arm64}
package=$(ls -t dist/undertone_*_"$arch".deb | head -1)
folder=dist/addon-$arch
rm -rf "$folder"
mkdir -p "$folder"
(cd deploy/home-assistant/addon && cp -r . "$OLDPWD/$folder/")
cp "$package" "$folder/undertone.deb"
cp CHANGELOG.md "$folder/"
echo "addon: $folder"
