# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the tests, gives each a rig and a deadline, and counts."""
import argparse
import contextlib
import importlib
import pathlib
import re
import signal
import sys
import time
import traceback

import harness
import parallel
from newer import Newer
from rig import Rig, find_builddir, requirements

HERE = pathlib.Path(__file__).resolve().parent
RESET_DEADLINE = 120
TAIL = 30
TAILS = ((".serial", 4), (".log", 12))   # by the end of the log's name
NOTEWORTHY = re.compile(r"\S+ \S+ \d+: (error|warning) :")        # among what libvirtd writes


def discover(filters, soak=False):
    """[(name, module, function)] in the order they stand in the files: those that are marked as soak
    tests, or all others."""
    found = []
    for file in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(file.stem)
        functions = [f for n, f in vars(module).items()
                     if n.startswith("test_") and getattr(f, "__module__", None) == file.stem]
        for function in sorted(functions, key=lambda f: f.__code__.co_firstlineno):
            name = f"{file.stem}.{function.__name__}"
            wanted = not filters or any(f in name for f in filters)
            if wanted and getattr(function, "soak", False) == soak:
                found.append((name, module, function))
    return found


@contextlib.contextmanager
def time_limit(seconds):
    def expire(_signum, _frame):
        raise harness.DeadlineExceeded(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class RigKeeper:
    """One rig for as many tests as can share it."""

    def __init__(self, builddir, daemon_command, newer):
        self.builddir = builddir
        self.daemon_command = daemon_command
        self.newer = newer
        self.rig = None
        self.options = None
        self.lengths = {}               # of the logs when the test began

    def get(self, options):
        """A rig made with these options and left clean by the test before."""
        if self.rig and options == self.options:
            try:
                with time_limit(RESET_DEADLINE):
                    self.rig.reset()
                return self.rig
            except Exception as error:                  # pylint: disable=broad-except
                print(f"  # a new rig: the old one could not be reset: {error}", flush=True)
        self.drop()
        self.options, self.lengths = options, {}
        with time_limit(RESET_DEADLINE):
            self.rig = Rig(self.builddir, daemon_command=self.daemon_command, newer=self.newer, **options)
        return self.rig

    def drop(self):
        rig, self.rig = self.rig, None
        if rig:
            rig.close()


def print_tails(rig, lengths):
    """The end of every log, as far as it was written during the test: what a failure is
    understood from. lengths: {(host, name): characters} before it."""
    for host, name in rig.log_files():
        lines = host.log(name)[lengths.get((host, name), 0):].splitlines()
        if name == "libvirtd.log":
            lines = [line for line in lines if NOTEWORTHY.match(line)]
        count = next((n for end, n in TAILS if name.endswith(end)), TAIL)
        if lines:
            print(f"  --- {host.name}: {name}")
            print("\n".join(f"  | {line[:300]}" for line in lines[-count:]))


def run_one(keeper, module, function):
    """Runs one test; its exceptions are the result."""
    rig = keeper.get(getattr(module, "RIG", {}))
    keeper.lengths = {(host, name): len(host.log(name)) for host, name in rig.log_files()}
    with time_limit(getattr(function, "deadline", harness.DEADLINE)):
        function(rig)
    crashed = rig.crashed()
    if crashed:
        raise AssertionError("; ".join(crashed))


def report(keeper, keep_logs, name, outcome, seconds, error):
    if outcome == "skip":
        print(f"skip {name}: {error}")
    else:
        print(f"{outcome} {seconds:.1f}s {name}")
    for line in harness.take_notes():
        print(f"  # {line}")
    if outcome == "FAIL":
        text = "".join(traceback.format_exception(error))
        print("\n".join(f"  {line}" for line in text.rstrip().splitlines()))
    if keeper.rig:
        with contextlib.suppress(OSError):
            if outcome == "FAIL":
                print_tails(keeper.rig, keeper.lengths)
            if keep_logs:
                keeper.rig.keep_logs(pathlib.Path(keep_logs) / name)
    sys.stdout.flush()


def run_all(tests, keeper, keep_logs, counts, frame=contextlib.nullcontext):
    """frame(): what each test and its report happen inside of."""
    missing = requirements()
    for name, module, function in tests:
        began = time.monotonic()
        outcome, error = "ok", None
        with frame():
            try:
                if missing:
                    raise harness.Skip("; ".join(missing))
                run_one(keeper, module, function)
            except harness.Skip as reason:
                outcome, error = "skip", reason
            except Exception as problem:                # pylint: disable=broad-except
                outcome, error = "FAIL", problem
            counts[outcome] += 1
            report(keeper, keep_logs, name, outcome, time.monotonic() - began, error)
            if outcome == "FAIL" or getattr(function, "own_rig", False):
                keeper.drop()


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description="End-to-end tests between two hosts on this machine. Needs root.")
    parser.add_argument("names", nargs="*",
                        help="only tests whose name (test_file.test_function) contains one of these")
    parser.add_argument("--builddir", help="where the programs were built [$BUILD, or the current directory]")
    parser.add_argument("--soak", action="store_true", help="the long tests in place of the others")
    parser.add_argument("--list", action="store_true", help="print the names of the tests and end")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many test files at the same time [1]")
    parser.add_argument("--keep-logs", metavar="DIR", help="copy the logs of every test below this directory")
    parser.add_argument("--daemon", metavar="COMMAND", help="start this instead of the built virtpostcopyd "
                        "(words separated by spaces, paths as seen in a host)")
    parser.add_argument("--newer", metavar="HOSTS=DIR", help="these hosts (a, b or ab) have the newer libvirt and QEMU "
                        "that newer.py has put into DIR")
    return parser.parse_args(argv)


def newer_hosts(text):
    if not text:
        return {}
    letters, _, top = text.partition("=")
    newer = Newer(top)
    print(f"# host {' and '.join(letters)}: {newer.describe().replace(chr(10), ', ')}")
    return dict.fromkeys(letters, newer)


def main(argv):
    options = parse_arguments(argv)
    tests = discover(options.names, options.soak)
    if options.list:
        print("\n".join(name for name, _, _ in tests))
        return 0

    def interrupt(signum, _frame):
        raise harness.Interrupted(signal.Signals(signum).name)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupt)
    builddir, newer = find_builddir(options.builddir), newer_hosts(options.newer)

    def run_group(group, counts, frame=contextlib.nullcontext):
        keeper = RigKeeper(builddir, options.daemon.split() if options.daemon else None, newer)
        try:
            run_all(group, keeper, options.keep_logs, counts, frame)
        finally:
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(signum, signal.SIG_IGN)   # cleaning up takes no second interruption
            keeper.drop()
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(signum, interrupt)

    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    try:
        if options.jobs > 1:
            counts = parallel.run(tests, options.jobs, run_group)
        else:
            run_group(tests, counts)
    except harness.Interrupted as reason:
        print(f"interrupted by {reason}", file=sys.stderr)
        return 130
    print(f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    return 1 if counts["FAIL"] else 0
