#!/usr/bin/env bash
# Installs what undertone needs and is not there yet; does nothing (and needs no network) when all is.
#
#   scripts/setup.sh build     libraries and tools to build
#   scripts/setup.sh runtime   ONNX Runtime, into .runtime/ of this project
#   scripts/setup.sh test      what the tests use besides
#   scripts/setup.sh package   what `make deb` uses, for this machine's architecture
#   scripts/setup.sh package-test    what `make test-deb` and `make test-systemd` use
#   scripts/setup.sh cross-arm64     what `make deb ARCH=arm64` uses
#   scripts/setup.sh home-assistant  what `make test-home-assistant` uses; `screenshots`, what those do
#   scripts/setup.sh venv      what Python needs to make an environment of its own
#   scripts/setup.sh recognisers   a recording of speech, for the tests against a real recogniser
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*"; }
fail() { printf '%s\n' "setup: $*" >&2; exit 1; }

# The Debian packages among the arguments that are not installed.
absent() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$package"
    done
}

install() {
    local packages removed
    packages=$(absent "$@")
    [ -z "$packages" ] && return
    command -v apt-get >/dev/null || fail "please install these yourself, there is no apt-get here: $packages"
    say "installing with apt-get: $packages"
    local root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -q || say "the package lists could not be refreshed; going on with the old ones"
    # shellcheck disable=SC2086  # a list of names
    removed=$(LC_ALL=C apt-get install -s --no-install-recommends $packages 2>/dev/null | awk '$1 == "Remv" { printf "%s ", $2 }') || true
    [ -z "$removed" ] || fail "nothing was installed, because this would remove ${removed% }; do it in a container or on another machine"
    # shellcheck disable=SC2086
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove $packages
}

# runtime [MACHINE [FOLDER]]
runtime() {
    local machine=${1:-$(uname -m)} folder=${2:-.runtime} version platform
    version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' scripts/runtime.txt)
    [ -n "$version" ] || fail "scripts/runtime.txt names no version of ONNX Runtime"
    [ -e "$folder/libonnxruntime.so.$version" ] && return
    case "$machine" in
        x86_64) platform=manylinux_2_28_x86_64 ;;
        aarch64 | arm64) platform=manylinux_2_28_aarch64 ;;
        *)
            # What lies there was built by hand, and may be of any version.
            compgen -G "$folder/libonnxruntime.so*" >/dev/null && return
            fail "there is no ready ONNX Runtime for $machine; build it and name it as model.library"
            ;;
    esac
    python3 -m pip --version >/dev/null 2>&1 || install python3-pip
    say "fetching ONNX Runtime $version into $folder/"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --platform "$platform" --python-version 311 --implementation cp --abi cp311 -d "$scratch" -r scripts/runtime.txt
    python3 -m zipfile -e "$scratch"/onnxruntime-*.whl "$scratch/wheel"
    mkdir -p "$folder"
    cp "$scratch/wheel/onnxruntime/LICENSE" "$scratch/wheel/onnxruntime/ThirdPartyNotices.txt" "$folder/"
    # Another version would be packed, too, and the program takes the newest.
    rm -f "$folder"/libonnxruntime.so.*
    # Last, because its presence says that all is there.
    cp "$scratch/wheel/onnxruntime/capi/libonnxruntime.so.$version" "$folder/"
}

build() {
    install libasound2-dev libssl-dev pkg-config gcc libc6-dev
    local needed found
    needed=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)
    command -v cargo >/dev/null || fail "cargo is missing: install Rust $needed or newer with rustup (https://rustup.rs; a distribution's own is often older)"
    found=$("${RUSTC:-rustc}" --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p') || true
    # Where it does not say its version, cargo has the last word.
    [ -z "$found" ] || printf '%s\n' "$needed" "$found" | sort -C -V ||
        fail "rustc $found is too old, Rust $needed or newer is needed: rustup update stable (https://rustup.rs; a distribution's own is often older)"
}

# dpkg-dev finds out which libraries the package depends on (dpkg-shlibdeps).
package() {
    build
    install dpkg-dev
    runtime
}

# What builds and tries out packages for arm64 on another machine: Debian's own Rust and emulator.
cross() {
    if [ -n "$(absent rustc-web)" ] && ! apt-cache show rustc-web >/dev/null 2>&1; then
        fail "there is no package rustc-web here, with which Debian 12 builds for arm64: if this is Debian 12, run apt-get update; else build on Debian 12, or with \`make deb\` on an arm64 machine"
    fi
    if ! dpkg --print-foreign-architectures | grep -qx arm64; then
        say "adding the architecture arm64 to dpkg"
        local root=()
        [ "$(id -u)" = 0 ] || root=(sudo)
        "${root[@]}" dpkg --add-architecture arm64
    fi
    install rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev:arm64 \
        libasound2-dev:arm64 libssl-dev:arm64 qemu-user-static dpkg-dev pkg-config python3
    runtime aarch64 .runtime-arm64
}

# No `&&` between these: a function before it does not stop at what fails in it.
case "${1:-}" in
    build) build ;;
    runtime) runtime ;;
    test)
        build
        install mosquitto mosquitto-clients openssl pulseaudio pulseaudio-utils libasound2-plugins faketime python3 systemd curl jq
        runtime
        ;;
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv ;;
    recognisers)
        build
        install pocketsphinx-testdata
        runtime
        ;;
    package) package ;;
    package-test)
        build
        runtime
        install debootstrap systemd-container systemd lintian mosquitto-clients python3
        ;;
    cross-arm64) cross ;;
    cross-*) fail "cross-building is set up for arm64 only; build on a machine of the other kind" ;;
    home-assistant) install mosquitto mosquitto-clients vorbis-tools ;;
    screenshots) install chromium fonts-roboto ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
