#!/usr/bin/env bash
# The package under a real systemd, in a container: started, watched, restarted, stopped.
# `make test-systemd` runs it; about three minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/root.sh

package=$(newest_package)
clean_root
pids=()
groups=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    chattr -i "$ROOT/var/lib/undertone" 2>/dev/null || true
    [ -z "${leader:-}" ] || enter systemctl poweroff >/dev/null 2>&1 || true
    for _ in $(seq 150); do kill -0 "${container:-0}" 2>/dev/null || break; sleep 0.1; done
    [ -z "${container:-}" ] || kill "$container" 2>/dev/null || true
    for group in "${groups[@]}"; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
    remove_root
}
trap finish EXIT

cp "$package" "$ROOT/root/undertone.deb"
inside dpkg -i /root/undertone.deb >"$SCRATCH/log" 2>&1 || { cat "$SCRATCH/log"; fail "install"; }
inside systemctl enable --quiet undertone
inside undertone consent grant listening >/dev/null
# A microphone made of a FIFO, and a watchdog that does not make the test wait for half a minute.
mkfifo -m 644 "$ROOT/srv/microphone"
cat >"$ROOT/etc/asound.conf" <<'C'
pcm.!default { type file slave.pcm { type null } file "/dev/null" infile "/srv/microphone" format "raw" }
C
mkdir -p "$ROOT/etc/systemd/system/undertone.service.d" "$ROOT/var/log/journal"
printf '[Service]\nWatchdogSec=6\n' >"$ROOT/etc/systemd/system/undertone.service.d/test.conf"
python3 tests/support/fifo_mic.py "$ROOT/srv/microphone" 600 &
pids+=($!)

# Where control groups are of the old kind, systemd gets groups of this test's own: what it makes in them goes with it.
for controller in memory cpu cpuacct pids; do
    group=/sys/fs/cgroup/$controller$(sed -n "s/^[0-9]*:$controller://p" /proc/self/cgroup)/undertone-test.$$
    mkdir "$group" 2>/dev/null && groups+=("$group")
done
(
    for group in "${groups[@]}"; do echo 0 >"$group/cgroup.procs"; done
    exec systemd-nspawn -q -D "$ROOT" --register=no --keep-unit --private-network --console=pipe -b </dev/null >"$SCRATCH/boot.log" 2>&1
) &
container=$!
for _ in $(seq 300); do
    leader=$(pgrep -P "$container" | head -1 || true)
    [ -n "$leader" ] && [ "$(cat "/proc/$leader/comm" 2>/dev/null)" = systemd ] && break
    sleep 0.1
done
enter() { nsenter -t "$leader" -m -u -i -n -p -C -- "$@"; }
show() { enter systemctl show undertone --value -p "$1" 2>/dev/null || true; }
wait_for() { # SECONDS WHAT COMMAND...
    local seconds=$1 what=$2 begun=$SECONDS
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $((SECONDS - begun)) -gt "$seconds" ]; then
            enter journalctl -u undertone --no-pager 2>/dev/null | tail -40 >&2 || cat "$SCRATCH/boot.log" >&2
            fail "not within $seconds s: $what ($(show ActiveState), $(show StatusText))"
        fi
        sleep 0.3
    done
    pass "$what"
}
# [OPTIONS] PATTERN: as a file, because whoever stops reading a pipe early makes its writer fail.
journalled() {
    enter journalctl -u undertone --no-pager "${@:1:$#-1}" >"$SCRATCH/journal"
    grep -qE "${!#}" "$SCRATCH/journal"
}
active() { [ "$(show ActiveState)" = active ]; }
status() { [[ $(show StatusText) == $1 ]]; }
restarts() { [ "$(show NRestarts)" -ge "$1" ] && active; }

