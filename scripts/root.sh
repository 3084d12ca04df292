# Sourced by the tests of the package: a clean Debian to install into.
#
# The base is made once (debootstrap, about a minute) and kept in the cache folder; each test lays a
# scratch layer over it, in $ROOT, which goes away with the test.

# ARCH: of the Debian and of the package; another one than this machine's is emulated, which is slow.
HERE=$(dpkg --print-architecture)
ARCH=${ARCH:-$HERE}

fail() { printf '%s\n' "FAIL $*" >&2; exit 1; }
pass() { printf '%s\n' "ok   $*"; }

# Lets the kernel run the programs of another architecture, in a root of their own, too.
emulate() {
    [ "$ARCH" != "$HERE" ] || return 0
    [ "$ARCH" = arm64 ] || fail "only arm64 is emulated, not $ARCH"
    local emulator place=/proc/sys/fs/binfmt_misc
    emulator=$(command -v qemu-aarch64-static) || fail "there is no qemu-aarch64-static: scripts/setup.sh cross-arm64"
    [ -e $place/register ] || mount -t binfmt_misc none $place || fail "this kernel runs no programs of others (binfmt_misc)"
    grep -qs enabled $place/qemu-aarch64 || printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$emulator:F" >$place/register
}

clean_root() {
    [ "$(id -u)" = 0 ] || fail "this needs root: it makes a Debian of its own to install into"
    local suite=${SUITE:-bookworm}
    local base=${XDG_CACHE_HOME:-$HOME/.cache}/undertone/$suite-$ARCH
    emulate
    if [ ! -d "$base" ]; then
        echo "making a clean Debian ($suite) in $base"
        mkdir -p "$(dirname "$base")"
        rm -rf "$base.part"
        local time64=t64 # what libraries are called since time has 64 bits everywhere
        [ "$suite" = bookworm ] && time64=
        debootstrap --arch="$ARCH" --variant=minbase --include="systemd,dbus,adduser,libasound2$time64,libssl3$time64,ca-certificates" \
            "$suite" "$base.part" >"$base.log" 2>&1 || fail "debootstrap; see $base.log"
        mv "$base.part" "$base"
    fi
    SCRATCH=$(mktemp -d)
    ROOT=$SCRATCH/root
    mkdir -p "$ROOT" "$SCRATCH/upper" "$SCRATCH/work"
    # Where layers cannot be mounted (some containers), a copy.
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" "$ROOT" 2>/dev/null ||
        cp -a "$base/." "$ROOT"
}

remove_root() {
    umount -q "$ROOT/proc" "$ROOT/dev" 2>/dev/null || true
    umount -q "$ROOT" 2>/dev/null || umount -l "$ROOT" 2>/dev/null || true
    rm -rf --one-file-system "$SCRATCH"
}

# In the root, with the bare minimum of an environment.
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive chroot "$ROOT" "$@"; }

newest_package() {
    local package
    package=$(ls -t dist/undertone_*_"$ARCH".deb 2>/dev/null | head -1)
    [ -n "$package" ] || fail "there is no package in dist/: make deb ARCH=$ARCH"
    printf '%s' "$package"
}

# The same package as a later version, with more in its configuration.
newer_package() { # PACKAGE PLACE
    local next=$SCRATCH/next
    dpkg-deb -R "$1" "$next"
    sed -i 's/^Version: .*/Version: 99.0-1/' "$next/DEBIAN/control"
    echo "# a newer version says more here" >>"$next/etc/undertone/undertone.toml"
    (cd "$next" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Zgzip -z1 -b "$next" "$2" >/dev/null
}
