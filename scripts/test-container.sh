#!/usr/bin/env bash
# The container's second stage without a container engine: its RUN step in a clean Debian, the files that
# the first stage would make (taken from the package), then the program as its user on a read-only root.
# What it cannot try out: the first stage, and what an engine adds.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/root.sh

package=$(newest_package)
clean_root
trap remove_root EXIT
mount -t proc proc "$ROOT/proc"
mount --bind /dev "$ROOT/dev"
cp -L /etc/resolv.conf "$ROOT/etc/resolv.conf"

step=$(awk '/^FROM/ { step = "" } /^RUN/ { inside = 1 } inside { step = step $0 "\n" } inside && !/\\$/ { inside = 0 } END { printf "%s", step }' \
    deploy/container/Containerfile)
inside sh -ec "${step#RUN }" >"$SCRATCH/log" 2>&1 || { tail -20 "$SCRATCH/log"; fail "the second stage's RUN"; }
pass "the second stage's RUN works in a clean Debian"

dpkg-deb -x "$package" "$SCRATCH/out"
cp -r "$SCRATCH/out/usr" "$SCRATCH/out/etc" "$ROOT/"
umount "$ROOT/dev" "$ROOT/proc"
mount --bind "$ROOT" "$ROOT"
trap 'umount -l "$ROOT"; remove_root' EXIT
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o size=16m,mode=1777 tmpfs "$ROOT/tmp"
mount -t tmpfs -o mode=0700,uid=10001,gid=10001 tmpfs "$ROOT/var/lib/undertone"
mount --bind /dev "$ROOT/dev"
cp tests/golden/formats/voice.flac "$ROOT/tmp/"
chmod 644 "$ROOT/tmp/voice.flac"
mount -o remount,ro,bind "$ROOT"
as_user() { inside setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all "$@"; }
# As root, whom nothing else would keep from it.
inside touch /etc/written 2>/dev/null && fail "the root is writable"
as_user undertone --version
as_user undertone check --offline --config /etc/undertone/undertone.toml || fail "check"
seconds=5
if [ "$ARCH" = "$HERE" ]; then
    as_user undertone demo --speed 100 >"$SCRATCH/demo" || fail "demo"
    grep -q 'segments of speech' "$SCRATCH/demo" || fail "the demo hears nothing"
else
    seconds=40
    as_user undertone analyze --json /tmp/voice.flac >"$SCRATCH/demo" || fail "analyze"
    grep -q '"type":"emotion"' "$SCRATCH/demo" || fail "it hears nothing"
fi
as_user timeout --preserve-status -s TERM $seconds undertone run --config /etc/undertone/undertone.toml >"$SCRATCH/run" 2>&1 ||
    { cat "$SCRATCH/run"; fail "the daemon"; }
grep -q 'MQTT: connected' "$SCRATCH/run" || { cat "$SCRATCH/run"; fail "no broker"; }
pass "as its user, without capabilities, on a read-only root: it hears, and the daemon runs ($ARCH)"
for mounted in tmp var/lib/undertone dev proc; do umount -l "$ROOT/$mounted"; done
