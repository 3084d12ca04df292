#!/usr/bin/env bash
# The container's second stage and the Home Assistant add-on, built and run by a real engine (podman).
# `make test-container` runs it where podman is installed. The base image is a clean Debian made here, so no
# registry is asked; what the first stage would make is taken from the package. WHOLE=1: the first stage, too, which
# compiles for ten minutes, with this machine's Rust in place of its base image's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/root.sh

package=$(newest_package)
clean_root
# Where control groups are of the old kind, crun refuses.
runtime=()
[ -f /sys/fs/cgroup/cgroup.controllers ] || ! command -v runc >/dev/null || runtime=(--runtime runc)
pod() {
    podman --root "$SCRATCH/store" --runroot "$SCRATCH/run" --tmpdir "$SCRATCH/tmp" --cgroup-manager cgroupfs \
        "${runtime[@]}" "$@"
}
started=
state=
finish() {
    [ -z "$state" ] || chattr -i "$state" 2>/dev/null || true
    [ -z "$started" ] || pod rm -f -t 2 "$started" >/dev/null 2>&1 || true
    umount -q -l "$SCRATCH/store/overlay" 2>/dev/null || true
    remove_root
}
trap finish EXIT
log=$SCRATCH/log
try() { "$@" >"$log" 2>&1 || { tail -30 "$log"; fail "$*"; }; }
logged() { # CONTAINER PATTERN WHAT: waits until its log has it
    local begun=$SECONDS
    until [ $((SECONDS - begun)) -gt "$patience" ]; do
        pod logs "$1" >"$log" 2>&1 || true
        if grep -q "$2" "$log"; then return; fi
        sleep 0.2
    done
    cat "$log"
    fail "$3"
}
# What this machine may not raise is left as it is.
limits=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --ulimit core=0)

tar -C "$ROOT" --exclude=./dev --exclude=./proc -cf - . | pod import --arch "$ARCH" - docker.io/library/debian:bookworm-slim >"$log" 2>&1 ||
    { cat "$log"; fail "import of the base image"; }

build() { # NAME CONTEXT [OPTION...]: network of this machine, and no image but those that are here
    local name=$1 context=$2
    shift 2
    try pod build --arch "$ARCH" --pull-never --network host --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 -t "$name" "$@" "$context"
}

if [ -n "${WHOLE:-}" ]; then
    [ "$ARCH" = "$HERE" ] || fail "WHOLE=1 compiles for this machine only"
    # What the first stage needs of its base image: a compiler of C, Rust, and who is to be trusted.
    mkdir -p "$SCRATCH/base/certs"
    cp -aL "$(rustc --print sysroot)" "$SCRATCH/base/rust"
    rm -rf "$SCRATCH"/base/rust/share
    cp /etc/ssl/certs/ca-certificates.crt "$SCRATCH/base/certs/"
    printf '%s\n' 'FROM docker.io/library/debian:bookworm-slim' \
        'RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev git' \
        'COPY rust/ /usr/local/' 'COPY certs/ /etc/ssl/certs/' >"$SCRATCH/base/Containerfile"
    build docker.io/library/rust:1-bookworm "$SCRATCH/base"
    rm -rf "$SCRATCH/base"
    git clone -q . "$SCRATCH/checkout"
    build undertone "$SCRATCH/checkout" -f "$SCRATCH/checkout/deploy/container/Containerfile" --build-arg COMMIT="$(scripts/commit.sh)"
    rm -rf "$SCRATCH/checkout"
    pass "an engine builds both stages"
else
    mkdir "$SCRATCH/context"
    dpkg-deb -x "$package" "$SCRATCH/context/out"
    rm -rf "$SCRATCH"/context/out/{lib,usr/lib/systemd,usr/share/man}
    awk '/^FROM/ { stage++ } stage == 2' deploy/container/Containerfile |
        sed 's|^COPY --from=build /out/|COPY out/|' >"$SCRATCH/context/Containerfile"
    build undertone "$SCRATCH/context"
    pass "an engine builds the second stage ($ARCH)"
