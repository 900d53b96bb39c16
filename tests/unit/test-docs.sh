#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The manual pages and the code name the same things: every key of virtpostcopyd.conf is in
# virtpostcopyd.conf(5) and in the sample file, every option is in the page of its program, and
# neither of them has one that the code does not have.
# Run by make check from the top of the build tree.
set -eu

srcdir=${srcdir:-.}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failures=0

# same WHAT A B: the lines of file A are those of file B
same() {
    sort -u "$2" > "$tmp/a"
    sort -u "$3" > "$tmp/b"
    if [ ! -s "$tmp/a" ]; then
        echo "FAIL: $1: nothing found in the code; has its form changed?"
        failures=$((failures + 1))
    elif ! cmp -s "$tmp/a" "$tmp/b"; then
        echo "FAIL: $1 (< code, > document):"
        diff "$tmp/a" "$tmp/b" || :
        failures=$((failures + 1))
    else
        echo "ok: $1: $(wc -l < "$tmp/a")"
    fi
}

# options_of_program "PROGRAM [COMMAND]": the long options that --help shows
options_of_program() {
    # shellcheck disable=SC2086
    LC_ALL=C $1 --help | sed -n 's/^ *\(-[a-zA-Z0-9], *\)\{0,1\}\(--[a-z][a-z-]*\).*/\2/p'
}

# options_of_page PAGE: the first line after each .TP of its section OPTIONS, without the roff
options_of_page() {
    sed -n '/^\.SH OPTIONS/,/^\.SH [^O]/p' "$1" | sed -n '/^\.TP/{n;p;}' |
        sed 's/\\-/-/g; s/\\f.//g' | grep -o -e '--[a-z][a-z-]*'
}

# options_of_command PAGE COMMAND: the same of a command's .SS
options_of_command() {
    sed -n "/^\.SS $2\$/,/^\.S[SH] /{/^\.TP/{n;p;}}" "$1" |
        sed 's/\\-/-/g; s/\\f.//g' | grep -o -e '--[a-z][a-z-]*'
}

sed -n 's/^    { "\([a-z0-9_]*\)", SETTING_.*/\1/p' "$srcdir/driver/settings_table.c" > "$tmp/keys"

sed -n '/^\.SH LOCAL SOCKETS/,$p' docs/virtpostcopyd.conf.5 | sed -n '/^\.TP/{n;p;}' |
    sed 's/^\.BR* //; s/", "//g' | tr -s ' ' '\n' > "$tmp/keys-page"
same "keys in virtpostcopyd.conf(5)" "$tmp/keys" "$tmp/keys-page"

sed -n 's/^#\([a-z_]*\) = .*/\1/p' driver/virtpostcopyd.conf > "$tmp/keys-sample"
same "keys in the sample file" "$tmp/keys" "$tmp/keys-sample"

for program in virtpostcopyd virt-postcopy-helper; do
    options_of_program "./$program" > "$tmp/options"
    options_of_page "docs/$program.8" > "$tmp/options-page"
    same "options in $program(8)" "$tmp/options" "$tmp/options-page"
done

# tests/support/migrate-table-dump --markdown prints what docs/flags.md has to have
tests/support/migrate-table-dump --markdown > "$tmp/flags"
grep '^|' "$srcdir/docs/flags.md" > "$tmp/flags-page"
same "flags and parameters in docs/flags.md" "$tmp/flags" "$tmp/flags-page"

options_of_program ./virt-postcopy > "$tmp/common"
options_of_page docs/virt-postcopy.1 > "$tmp/common-page"
same "common options in virt-postcopy(1)" "$tmp/common" "$tmp/common-page"

LC_ALL=C ./virt-postcopy --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' > "$tmp/commands"
sed -n '/^\.SH COMMANDS/,/^\.SH [^C]/s/^\.SS \([a-z]*\)$/\1/p' docs/virt-postcopy.1 > "$tmp/commands-page"
same "commands in virt-postcopy(1)" "$tmp/commands" "$tmp/commands-page"

while read -r command; do
    options_of_program "./virt-postcopy $command" | grep -vxF -f "$tmp/common" > "$tmp/options"
    options_of_command docs/virt-postcopy.1 "$command" > "$tmp/options-page"
    same "options of $command in virt-postcopy(1)" "$tmp/options" "$tmp/options-page"
done < "$tmp/commands"

