#!/usr/bin/env bash
# The arm64 package's program, library and model, emulated: does it hear what the native one hears?
# `make test-arm64` runs it; one recording of 9 s takes about half a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "FAIL this needs root: it hides a folder of /sys from the emulated program" >&2; exit 1; }
for arch in amd64 arm64; do
    [ -n "$(ls dist/undertone_*_$arch.deb 2>/dev/null)" ] || { echo "FAIL no package: make deb ARCH=$arch" >&2; exit 1; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
recording=$PWD/tests/golden/formats/voice.flac

hear() { # ARCH WRAPPER...
    local arch=$1 files=$scratch/$1
    shift
    dpkg-deb -x "$(ls -t dist/undertone_*_"$arch".deb | head -1)" "$files"
    # Outside of the checkout, so that nothing of it is found; the package's own files are named.
    (cd / && UNDERTONE_MODEL=$files/usr/share/undertone/undertone.onnx \
        UNDERTONE_ONNXRUNTIME=$(ls "$files"/usr/lib/undertone/libonnxruntime.so.*) \
        "$@" "$files/usr/bin/undertone" analyze --json "$recording")
}
# ONNX Runtime reads the caches of the processor and dies of those that the emulator passes on from the
# host: they are hidden.
emulated() {
    unshare -m bash -c 'for caches in /sys/devices/system/cpu/cpu*/cache; do mount -t tmpfs -o ro none "$caches"; done
        exec qemu-aarch64-static "$@"' -- "$@"
}
hear amd64 >"$scratch/amd64.json"
hear arm64 emulated >"$scratch/arm64.json"
python3 - "$scratch/amd64.json" "$scratch/arm64.json" <<'P'
import json, sys

# What differs from run to run, and what the processor's way of adding up may change in the last digit.
VARIES = {"id", "time", "start", "end", "cpu_seconds", "file"}
ROUNDED = {"posterior", "confidence", "speech_ratio"}


def same(key, a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(k, a[k], b[k]) for k in a)
    return abs(a - b) <= 0.002 if isinstance(a, float) else a == b


here, there = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert len(here) == len(there) and any(e["type"] == "emotion" for e in here), (here, there)
for a, b in zip(here, there):
    assert a.keys() == b.keys(), (a, b)
    for key in a.keys() - VARIES:
        ok = same(key, a[key], b[key]) if key in ROUNDED else a[key] == b[key]
        assert ok, f"{a['type']}.{key}: {a[key]} here, {b[key]} on arm64"
print(f"ok   arm64 tells the same {len(here)} objects, to the last time and module")
P
