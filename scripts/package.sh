#!/usr/bin/env bash
# Builds the Debian package, into dist/.
#
#   scripts/package.sh amd64|arm64 [--built]     --built: package the binary that lies there
#
# The architecture of this machine is built natively, the other one is cross-built with Debian's own
# Rust (rustup's targets and `cross` do as well, elsewhere).
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${1:?amd64 or arm64}
built=${2:-}
here=$(dpkg --print-architecture)
target=${CARGO_TARGET_DIR:-target}
say() { printf '%s\n' "package: $*"; }

case $arch in
    amd64) triple=x86_64-unknown-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu ;;
    *) echo "package: there are packages for amd64 and arm64, not for $arch" >&2; exit 2 ;;
esac

UNDERTONE_COMMIT=$(scripts/commit.sh)
export UNDERTONE_COMMIT
tool=.tools/bin/cargo-deb
if [ "$arch" = "$here" ]; then stage=package; else stage=cross-$arch; fi
scripts/setup.sh "$stage"
if [ ! -x "$tool" ]; then
    say "installing cargo-deb into .tools"
    cargo install -q cargo-deb --version 3.8.0 --locked --root .tools
fi

if [ "$arch" = "$here" ]; then
    runtime=.runtime
    release=$target/release
    cargo=(cargo)
    deb=("$PWD/$tool" deb)
    run=()
else
    runtime=.runtime-$arch
    target=$target/cross
    release=$target/$triple/release
    gcc=${triple%-unknown-linux-gnu}-linux-gnu-gcc
    name=${triple//-/_}
    # Debian's Rust has the standard library of the other architecture; rustup's is left alone.
    export PATH=/usr/bin:$PATH CARGO_HOME=${UNDERTONE_CROSS_CARGO_HOME:-$PWD/.tools/cargo-home} CARGO_TARGET_DIR=$target
    export "CARGO_TARGET_${name^^}_LINKER=$gcc" PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=/
    export PKG_CONFIG_PATH=/usr/lib/${triple%-unknown-linux-gnu}-linux-gnu/pkgconfig
    cargo=(/usr/bin/cargo)
    deb=("$PWD/$tool" deb --target "$triple")
    run=("qemu-${triple%%-*}-static")
fi

if [ "$built" != --built ]; then
    options=(build --release --locked)
    [ "$arch" = "$here" ] || options+=(--target "$triple")
    "${cargo[@]}" "${options[@]}"
fi

say "gathering what is not built by cargo"
stage=$release/package
rm -rf "$stage"
mkdir -p "$stage/lib" "$stage/doc"
cp "$runtime"/libonnxruntime.so.* "$stage/lib/"
cp "$runtime/LICENSE" "$stage/lib/ONNXRUNTIME-LICENSE.txt"
cp "$runtime/ThirdPartyNotices.txt" "$stage/lib/ONNXRUNTIME-NOTICES.txt"
scripts/book.sh "$stage/doc"
scripts/licences.py "$stage/doc/CRATES.txt" "$triple"
gzip -9n <CHANGELOG.md >"$stage/doc/changelog.gz"
"${run[@]}" "$release/undertone" manual "$stage"
gzip -9n "$stage"/man/*

# A newer build is an upgrade for apt: the revision is the time of the commit (which a shallow clone knows, too); of what is not
# committed, that of the build.
case $UNDERTONE_COMMIT in
    "" | *-dirty) revision=1.$(date -u +%Y%m%d%H%M) ;;
    *) revision=1.$(TZ=UTC0 git log -1 --date=format-local:%Y%m%d%H%M --format=%cd) ;;
esac
"${deb[@]}" --no-build --no-strip --quiet --deb-revision "$revision" --output "$stage/"
package=$(ls "$stage"/undertone_*_"$arch".deb)
# cargo-deb only warns where it cannot find out what the program is linked with.
if ! dpkg-deb -f "$package" Depends | grep -q libasound2; then
    rm "$package"
    echo "package: $package would not have depended on libasound2, without which the program does not start, and was removed; see whether dpkg-shlibdeps (package dpkg-dev) works here" >&2
    exit 1
fi
mkdir -p dist
rm -f dist/undertone_*_"$arch".deb
mv "$package" dist/
say "dist/${package##*/}"
