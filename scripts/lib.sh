# SPDX-License-Identifier: LGPL-2.1-or-later
# What scripts/demo, scripts/check and scripts/bench share: packages, builds, words.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build_root=${BUILD_ROOT:-$top/build}
python=/usr/bin/python3

say() {
    printf '%s\n' "== $*"
}

die() {
    printf '%s\n' "$0: $*" >&2
    exit 1
}

# The names in packages.txt, without the remarks.
packages() {
    sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$top/scripts/packages.txt"
}

missing_packages() {
    local name
    for name in $(packages); do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            printf '%s\n' "$name"
    done
}

# Debian 12 or what is near it: other systems bring the packages themselves.
install_packages() {
    local missing
    command -v dpkg-query >/dev/null 2>&1 || return 0
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] ||
        die "these packages are missing, and only root can install them:" $missing
    say "installing" $missing
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update >/dev/null || die "apt-get update failed"
    # shellcheck disable=SC2086
    apt-get -q install -y --no-install-recommends $missing >"$top/.install.log" 2>&1 || {
        tail -n 20 "$top/.install.log" >&2
        die "installing packages failed"
    }
    rm -f "$top/.install.log"
}

# configure_in DIR [VAR=VALUE...] [--option...]: a build directory that is configured once.
configure_in() {
    local dir=$1
    shift
    if [ ! -x "$top/configure" ] || [ "$top/configure.ac" -nt "$top/configure" ]; then
        (cd "$top" && ./bootstrap >"$top/.bootstrap.log" 2>&1) || {
            tail -n 20 "$top/.bootstrap.log" >&2
            die "./bootstrap failed"
        }
        rm -f "$top/.bootstrap.log"
    fi
    mkdir -p "$dir"
    [ -f "$dir/Makefile" ] && return 0
    (cd "$dir" && "$top/configure" --prefix=/usr --sysconfdir=/etc --localstatedir=/var \
        --runstatedir=/run --libexecdir=/usr/libexec "$@" >configure.out 2>&1) || {
        tail -n 20 "$dir/configure.out" >&2
        die "configure failed; see $dir/config.log"
    }
}

# make_in DIR TARGET...: quiet unless it fails.
make_in() {
    local dir=$1
    shift
    if ! make -C "$dir" -j"$(nproc)" "$@" >"$dir/make.out" 2>&1; then
        tail -n 40 "$dir/make.out" >&2
        return 1
    fi
}
