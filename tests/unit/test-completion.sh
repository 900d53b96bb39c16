#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What bash offers behind "virt-postcopy". Run by make check from the top of the build tree.
set -u

srcdir=${srcdir:-.}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failures=0

# The program that was built, and a virsh that knows three domains of one host alone.
ln -s "$PWD/virt-postcopy" "$tmp/virt-postcopy"
cat >"$tmp/virsh" <<'END'
#!/bin/sh
case "$*" in
"-q -r -c postcopy:///system list --name") printf 'web01\nweb02\ndb 1\n\n' ;;
"-q -r -c postcopy+tls://hostb/system list --name") printf 'far\n\n' ;;
*) exit 1 ;;
esac
END
chmod +x "$tmp/virsh"
PATH=$tmp:$PATH
unset LIBVIRT_DEFAULT_URI

# shellcheck disable=SC1091
. "$srcdir/cli/virt-postcopy.bash"

# offers WORDS LINE: LINE, whose end is where the cursor is, offers these words
offers() {
    local want=$1 got
    COMP_LINE=$2
    COMP_POINT=${#COMP_LINE}
    # bash tears words apart at ":" and "=", and has an empty one behind a space
    read -ra COMP_WORDS <<<"$(sed 's/[:=]/ & /g' <<<"$COMP_LINE")"
    [[ $COMP_LINE == *[[:space:]] ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _virt_postcopy virt-postcopy
    got=$(printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' ' ')
    if [ "${got% }" != "$want" ]; then
        echo "FAIL: \"$2\" offers \"${got% }\", not \"$want\""
        failures=$((failures + 1))
    else
        echo "ok: $2 → $want"
    fi
}

all=$(virt-postcopy --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | sort | tr '\n' ' ')
if [[ $all != *"list "* || $all != *"top "* ]]; then
    echo "FAIL: the commands in --help are \"$all\""
    failures=$((failures + 1))
fi

offers "${all% }" "virt-postcopy "
offers "list" "virt-postcopy li"
offers "" "virt-postcopy nothing-begins-so"
offers "--connect --help --version" "virt-postcopy --"
offers "--completed --connect --help --json --version" "virt-postcopy list "
offers "--completed --connect" "virt-postcopy list --co"
offers "--batch" "virt-postcopy top --b"
offers "--textfile" "virt-postcopy -c postcopy+tls://hostb/system export --te"
offers "postcopy+ssh:// postcopy+tls:// postcopy:///system" "virt-postcopy -c "
offers "postcopy+tls://" "virt-postcopy list --connect postcopy+t"
offers "list" "virt-postcopy -c postcopy:///system li"
offers "" "virt-postcopy top --delay "
: >"$tmp/metrics.prom"
offers "$tmp/metrics.prom" "virt-postcopy export --textfile $tmp/metr"
offers "db\\ 1 web01 web02" "virt-postcopy check --domain "
offers "web01 web02" "virt-postcopy check --domain we"
offers "source" "virt-postcopy check --as s"
offers "destination" "virt-postcopy check --as=d"
offers "far" "virt-postcopy -c postcopy+tls://hostb/system check --domain "
offers "far" "virt-postcopy --connect=postcopy+tls://hostb/system check --domain "

[ "$failures" -eq 0 ]
