#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every message that the programs have is in every catalogue of po/, with the same arguments.
set -u
srcdir=${srcdir:-.}
command -v xgettext >/dev/null && command -v msgmerge >/dev/null || exit 77

dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
status=0

xgettext --keyword=_ --keyword=N_ --from-code=UTF-8 --directory="$srcdir" \
    --files-from="$srcdir/po/POTFILES.in" --output="$dir/all.pot" || exit 99

# A message in a file that POTFILES.in does not name would never be translated.
(cd "$srcdir" && grep -lE '(^|[^A-Za-z_])N?_\("' ./*/*.c ./*/*/*.c | sed 's|^\./||' | grep -v '^tests/' | sort) >"$dir/uses"
grep '\.c$' "$srcdir/po/POTFILES.in" | sort >"$dir/named"
if ! comm -23 "$dir/uses" "$dir/named" >"$dir/lost" || [ -s "$dir/lost" ]; then
    echo "not in po/POTFILES.in: $(tr '\n' ' ' <"$dir/lost")"
    status=1
fi

# xgettext cuts a message at a macro that it does not know (it knows those of <inttypes.h>).
if grep -nE '^(msgid )?".*%"$' "$dir/all.pot"; then
    echo "messages that end in the middle of a conversion"
    status=1
fi

for language in $(grep -v '^#' "$srcdir/po/LINGUAS"); do
    msgmerge --quiet --no-fuzzy-matching "$srcdir/po/$language.po" "$dir/all.pot" -o "$dir/$language.po" || exit 99
    LC_ALL=C msgfmt --check --statistics --output-file=/dev/null "$dir/$language.po" >"$dir/said" 2>&1
    if [ $? != 0 ] || grep -qE 'untranslated|fuzzy' "$dir/said"; then
        echo "po/$language.po: $(cat "$dir/said")"
        msgattrib --untranslated --no-wrap "$dir/$language.po" | sed -n '/^msgid "[^"]/p' | head -n 60
        status=1
    fi
done
exit $status
