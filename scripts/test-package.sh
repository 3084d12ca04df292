#!/usr/bin/env bash
# The package in a clean Debian: install, run, upgrade, remove, purge. `make test-deb` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/root.sh

package=$(newest_package)
lintian --fail-on error "$package" || fail "lintian"
pass "lintian has no error about $package"

clean_root
trap remove_root EXIT
mount -t proc proc "$ROOT/proc"
mount --bind /dev "$ROOT/dev"
files() { find "$ROOT" -xdev \( -path "$ROOT/var/lib/dpkg" -o -path "$ROOT/var/lib/apt" -o -path "$ROOT/var/cache" -o -path "$ROOT/var/log" \
    -o -path "$ROOT/tmp" -o -path "$ROOT/root" -o -path "$ROOT/proc" -o -path "$ROOT/dev" -o -path "$ROOT/run/adduser" \) -prune -o -print |
    grep -v -e '/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-\?$' -e '/etc/.pwd.lock' | sort; }
install() { inside apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-confold "$1"; }
files >"$SCRATCH/before"
mkdir "$SCRATCH/accounts"
cp "$ROOT"/etc/{passwd,group,shadow,gshadow} "$SCRATCH/accounts/"

cp "$package" "$ROOT/root/undertone.deb"
install /root/undertone.deb >"$SCRATCH/log" 2>&1 || { cat "$SCRATCH/log"; fail "install"; }
grep -q "does not listen yet" "$SCRATCH/log" || fail "the installation says nothing"
inside id undertone | grep -q '(audio)' || fail "the user is not in group audio"
[ "$(stat -c '%U %a' "$ROOT/var/lib/undertone" 2>/dev/null | sed "s/^UNKNOWN\|^[^ ]*/$(stat -c %u "$ROOT/var/lib/undertone")/")" \
    = "$(inside id -u undertone) 700" ] || fail "the state directory's owner or mode"
[ ! -e "$ROOT/etc/systemd/system/multi-user.target.wants/undertone.service" ] || fail "it would listen unasked"
for file in /usr/lib/undertone/ONNXRUNTIME-LICENSE.txt /usr/share/man/man1/undertone-run.1.gz /usr/share/man/man5/undertone.toml.5.gz \
    /usr/share/bash-completion/completions/undertone /usr/share/zsh/vendor-completions/_undertone \
    /usr/share/fish/vendor_completions.d/undertone.fish /usr/share/doc/undertone/copyright \
    /usr/share/doc/undertone/README.md /usr/share/doc/undertone/docs/mqtt.md /usr/share/doc/undertone/docs/pictures/room.png; do
    [ -s "$ROOT$file" ] || fail "no $file"
done
for text in '^symphonia-core [0-9]' 'Mozilla Public License Version 2.0' '^rumqttc [0-9]'; do
    grep -q "$text" "$ROOT/usr/share/doc/undertone/CRATES.txt" || fail "CRATES.txt names no $text"
done
pass "installed; it does not listen unasked; user and state directory are there"

inside undertone --version | tee "$SCRATCH/version"
if [ -n "$(scripts/commit.sh)" ]; then
    grep -qE '^commit: +[0-9a-f]{12}' "$SCRATCH/version" || fail "the commit is not named"
else
    pass "skipped: that the commit is named, which needs a repository"
fi
grep -q '^model: .*/usr/share/undertone/undertone.onnx' "$SCRATCH/version" || fail "the model is not found"
grep -q '^onnxruntime: .*/usr/lib/undertone/' "$SCRATCH/version" || fail "the library is not found"
inside undertone check --offline --config /etc/undertone/undertone.toml || fail "check --offline"
# As README and docs/install.md say it: nothing but what the service may read.
inside setpriv --reuid undertone --regid undertone --init-groups undertone check || fail "check as its own user"
# Root's check has the service's eyes: what only root may read is found.
cp "$ROOT/etc/undertone/undertone.toml" "$SCRATCH/toml"
printf 'no certificate\n' >"$ROOT/root/secret.pem"
chmod 700 "$ROOT/root"
printf '[mqtt]\nbroker = "mqtts://127.0.0.1"\nca_file = "/root/secret.pem"\n' >"$ROOT/etc/undertone/undertone.toml"
inside undertone check --offline >"$SCRATCH/check" 2>&1 && { cat "$SCRATCH/check"; fail "root's check is no service's"; }
grep -q 'looked at as the user undertone' "$SCRATCH/check" && grep -q 'secret.pem.*Permission denied' "$SCRATCH/check" ||
    { cat "$SCRATCH/check"; fail "root's check has root's eyes"; }