fi
patience=20
if [ "$ARCH" != "$HERE" ]; then
    patience=120
    # ONNX Runtime reads the caches of the processor and dies of those that the emulator passes on from here: they are hidden.
    # (Podman would copy them into what hides them.)
    for caches in /sys/devices/system/cpu/cpu*/cache; do limits+=(--tmpfs "$caches:ro,notmpcopyup"); done
fi

# As compose.yaml starts it.
hardened=(--read-only --cap-drop=all --security-opt no-new-privileges --tmpfs /tmp:size=16m,mode=1777
    --pids-limit 64 --memory 224m --network none "${limits[@]}")
[ "$(pod run --rm "${hardened[@]}" --entrypoint id undertone -u)" = 10001 ] || fail "it runs as root"
# As root, whom nothing else would keep from it.
pod run --rm "${hardened[@]}" --user 0 --entrypoint touch undertone /etc/written 2>/dev/null && fail "the root is writable"
try pod run --rm "${hardened[@]}" undertone check --offline --config /etc/undertone/undertone.toml
if [ "$ARCH" = "$HERE" ]; then
    try pod run --rm "${hardened[@]}" undertone demo --speed 100
    grep -q 'segments of speech' "$log" || fail "the demo hears nothing"
else
    voice=$PWD/tests/golden/formats/voice.flac
    try pod run --rm "${hardened[@]}" -v "$voice:/srv/voice.flac:ro" undertone analyze --json /srv/voice.flac
    grep -q '"type":"emotion"' "$log" || fail "it hears nothing"
fi
pass "it checks and hears as a user, read-only, without capabilities, in 224 MB ($ARCH)"
printf '[mqtt]\nbroker = "embedded"\n' >"$SCRATCH/undertone.toml"
chmod 644 "$SCRATCH/undertone.toml"
started=daemon
try pod run -d --name daemon "${hardened[@]}" -v "$SCRATCH/undertone.toml:/etc/undertone/undertone.toml:ro" undertone
logged daemon 'MQTT: connected' "no broker"
try pod exec daemon undertone consent grant listening
begun=$SECONDS
try pod stop -t 20 daemon
[ $((SECONDS - begun)) -lt 10 ] || fail "it had to be killed"
try pod start daemon
try pod exec daemon undertone consent show
grep -q 'listening.*granted' "$log" || { cat "$log"; fail "consent was forgotten"; }
pass "the daemon runs, stops at once when told to, and keeps consent in its volume"
state=$(pod inspect -f '{{range .Mounts}}{{if eq .Destination "/var/lib/undertone"}}{{.Source}}{{end}}{{end}}' daemon)
if chattr +i "$state" 2>/dev/null; then
    pod exec daemon undertone consent revoke listening >"$log" 2>&1 && fail "a withdrawal that was not written has status 0"
    chattr -i "$state"
    grep -q 'was told to withhold everything' "$log" || { cat "$log"; fail "the daemon was not told"; }
    logged daemon 'everything is withdrawn by a signal' "the daemon does not obey"
    pass "a withdrawal that cannot be written reaches the daemon in its container"
fi
try pod rm -f -t 2 daemon
started=

scripts/addon.sh "$ARCH" >"$log"
build addon "dist/addon-$ARCH"
mkdir "$SCRATCH/data"
python3 - deploy/home-assistant/addon/config.yaml "$SCRATCH/data/options.json" <<'P'
import json, re, sys

# The options at their defaults, as the supervisor writes them; a broker that nobody answers at.
block = re.search(r"^options:\n((?:  .*\n)+)", open(sys.argv[1]).read(), re.M).group(1)
options = {k: json.loads(v) if re.match(r'["\d]|true|false', v) else v for k, v in re.findall(r"^  (\w+): (.*)$", block, re.M)}
json.dump(options | {"broker": "mqtt://127.0.0.1:1"}, open(sys.argv[2], "w"))
P
started=addon
try pod run -d --name addon --network none --pids-limit 64 "${limits[@]}" -v "$SCRATCH/data:/data" addon
logged addon 'INFO.* undertone .* as ' "the add-on does not start"
pass "an engine builds the add-on, and it starts with its default options"