sed -n 's/^    { "\(libvirt_[a-z_]*\)", .*/\1/p; s/.*name\[\] = "\(libvirt_[a-z_]*\)";/\1/p
    s/.*append_head(out, "\(libvirt_[a-z_]*\)".*/\1/p' "$srcdir/cli/metrics.c" > "$tmp/metrics"
sed -n '/^\.SH METRICS/,/^\.SH [^M]/p' docs/virt-postcopy.1 | grep -o 'libvirt_[a-z_]*' > "$tmp/metrics-page"
same "metrics in virt-postcopy(1)" "$tmp/metrics" "$tmp/metrics-page"

sed -n 's/^    { "\(postcopy\.[a-z0-9_.]*\)", field_.*/\1/p' "$srcdir/driver/job_params.c" > "$tmp/fields"
sed -n '/^\.SH FIELDS/,/^\.SH [^F]/{/^\.T[PQ]/{n;s/^\.B //p;}}' docs/virt-postcopy-stats.7 > "$tmp/fields-page"
same "fields in virt-postcopy-stats(7)" "$tmp/fields" "$tmp/fields-page"

sed -n 's/^    { "\(POSTCOPY_[A-Z_]*\)", "\([a-z -]*\)" },$/\1 \2/p' "$srcdir/driver/monitor_event.c" |
    while read -r event fields; do
        # shellcheck disable=SC2086 # a word for each field
        printf "$event %s\n" $fields
    done > "$tmp/events"
sed -n '/^\.SH EVENTS/,/^\.SH [^E]/p' docs/virt-postcopy-events.7 | sed 's/\\-/-/g' |
    awk '/^\.SS /{ event = $2 } tp && /^\.B /{ print event, $2 } { tp = /^\.TP/ }' > "$tmp/events-page"
same "fields of events in virt-postcopy-events(7)" "$tmp/events" "$tmp/events-page"

./virt-postcopy check --list-ids | sed 's/ .*//' > "$tmp/findings"
sed -n '/^\.SH FINDINGS/,/^\.SH [^F]/p' docs/virt-postcopy.1 | sed -n 's/^\.BR \([a-z\-]*\).*/\1/p' |
    sed 's/\\-/-/g' > "$tmp/findings-page"
same "findings of check in virt-postcopy(1)" "$tmp/findings" "$tmp/findings-page"

grep -o 'postcopy_client_[a-z_]*(' "$srcdir/client/postcopy-client.h" | tr -d '(' | sort -u > "$tmp/functions"
sed -n 's/^ *\(postcopy_client_[a-z_]*\);$/\1/p' "$srcdir/client/libpostcopy-client.map" > "$tmp/functions-map"
same "functions in libpostcopy-client.map" "$tmp/functions" "$tmp/functions-map"
sed -n '/^\.SH FUNCTIONS/,/^\.SH [^F]/s/^\.BR \(postcopy_client_[a-z_]*\) ()$/\1/p' \
    docs/libpostcopy-client.3 > "$tmp/functions-page"
same "functions in libpostcopy-client(3)" "$tmp/functions" "$tmp/functions-page"

sed -n 's/^    \[HANDOVER_\([A-Z_]*\)\] = .*/\1/p' "$srcdir/client/handover.c" > "$tmp/messages"
sed -n '/^| Type |/,/^$/s/^| [0-9][^|]*| \([^|]*\) |.*/\1/p' "$srcdir/docs/handover.md" | tr -s ', ' '\n' |
    grep . > "$tmp/messages-page"
same "messages in docs/handover.md" "$tmp/messages" "$tmp/messages-page"

sed -n '/^```c$/,/^```$/{/^```/d;p;}' "$srcdir/docs/handover.md" > "$tmp/example"
if ! diff "$srcdir/client/example.c" "$tmp/example"; then
    echo "FAIL: the program in docs/handover.md is not client/example.c"
    failures=$((failures + 1))
fi

# every test that docs/engine.md names, of three words or more
grep -o '`[a-z0-9]*\(_[a-z0-9]*\)\{2,\}`' "$srcdir/docs/engine.md" | tr -d '`' | sort -u > "$tmp/shown"
cat "$srcdir"/tests/unit/test-*.c "$srcdir"/tests/e2e/test_*.py |
    sed -n 's/.*cmocka_unit_test[a-z_]*(\([a-z0-9_]*\).*/\1/p; s/^def \(test_[a-z0-9_]*\)(.*/\1/p' |
    grep -xF -f "$tmp/shown" > "$tmp/tests"
same "tests in docs/engine.md" "$tmp/tests" "$tmp/shown"

if grep -n '@[a-zA-Z]*@' docs/*.[13578] driver/virtpostcopyd.conf driver/*.service driver/*.socket; then
    echo "FAIL: a name was not replaced"
    failures=$((failures + 1))
fi

[ "$failures" -eq 0 ]
