#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Post-copies a live guest before the reader's eyes; `demo.py --help` tells the options.

Where hosts can be made: stock virsh between two of them (demo_hosts.py). Where not: two QEMUs
and two helpers on loopback (loopback.py). The exit status is 0 only if everything shown was right.
"""
import argparse
import re
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)        # until there is something to clean up

# pylint: disable=wrong-import-position
import demo_hosts                                       # noqa: E402
import interruption                                     # noqa: E402
import loopback                                         # noqa: E402
from account import Account, DemoFailed                 # noqa: E402
from rig import find_builddir, requirements             # noqa: E402

MEMORY_MIN, MEMORY_MAX = 64, 3072       # MiB; the guest is a 32-bit program
PROGRAMS = ("virt-postcopy-helper", "tests/guest/postcopy-guest.elf")
PROGRAMS_OF = {"hosts": (*PROGRAMS, "virtpostcopyd"), "loopback": (*PROGRAMS, loopback.PAIR)}

INTRODUCTION = """\
This moves a running guest from one host to another in post-copy: after a first pass over its
memory the guest is stopped, goes on at once on the destination, and gets the pages that are
still missing while it runs. Two helper processes carry its memory inside TLS 1.3. The guest checks
that memory all the time, and has the last word."""


def rate(text):
    if text != "none" and not re.fullmatch(r"[1-9]\d*(\.\d+)?[kmg]bit", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: say for instance 1gbit or 200mbit, or none")
    return text


def mebibytes(text):
    if not re.fullmatch(r"\d{1,6}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of MiB")
    return int(text)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="demo", description="Post-copies a live guest between two hosts "
                                     "on this machine and tells what happened.")
    parser.add_argument("--builddir", metavar="DIR", help="where the programs were built [$BUILD, or the current "
                        "directory]")
    parser.add_argument("--mode", choices=("auto", "hosts", "loopback"), default="auto",
                        help="hosts: stock virsh and libvirtd, in namespaces; loopback: two QEMUs and two helpers "
                        "without them; auto: hosts if this machine allows it [%(default)s]")
    parser.add_argument("--memory", metavar="MIB", type=mebibytes, default=256,
                        help=f"the guest's memory, {MEMORY_MIN} to {MEMORY_MAX} MiB [%(default)s]")
    parser.add_argument("--hot", metavar="MIB", type=mebibytes, help="how much of it the guest changes [half of it]")
    parser.add_argument("--rate", type=rate, default="1gbit", help="what the link carries, or none [%(default)s]")
    options = parser.parse_args(argv)
    if not MEMORY_MIN <= options.memory <= MEMORY_MAX:
        parser.error(f"--memory: a guest of {options.memory} MiB cannot be had; {MEMORY_MIN} to {MEMORY_MAX} can")
    options.hot = options.hot or options.memory // 2
    if options.hot > options.memory:
        parser.error(f"--hot: a guest of {options.memory} MiB cannot change {options.hot}")
    options.builddir = find_builddir(options.builddir)
    return options


def check_built(options, mode):
    missing = [p for p in PROGRAMS_OF[mode] if not (options.builddir / p).exists()]
    if missing:
        raise DemoFailed(f"not built in {options.builddir}: {', '.join(missing)}")


def in_hosts(options, account):
    """Returns None when done, or why this machine cannot be two hosts."""
    missing = requirements()
    if missing:
        return "; ".join(missing)
    check_built(options, "hosts")
    try:
        demo_hosts.run(options, account)
    except demo_hosts.NotPermitted as refusal:
        return str(refusal)
    return None


def demonstrate(options, account):
    account.say(INTRODUCTION)
    if options.mode != "loopback":
        refusal = in_hosts(options, account)
        if refusal is None:
            return
        if options.mode == "hosts":
            raise DemoFailed(f"two hosts cannot be made here ({refusal})")
        account.say(f"Two hosts cannot be made here ({refusal}). So two QEMUs and two helpers do it on loopback, "
                    "without libvirtd and virsh; the helpers, their TLS and the guest are the same.")
    check_built(options, "loopback")
    loopback.run(options, account)


def main(argv):
    options = parse_arguments(argv)
    account = Account()
    interruption.catch()
    try:
        demonstrate(options, account)
    except interruption.Interrupted as signum:
        account.fail(f"interrupted by {signum}; what it had started is gone")
        return signum.status
    except (DemoFailed, AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        account.fail(error)
        return 1
    account.say("Everything was as it should be.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
