# Sourced by the tests of the package: a clean Debian to install into.
#
# The base is made once (debootstrap, about a minute) and kept in the cache folder; each test lays a
# scratch layer over it, in $ROOT, which goes away with the test.

fail() { printf '%s\n' "FAIL $*" >&2; exit 1; }
pass() { printf '%s\n' "ok   $*"; }

clean_root() {
    [ "$(id -u)" = 0 ] || fail "this needs root: it makes a Debian of its own to install into"
    local suite=${SUITE:-bookworm}
    local base=${XDG_CACHE_HOME:-$HOME/.cache}/undertone/$suite-$(dpkg --print-architecture)
    if [ ! -d "$base" ]; then
        echo "making a clean Debian ($suite) in $base"
        mkdir -p "$(dirname "$base")"
        rm -rf "$base.part"
        local time64=t64 # what libraries are called since time has 64 bits everywhere
        [ "$suite" = bookworm ] && time64=
        debootstrap --variant=minbase --include="systemd,dbus,adduser,libasound2$time64,libssl3$time64,ca-certificates" \
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
    package=$(ls -t dist/undertone_*_"$(dpkg --print-architecture)".deb 2>/dev/null | head -1)
    [ -n "$package" ] || fail "there is no package in dist/: make deb"
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