wait_for 90 "the unit became ready" active
wait_for 60 "it listens and has a broker" status 'listening; broker connected*'
[ "$(show User)" = undertone ] || fail "the user"
main=$(show MainPID)
enter grep -E '^(VmRSS|VmLck|VmHWM|VmSwap|Seccomp|NoNewPrivs|CapEff):' "/proc/$main/status" | tr -s '\n\t' '  '; echo
enter grep -q '^Max core file size *0 *0' "/proc/$main/limits" || fail "core dumps are possible"
if enter grep -q '^Max locked memory *unlimited' "/proc/$main/limits"; then
    enter grep -qP '^VmLck:\s+0 kB' "/proc/$main/status" && fail "memory is not locked"
    pass "no core dump, memory is locked"
else
    # A container may not be allowed to lift the limit; then the daemon must not lock, and must run.
    pass "no core dump; memory is not locked, because this container limits that"
fi
enter systemd-analyze security --no-pager --threshold=20 undertone.service | tail -1
journalled -o json '"UNDERTONE_NODE":"undertone".*"PRIORITY":"6"|"PRIORITY":"6".*"UNDERTONE_NODE":"undertone"' ||
    fail "no fields, or no priority, in the journal"
pass "the journal has fields and priorities"

version=$(enter systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
link=/usr/lib/systemd/system/undertone.service.d/backoff.conf
if [ "${version:?}" -ge 254 ]; then
    [ "$(show RestartSteps)" = 8 ] || fail "the pauses between restarts do not grow"
    pass "the pauses between restarts grow"
else
    [ ! -L "$ROOT$link" ] || fail "systemd $version is given $link, which it does not know"
    pass "skipped: that the pauses between restarts grow, which systemd $version cannot do; it is not asked to"
fi

enter systemctl reload undertone || { enter journalctl -u undertone --no-pager | tail -30 >&2; fail "reload"; }
sleep 2
[ "$(show MainPID)" = "$main" ] || fail "a reload ended the daemon"
pass "a reload keeps the daemon"

configuration=$ROOT/etc/undertone/undertone.toml
cp -a "$configuration" "$SCRATCH/good.toml"
echo 'nodes = "typo"' >>"$configuration"
enter systemctl reload undertone 2>/dev/null && fail "a reload with a wrong configuration has status 0"
journalled 'FAIL configuration .*nodes' || fail "the journal does not say what is wrong with the configuration"
journalled 'was not read again' && fail "the daemon was told to read a configuration that is wrong"
cp -a "$SCRATCH/good.toml" "$configuration"
enter systemctl reload undertone || fail "a reload with a configuration that is right again"
[ "$(show MainPID)" = "$main" ] || fail "a reload that was refused ended the daemon"
pass "a reload with a wrong configuration is refused, and the daemon goes on"

# A disk that cannot be written: what root withdraws reaches the daemon through the sandbox all the same, and a
# new start that is asked for over MQTT does not undo it.
chattr +i "$ROOT/var/lib/undertone" || fail "the state folder cannot be made immutable here"
enter undertone consent revoke listening >"$SCRATCH/log" 2>&1 && fail "a withdrawal that was not written has status 0"
grep -q "(process $main) was told" "$SCRATCH/log" || { cat "$SCRATCH/log"; fail "the daemon was not told"; }
wait_for 5 "a withdrawal that cannot be written closes the microphone" status 'listening is withheld*'
sleep 3 # what comes right after a connection may be old, and is refused
starts() { enter journalctl -u undertone --no-pager | grep -c ' as undertone$' || true; }
before=$(starts)
nsenter -t "$leader" -n mosquitto_pub -h 127.0.0.1 -q 1 -t undertone/undertone/command/restart -m PRESS
started_anew() { [ "$(starts)" -gt "$before" ] && status 'listening is withheld; broker connected*'; }
wait_for 30 "a restart over MQTT leaves it closed" started_anew
[ "$(show MainPID)" = "$main" ] && [ "$(show NRestarts)" = 0 ] || fail "systemd had to start it"
chattr -i "$ROOT/var/lib/undertone"
written() { grep -q withheld "$ROOT/var/lib/undertone/consent.json"; }
wait_for 30 "it is written as soon as that is possible" written
enter undertone consent grant listening >/dev/null
wait_for 30 "it listens again" status 'listening; broker connected*'

# Another folder has the name of the daemon's: a withdrawal finds the daemon through the sandbox all the same, and holds when its own
# folder is back.
withdraws_elsewhere() { # WHAT
    # The daemon may have taken the other folder by then; if it has not, the command has to find it.
    enter undertone consent revoke listening >"$SCRATCH/log" 2>&1 || grep -q "(process $main) has another folder" "$SCRATCH/log" ||
        { cat "$SCRATCH/log"; fail "$1: the daemon was not found"; }
    grep -q 'no undertone is running' "$SCRATCH/log" && { cat "$SCRATCH/log"; fail "$1: the daemon is said not to run"; }
    wait_for 5 "$1: a withdrawal closes the microphone" status 'listening is withheld*'
}
holds_at_home() { # WHAT
    sleep 3 # the daemon looks at what it finds
    enter undertone consent show >"$SCRATCH/log" 2>&1 || { cat "$SCRATCH/log"; fail "$1: what holds cannot be shown"; }
    grep -q '^listening *withheld' "$SCRATCH/log" || { cat "$SCRATCH/log"; fail "$1: the withdrawal is lost"; }
    status 'listening is withheld*' || fail "$1: it listens although that was withdrawn"
    enter undertone consent grant listening >/dev/null
    wait_for 30 "$1: the withdrawal holds, until a grant" status 'listening; broker connected*'
}
enter mount -t tmpfs none /var/lib/undertone
withdraws_elsewhere "a disk is mounted over its folder"
enter umount -l /var/lib/undertone # by now the daemon may have taken it
holds_at_home "its own folder is back"
mv "$ROOT/var/lib/undertone" "$ROOT/var/lib/moved"
withdraws_elsewhere "its folder was moved"
rm -rf "$ROOT/var/lib/undertone"
mv "$ROOT/var/lib/moved" "$ROOT/var/lib/undertone"
holds_at_home "the folder was moved back"

# The process as this side sees it.
outer=$(grep -l "^NSpid:.*[[:space:]]$main\$" /proc/[0-9]*/status 2>/dev/null | while read -r file; do
    [ "$(cat "${file%/status}/comm" 2>/dev/null)" = undertone ] && basename "${file%/status}" && break
done || true) # processes come and go
[ -n "$outer" ] || fail "the daemon is not to be found from outside"
python3 tests/support/freeze_thread.py listener --pid "$outer" >/dev/null &
pids+=($!)
wait_for 60 "a listener that hangs was killed by the watchdog, and started again" restarts 1
journalled '[Ww]atchdog timeout' || fail "it was not the watchdog"
kill "${pids[-1]}" 2>/dev/null || true
wait_for 60 "it listens again" status 'listening; broker connected*'

enter systemctl kill -s KILL undertone
wait_for 60 "killed, it was started again" restarts 2
wait_for 60 "it listens again" status 'listening; broker connected*'

# The limits. systemd-nspawn lends old control groups for reading only, and systemd asks at its start what there is.
for controller in "${groups[@]}"; do
    controller=${controller#/sys/fs/cgroup/}
    enter mount -o remount,bind,rw "/sys/fs/cgroup/${controller%%/*}"
done
if [ ${#groups[@]} -gt 0 ]; then
    enter systemctl daemon-reexec
    enter systemctl restart undertone
    wait_for 60 "it listens within its limits" status 'listening; broker connected*'
fi
limit() { # OLD NEW: what stands in these files of the unit's groups
    local group=system.slice/undertone.service
    enter sh -c 'cat "$1" 2>/dev/null || cat "$2" 2>/dev/null' sh "/sys/fs/cgroup/${1%%.*}/$group/$1" "/sys/fs/cgroup/$group/$2" || true
}
beside() { # COMMAND...: among the unit's processes, as a recogniser is
    enter sh -c 'for group in /sys/fs/cgroup/system.slice /sys/fs/cgroup/[mcp]*/system.slice; do
        [ ! -e "$group/undertone.service/cgroup.procs" ] || echo 0 >"$group/undertone.service/cgroup.procs"; done; exec "$@"' sh "$@"
}
if [ -n "$(limit memory.limit_in_bytes memory.max)" ]; then
    [ "$(limit memory.limit_in_bytes memory.max)" = $((224 << 20)) ] || fail "memory is not limited"
    [ "$(limit pids.max pids.max)" = 64 ] || fail "tasks are not limited"
    [[ $(limit cpu.cfs_quota_us cpu.max) == 15000* ]] || fail "the processor is not limited: $(limit cpu.cfs_quota_us cpu.max)"
    pass "the limits of memory, tasks and processor are in force"
    main=$(show MainPID)
    ended=0
    beside tail /dev/zero >/dev/null 2>&1 || ended=$?
    [ "$ended" = 137 ] || fail "what takes all memory ends with $ended, and was to be killed"
    active && [ "$(show MainPID)" = "$main" ] || fail "what takes all memory takes the daemon with it"
    pass "what takes all memory is ended alone"
    for _ in 1 2 3; do beside timeout 15 sh -c 'while :; do :; done' & done
    beside timeout 15 sh -c 'for i in $(seq 100); do sleep 15 & done' >/dev/null 2>&1 &
    sleep 3
    [ "$(enter sh -c 'cat /sys/fs/cgroup/pids/system.slice/undertone.service/pids.current 2>/dev/null || cat /sys/fs/cgroup/system.slice/undertone.service/pids.current')" -ge 60 ] ||
        fail "the tasks are not used up"
    enter systemctl reload undertone || fail "a reload where no task is left"
    sleep 12
    status 'listening; broker connected*' && [ "$(show MainPID)" = "$main" ] || fail "what takes all tasks and the processor takes the daemon's ears: $(show StatusText)"
    pass "what takes all tasks and the processor leaves it listening"
else
    pass "skipped: limits, for which this container has no control groups"
fi

begun=$SECONDS
enter systemctl stop undertone
[ "$(show Result)" = success ] && [ $((SECONDS - begun)) -lt 15 ] || fail "the stop: $(show Result), $((SECONDS - begun)) s"
pass "it stops by itself, with success"

enter sed -i 's/^# node = .*/node = "a b"/' /etc/undertone/undertone.toml
enter systemctl start undertone 2>/dev/null && fail "a wrong configuration was started"
journalled 'allowed are 1 to 64 letters' || fail "the reason is not in the journal"
enter sed -i 's/^node = .*/node = "kitchen"/' /etc/undertone/undertone.toml
wait_for 60 "with the configuration mended it starts by itself" status 'listening; broker connected*'

newer_package "$package" "$ROOT/root/next.deb"
main=$(show MainPID)
enter dpkg --force-confold -i /root/next.deb >"$SCRATCH/log" 2>&1 || { cat "$SCRATCH/log"; fail "upgrade"; }
upgraded() { [ "$(show MainPID)" != "$main" ] && status 'listening; broker connected*'; }
wait_for 60 "an upgrade starts it again, and it listens by the consent that it had" upgraded
running() { enter sh -c 'cat /proc/[0-9]*/comm' >"$SCRATCH/running" 2>/dev/null || true; grep -qx undertone "$SCRATCH/running"; }
running || fail "it is not to be found among what runs"
enter dpkg --purge undertone >"$SCRATCH/log" 2>&1 || { cat "$SCRATCH/log"; fail "purge"; }
running && fail "it runs after a purge"
[ ! -e "$ROOT/var/lib/undertone" ] && [ ! -e "$ROOT/etc/undertone" ] || fail "a purge leaves state or configuration"
pass "a purge stops it, and takes consent and record with it"
