# SPDX-License-Identifier: LGPL-2.1-or-later
"""One migration that is measured: what every kind of it has in common."""
import dataclasses
import math
import os
import re

import guest_view
from guest import Guest
from guest_clock import GuestClock
from wait import wait_for

SOURCE_SPEED_MIB = 1                    # a second, before the switch: all of the memory is left for after it
TIMEOUT = 300
BEFORE_S = 3                            # from the guest's start to the migration's, on a machine at rest
SLOW_MACHINE = 250e6                    # bytes a second on a link without a limit
UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


def bytes_per_second(rate):
    if rate == "none":
        return math.inf
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", rate).groups()
    return float(number) * UNITS[unit] / 8


class RunFailed(Exception):
    """The migration did not get to its end, or the guest is not whole."""


@dataclasses.dataclass
class Case:
    """What is migrated over what. rate: as tc wants it, or none; memory, hot: MiB."""
    rate: str
    pattern: str
    memory: int
    hot: int
    before_s: int = BEFORE_S

    def guest(self, rig):
        """It touches its hot memory as fast as it can, and rests from verifying all of its memory until
        the migration should be over: what is measured is the hot memory."""
        guest = Guest(rig, self.memory, hot=self.hot, rate=0, sweep=0, pattern=self.pattern)
        guest.cmdline += f" report={guest_view.REPORT_MS} rest={self.rest_seconds()}"
        return guest

    def rest_seconds(self):
        speed = min(bytes_per_second(self.rate), SLOW_MACHINE)
        return math.ceil(self.before_s + 1.5 * (self.memory << 20) / speed)


class Timeline:
    """When the QEMUs said what, as seconds since the epoch by their own clocks.

    sources: functions of (event name, {detail: value}) that give the times of such events on the
    source and on the destination, oldest first."""

    def __init__(self, source, target):
        self._times = (source, target)

    def first(self, side, name, **details):
        times = self._times[side](name, details)
        if not times:
            raise RunFailed(f"the {('source', 'destination')[side]} QEMU never sent {name} {details or ''}")
        return times[0]

    def result(self):
        """The times of a completed migration, and what is reckoned from them."""
        begun = self.first(0, "MIGRATION", status="active")
        switched = self.first(0, "MIGRATION", status="postcopy-active")
        stopped, resumed = self.first(0, "STOP"), self.first(1, "RESUME")
        completed = max(self.first(side, "MIGRATION", status="completed") for side in (0, 1))
        return {"resumed_at": resumed, "completed_at": completed,
                "postcopy_s": completed - switched, "total_s": completed - begun,
                "downtime_ms": (resumed - stopped) * 1000}


class Wire:
    """Bytes on the link since it was made, counted at the source."""

    def __init__(self, host):
        self.host, self.before = host, host.wire_bytes()

    def result(self):
        received, sent = (now - then for now, then in zip(self.host.wire_bytes(), self.before))
        return {"wire_sent": sent, "wire_received": received}


def only(pids):
    """The one process of a list, None if there is none."""
    return pids[0] if pids else None


def guest_side(rig, guest, times):
    """The guest's own figures and its verdict; raises if it is not whole."""
    clock = GuestClock(guest, rig.b)
    clock.look()
    verdict = guest.verdict(rig.b)
    clock.look()
    seen = guest_view.view(guest.report(rig.a), guest.reports(rig.b), clock,
                           times["resumed_at"], times["completed_at"])
    return {**seen, "khz": round(clock.khz), "pages": verdict["pages"], "bad": verdict["bad"]}


def ready(rig, guest):
    """The guest has reported a few times on the source: it is warm."""
    first = guest.next_report(rig.a)["report"]
    wait_for(lambda: guest.report(rig.a)["report"] >= first + 10, f"{guest.name} at full speed", 20)


def load():
    """How busy the machine is with other things before a run."""
    return round(os.getloadavg()[0], 2)