inside undertone check --offline --as-root >"$SCRATCH/check" 2>&1 || true
grep -q 'secret.pem.*no certificate in it' "$SCRATCH/check" || { cat "$SCRATCH/check"; fail "--as-root has not root's eyes"; }
cp "$SCRATCH/toml" "$ROOT/etc/undertone/undertone.toml"
rm "$ROOT/root/secret.pem"
# A package that lost its library is installed again, not built.
mv "$ROOT/usr/lib/undertone" "$ROOT/usr/lib/undertone.away"
inside undertone check --offline >"$SCRATCH/check" 2>&1 && fail "there is no library, and check says yes"
grep -q 'apt install --reinstall' "$SCRATCH/check" || { cat "$SCRATCH/check"; fail "the mend is none for a package"; }
mv "$ROOT/usr/lib/undertone.away" "$ROOT/usr/lib/undertone"
inside undertone demo --speed 100 >"$SCRATCH/demo" || fail "demo"
grep -q 'segments of speech' "$SCRATCH/demo" || fail "the demo hears nothing"
inside setpriv --reuid undertone --regid undertone --init-groups timeout --preserve-status -s TERM 6 undertone run \
    >"$SCRATCH/run" 2>&1 || { cat "$SCRATCH/run"; fail "the daemon does not run, or does not end well"; }
grep -q 'MQTT: connected' "$SCRATCH/run" || { cat "$SCRATCH/run"; fail "the daemon has no broker"; }
pass "it runs as its own user, and ends with 0"

sed -i 's/^# node = .*/node = "kitchen"/' "$ROOT/etc/undertone/undertone.toml"
inside setpriv --reuid undertone --regid undertone --init-groups sh -c 'echo kept >/var/lib/undertone/kept'
inside undertone consent grant listening >/dev/null || fail "consent cannot be granted"
consented() { inside undertone consent show >"$SCRATCH/consent" && grep -q '^listening *granted' "$SCRATCH/consent"; }
consented || fail "consent was granted, and is not"
newer_package "$package" "$ROOT/root/next.deb"
install /root/next.deb >"$SCRATCH/log" 2>&1 || { cat "$SCRATCH/log"; fail "upgrade"; }
inside dpkg-query -W undertone | grep -q 99.0 || fail "not upgraded"
grep -qi 'already a member\|^warn' "$SCRATCH/log" && { cat "$SCRATCH/log"; fail "the upgrade warns of nothing"; }
grep -q '^node = "kitchen"' "$ROOT/etc/undertone/undertone.toml" || fail "the upgrade lost the configuration"
grep -q kept "$ROOT/var/lib/undertone/kept" || fail "the upgrade lost the state"
consented || { cat "$SCRATCH/consent"; fail "the upgrade lost consent"; }
inside setpriv --reuid undertone --regid undertone --init-groups undertone ledger verify >"$SCRATCH/log" 2>&1 ||
    { cat "$SCRATCH/log"; fail "the upgrade broke the record, or its owner"; }
pass "an upgrade keeps configuration, consent and record"

inside apt-get remove -y -q undertone >"$SCRATCH/log" 2>&1 || { cat "$SCRATCH/log"; fail "remove"; }
[ ! -e "$ROOT/usr/bin/undertone" ] && [ -e "$ROOT/etc/undertone/undertone.toml" ] && [ -e "$ROOT/var/lib/undertone/kept" ] ||
    fail "removal must keep configuration and state, and nothing else"
inside apt-get purge -y -q undertone >"$SCRATCH/log" 2>&1 || { cat "$SCRATCH/log"; fail "purge"; }
files >"$SCRATCH/after"
diff "$SCRATCH/before" "$SCRATCH/after" || fail "purge leaves (or takes) these files"
for file in "$SCRATCH"/accounts/*; do
    diff "$file" "$ROOT/etc/${file##*/}" || fail "purge leaves its user or group, or takes more"
done
pass "removal keeps configuration and state; purge leaves nothing"
