# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration where hosts cannot be made: two QEMUs driven over QMP, and two helpers between
them on loopback, without libvirt."""
import contextlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import interruption
import pki
import userfaultfd
from account import DemoFailed, data_size, duration, first_line, monitor_words
from guest import KERNEL, Guest, GuestCorrupted, stalls
from host import ENVIRONMENT
from qmp import Qemu, QmpClosed, QmpError, die_with_parent
from wait import Timeout, wait_for

PAIR = "helper-pair"                    # the program that stands in for the two daemons
PROGRAMS = ("qemu-system-x86_64", "certtool")
PEER = "localhost"                      # the name in the destination's certificate
UNLIMITED = 1 << 40                     # bytes a second
UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
MIGRATION_TIMEOUT, TAIL = 300, 15


def bytes_per_second(rate):
    if rate == "none":
        return UNLIMITED
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", rate).groups()
    return int(float(number) * UNITS[unit] / 8)


class Place:
    """One side: a directory for its files and the QEMU in it. Offers what a Guest asks of a host."""

    def __init__(self, top, name):
        self.name = name
        self.directory = pathlib.Path(top) / name
        self.qemu = None
        self.path(KERNEL).parent.mkdir(parents=True)

    def path(self, inside):
        return self.directory / str(inside).lstrip("/")

    def log(self, name):
        try:
            return self.path(f"/var/log/libvirt/{name}").read_text(errors="replace")
        except OSError:
            return ""

    def virsh(self, *_args, **_options):
        """Stands in for `virsh domstate`."""
        return self.qemu.qmp.execute("query-status")

    def start_qemu(self, guest, *more):
        serial = self.path(guest.log)
        serial.parent.mkdir(parents=True, exist_ok=True)
        self.qemu = Qemu(f"the {self.name} QEMU", [
            PROGRAMS[0], "-name", guest.name, "-machine", f"{guest.machine},accel=tcg", "-cpu", "qemu64",
            "-m", guest.memory, "-nodefaults", "-no-user-config", "-display", "none", "-kernel", self.path(KERNEL),
            "-append", guest.cmdline, "-serial", f"file:{serial}", *more],
            self.directory / "qemu.log", ENVIRONMENT)
        return self.qemu.qmp

    def allow_postcopy(self):
        self.qemu.qmp.execute("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": True} for name in ("events", "postcopy-ram")])

    def statuses(self):
        return [e["details"]["status"] for e in self.qemu.qmp.find("MIGRATION")]


class Pair:
    """The two helpers, started by a program that does the daemons' part for them."""

    def __init__(self, builddir, directory, listen, connect, certificates):
        self.out, self.log = directory / "helpers.json", directory / "helpers.log"
        argv = [builddir / PAIR, "--helper", builddir / "virt-postcopy-helper", "--listen", listen,
                "--connect", connect, "--pki-source", certificates[0], "--pki-destination", certificates[1],
                "--host", PEER]
        with open(self.out, "wb") as out, open(self.log, "wb") as log:
            self.process = subprocess.Popen(            # pylint: disable=consider-using-with
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=ENVIRONMENT,
                start_new_session=True, preexec_fn=die_with_parent)

    def lines(self):
        return [json.loads(line) for line in self.out.read_text().splitlines(keepends=True)
                if line.startswith("{") and line.endswith("\n")]

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
