#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`virt-postcopy top` on a terminal of its own.

As a program it prints the transcript that README.md has: the screen of one host while two guests cross
each other on a link of 500 Mbit/s that is cut for a while.

    tests/e2e/screen.py [BUILDDIR]
"""
import os
import pty
import re
import subprocess
import sys

from host import Host
from wait import wait_for

PROGRAM = Host.built("virt-postcopy")
HOME = "\033[H"                         # each frame begins so
CONTROL = re.compile(r"\033\[[0-9;?]*[A-Za-z]")


class Screen:
    """seen: all it has written; frame(): what stands on it."""

    def __init__(self, host, *args, columns=90, rows=30):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.slave, self.seen = slave, ""
        self.before = self.settings()
        self.process = host.popen([PROGRAM, "top", *args], stdin=slave, stdout=slave,
                                  stderr=subprocess.PIPE, env={"TERM": "xterm"}, start_new_session=True)
        os.set_blocking(self.master, False)

    def resize(self, columns, rows):
        subprocess.run(["stty", "columns", str(columns), "rows", str(rows)], stdin=self.master, check=True)

    def settings(self):
        return subprocess.run(["stty", "-g"], stdin=self.slave, capture_output=True, check=True).stdout

    def text(self):
        """All that it has written so far."""
        try:
            while chunk := os.read(self.master, 65536):
                self.seen += chunk.decode(errors="replace")
        except BlockingIOError:
            pass
        return self.seen

    def frame(self):
        """The lines of the newest whole frame."""
        frames = self.text().split(HOME)
        return CONTROL.sub("", frames[-2] if len(frames) > 2 else frames[-1]).rstrip().split("\r\n")

    def wait(self, what, timeout=30):
        return wait_for(lambda: what in self.text(), lambda: f"{what!r} on the screen: {self.seen[-400:]!r}", timeout)

    def press(self, key):
        os.write(self.master, key)

    def ended(self):
        """Its exit status; the terminal must be as it was."""
        status = self.process.wait(20)
        assert self.text().endswith("\033[m\033[?25h\033[?1049l"), self.seen[-80:]
        assert self.settings() == self.before, (self.settings(), self.before)
        return status

    def close(self):
        os.close(self.master)
        os.close(self.slave)


def percents(screen):
    return [int(percent) for percent in re.findall(r"\] +(\d+)%", "\n".join(screen.frame()))] or [0]


def transcript(builddir):
    from cuts import cut
    from guest import Guest
    from migrating import POSTCOPY
    from rig import Rig

    with Rig(builddir) as rig:
        guests = [Guest(rig, 1024, name=name, rate=1000, sweep=2000).start(host)
                  for name, host in (("web01", rig.a), ("db02", rig.b))]
        screen = Screen(rig.a, "-d", "1", columns=92, rows=24)
        rig.shape("500mbit")
        crossing = list(zip(guests, (rig.a, rig.b)))
        going = [guest.start_migration(host, rig.other(host), *POSTCOPY) for guest, host in crossing]
        for migration in going:
            migration.wait_processed(100)
            migration.source.virsh("migrate-postcopy", migration.domain, uri=migration.source.uri())
        for guest, host in crossing:
            wait_for(lambda g=guest, h=host: "(post-copy)" in rig.other(h).state(g.name), "a guest on its new host", 30)
        with cut(rig, "black hole"):
            screen.wait("link lost", 30)
        screen.seen = ""
        wait_for(lambda: all(70 <= percent < 100 for percent in percents(screen)), "most of it there", 90)
        print("\n".join(screen.frame()))
        screen.press(b"q")
        screen.ended()
        for migration in going:
            migration.finish()


if __name__ == "__main__":
    transcript(sys.argv[1] if len(sys.argv) > 1 else None)
