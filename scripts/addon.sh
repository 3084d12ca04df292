#!/usr/bin/env bash
# Puts the Home Assistant add-on together, into dist/addon-ARCH: copy that folder to /addons/undertone.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:?amd64 or arm64}
case $arch in
    amd64) other=aarch64 ;;
    arm64) other=amd64 ;;
    *) echo "addon: there are add-ons for amd64 and arm64, not for $arch" >&2; exit 2 ;;
esac
package=$(ls -t dist/undertone_*_"$arch".deb | head -1)
folder=dist/addon-$arch
# The add-on is Debian 12, where no library is called so.
if dpkg-deb -f "$package" Depends | grep -q 't64\b'; then
    echo "addon: $package was built on a system newer than Debian 12, and the add-on, which is Debian 12, cannot install it; build it on Debian 12" >&2
    exit 1
fi
rm -rf "$folder"
mkdir -p "$folder"
(cd deploy/home-assistant/addon && cp -r . "$OLDPWD/$folder/")
# The package is for one architecture; Home Assistant offers the add-on on no other then.
sed -i "/^  - $other\$/d" "$folder/config.yaml"
# Home Assistant updates what has another version, and what is only built anew keeps its old AppArmor profile.
# So it has the package's, which ends with a time, written so that the Supervisor can order it: 0.1.0-1.202611300353 is 0.1.0.202611300353.
version=$(dpkg-deb -f "$package" Version)
sed -i "s/^version: .*/version: \"${version/-*./.}\"/" "$folder/config.yaml"
cp "$package" "$folder/undertone.deb"
cp CHANGELOG.md "$folder/"
echo "addon: $folder"
