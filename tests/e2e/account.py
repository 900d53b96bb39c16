# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the demonstration tells what happened: headings, a time line of two hosts, a table of
results. Eighty to a hundred columns wide; bold headings on a terminal only."""
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import interruption
from guest import stalls
from host import ENVIRONMENT

# virsh's words, where they are not the names of libvirt's constants
LIFECYCLE_WORDS = {"postcopy": "Post-copy", "postcopy_failed": "Post-copy Error", "ioerror": "I/O Error",
                   "api_error": "API error", "from_snapshot": "Snapshot"}
CHANGES = 20000                         # a second, by the guest
TIME = 9                                # columns of a time
TAIL, TAIL_COLUMNS = 12, 300            # of a log
REASON = 1000                           # characters at most


class DemoFailed(Exception):
    """What was to be shown is not so; the text is the sentence to end with."""


def words(event):
    """A recorder's event as `virsh event` and `virsh qemu-monitor-event` name it, None if the
    time line is better without."""
    kind, name = event["event"], event.get("type")
    if kind == "lifecycle":
        detail = event["detail"]
        return f"lifecycle {name.capitalize()} {LIFECYCLE_WORDS.get(detail, detail.capitalize())}"
    if kind == "migration-iteration":
        return f"migration-iteration {event['iteration']}"
    if kind == "qmp":
        return monitor_words(name, event["details"])
    return kind if kind == "job-completed" else None


def monitor_words(name, details):
    """The same for an event of QEMU's; its passes are told by migration-iteration already."""
    if name in ("STOP", "RESUME"):
        return name
    return f"MIGRATION {details['status']}" if name == "MIGRATION" else None


def first_line(argv):
    """What a program says of its version."""
    with interruption.deferred():
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def data_size(count):
    """A number of bytes for a reader."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def duration(seconds):
    """A time for a reader: milliseconds below a second."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def rate_words(rate):
    """1 Gbit/s for tc's 1gbit."""
    return re.sub(r"([kmg])bit", lambda m: f" {m[1] if m[1] == 'k' else m[1].upper()}bit/s", rate)


def guest_words(options):
    """What the guest does."""
    return (f"{options.memory} MiB, filled with contents that only the guest can predict; it changes {options.hot} "
            f"MiB of it at random, {CHANGES} times a second, and checks each time that the page holds what it last "
            "wrote there")


def stall_words(guest, place, before):
    """How long the guest was held up since that report, by its own clock."""
    reports = [r for r in guest.reports(place) if r["report"] > before["report"]]
    held = stalls(before, reports[-1])
    longest = max(r["last_max_us"] for r in reports)
    return (f"{duration(longest / 1e6)}, by the guest's own clock: {held['count']} times it waited for a page, half of "
            f"them not longer than {duration(held['p50_us'] / 1e6)}")


def verdict_words(verdict, place):
    return (f"{verdict['bad']} wrong pages: all {verdict['pages']} pages verified on {place.name}, "
            f"{verdict['touches']} touches in its life, each one checked")


class Account:
    """Writes to out, piece by piece."""

    def __init__(self, out=sys.stdout):
        self.out = out
        self.terminal = out.isatty()
        columns = shutil.get_terminal_size((80, 24)).columns if self.terminal else 80
        self.width = min(max(columns, 80), 100)
        self._blank = True              # the last line written is empty

    def _write(self, text=""):
        self._blank = not text
        print(text, file=self.out, flush=True)

    def _gap(self):
        """An empty line, unless there is one already."""
        if not self._blank:
            self._write()

    def _fill(self, text, first="", rest=""):
        return textwrap.fill(" ".join(str(text).split()), self.width, initial_indent=first,
                             subsequent_indent=rest, break_on_hyphens=False, break_long_words=False)

    def heading(self, text):
        bold = self.terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._gap()
        self._write(f"\033[1m== {text}\033[0m" if bold else f"== {text}")
        self._write()

    def say(self, text):
        """A paragraph."""
        self._gap()
        self._write(self._fill(text))

    def fail(self, reason):
        """The sentence that a failed demonstration ends with."""
        self._gap()
        text = textwrap.shorten(f"demo: {reason}", REASON, placeholder="...")
        print(self._fill(text), file=sys.stderr, flush=True)

    def tails(self, logs):
        """The ends of logs, {name: lines}, for the reason of a failure."""
        for name, lines in logs.items():
            lines = [line for line in lines if line.strip()]
            if lines:
                self._gap()
                self._write(f"--- the end of {name}")
                self._write("\n".join(f"| {line[:TAIL_COLUMNS]}" for line in lines[-TAIL:]))

    def step(self, text):
        """One thing that is being done: a line of a list."""
        self._write(self._fill(text, "  - ", "    "))

    def command(self, argv):
        """A command line as one would type it, broken where a shell may be told to."""
        lines, line = [], "    $"
        for word in map(shlex.quote, map(str, argv)):
            if len(line) + len(word) + 3 > self.width:
                lines.append(line + " \\")
                line = "         "
            line += " " + word
        self._gap()
        self._write("\n".join([*lines, line]))

    def timeline(self, titles, entries, begin):
        """entries: (seconds since the epoch, 0 for the left column or 1 for the right, text)."""
        side = (self.width - TIME - 4) // 2
        self._write(f"{'seconds':>{TIME}}  {titles[0]:<{side}}  {titles[1]}")
        self._write(f"{'-' * (TIME - 2):>{TIME}}  {'-' * side}  {'-' * side}")
        for at, column, text in sorted(entries, key=lambda entry: entry[0]):
            indent = " " * (side + 2) if column else ""
            self._write(f"{at - begin:{TIME}.3f}  {indent}{text}")

    def table(self, rows):
        """rows: (name, value); a value too long for its line is broken."""
        name_width = max(len(name) for name, _ in rows) + 4
        for name, value in rows:
            self._write(self._fill(value, f"  {name:<{name_width}}", " " * (name_width + 2)))
