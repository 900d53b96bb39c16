#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables of docs/failures.md: read, and written by trying every row of them.

    tests/e2e/failures.py                      # tries everything and says what differs from the file
    tests/e2e/failures.py --write docs/failures.md
    tests/e2e/failures.py --write docs/failures.md --add        # other outcomes beside those that stand there

Where it depends on who is first, a cell has several outcomes: "stays or arrives".
"""
import argparse
import pathlib
import sys
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import harness                                          # noqa: E402  pylint: disable=wrong-import-position
from course import MOMENTS                              # noqa: E402  pylint: disable=wrong-import-position
from losses import LOST, PROCESSES, lose                      # noqa: E402  pylint: disable=wrong-import-position
from rig import Rig, find_builddir                      # noqa: E402  pylint: disable=wrong-import-position

FILE = pathlib.Path(__file__).resolve().parents[2] / "docs/failures.md"
DAEMON_CONF = {"keepalive_interval": 1, "keepalive_count": 3, "reconnect_timeout": 30, "auto_recover": 1}

# (what a cell holds, heading of the table)
OR, UNTRIED = " or ", "?"
TABLES = (("where", "What becomes of the guest"), ("virsh", "What virsh says of the migration"))


def mark(heading, which):
    return f"<!-- {which} of the table: {heading} -->"


def table_text(outcomes, field):
    """outcomes: {(moment, process): Outcome or {field: text}}."""
    rows = [["killed", *MOMENTS], ["---"] * (len(MOMENTS) + 1)]
    rows += [[process, *(outcomes.get((moment, process), {}).get(field, UNTRIED) for moment in MOMENTS)]
             for process in PROCESSES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def between(text, heading):
    """What stands before, in and after a table."""
    before, begin, rest = text.partition(mark(heading, "begin") + "\n")
    inside, end, after = rest.partition("\n" + mark(heading, "end"))
    if not end:
        raise ValueError(f"no table '{heading}'")
    return before + begin, inside, end + after


def read(file=FILE):
    """{(moment, process): {"where": text, "virsh": text}} as the file has it."""
    found = {}
    for field, heading in TABLES:
        lines = between(file.read_text(), heading)[1].splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        for process, *cells in rows[2:]:
            for moment, cell in zip(rows[0][1:], cells):
                found.setdefault((moment, process), {})[field] = cell
    return found


def write(file, outcomes):
    text = file.read_text()
    for field, heading in TABLES:
        before, _, after = between(text, heading)
        text = before + table_text(outcomes, field) + after
    file.write_text(text)


def as_expected(expected, outcome):
    """Each field is one of those that the file has."""
    return all(text in expected[field].split(OR) for field, text in outcome.items())


def merged(expected, outcome):
    return {field: expected[field] if text in expected[field].split(OR) else expected[field] + OR + text
            for field, text in outcome.items()}


def fields(outcome):
    return {field: getattr(outcome, field) for field, _ in TABLES}


def try_one(rig, moment, process):
    """The cell as it is; raises if it may not be so whatever the file says."""
    return fields(lose(rig, moment, process))


def try_all(builddir, words=()):
    """{(moment, process): fields}, None in the place of what failed."""
    outcomes, rig = {}, None
    for process in PROCESSES:
        for moment in MOMENTS:
            if words and not any(word in f"{moment}/{process}" for word in words):
                continue
            try:
                if rig:
                    rig.reset()
                else:
                    rig = Rig(builddir, daemon_conf=DAEMON_CONF)
                outcomes[moment, process] = try_one(rig, moment, process)
                print(f"{moment}, {process}: {outcomes[moment, process]}")
                if outcomes[moment, process]["where"] == LOST:
                    rig.close()
                    rig = None
            except Exception as error:                  # pylint: disable=broad-except
                outcomes[moment, process] = None
                print(f"{moment}, {process}: FAILED: {error}")
                traceback.print_exc(limit=-4, file=sys.stdout)
                if rig:
                    rig.keep_logs(f"/tmp/failures/{process}-{moment}".replace(" ", "-"))
                    rig.close()
                rig = None
            for line in harness.take_notes():
                print(f"  # {line}", flush=True)
    if rig:
        rig.close()
    return outcomes


def main(argv):
    parser = argparse.ArgumentParser(description="Tries every row of docs/failures.md. Needs root, and ten minutes.")
    parser.add_argument("words", nargs="*", help="only those whose MOMENT/PROCESS contains one of these")
    parser.add_argument("--builddir", help="where the programs were built [$BUILD, or the current directory]")
    parser.add_argument("--write", metavar="FILE", type=pathlib.Path, help="write the tables into this file")
    parser.add_argument("--add", action="store_true", help="keep what stands there, as another outcome")
    options = parser.parse_args(argv[1:])
    outcomes = try_all(find_builddir(options.builddir), options.words)
    failed = None in outcomes.values()
    outcomes = {key: outcome for key, outcome in outcomes.items() if outcome}
    if options.write:
        before = read(options.write)
        if options.add:
            outcomes = {key: merged(before.get(key, outcome), outcome) for key, outcome in outcomes.items()}
        write(options.write, {**before, **outcomes})
        return failed
    expected = read()
    differ = [key for key, outcome in outcomes.items() if not as_expected(expected[key], outcome)]
    for key in differ:
        print(f"{' / '.join(key)}: {outcomes[key]}, and in the file {expected[key]}")
    return failed or bool(differ)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
