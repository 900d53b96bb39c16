# SPDX-License-Identifier: LGPL-2.1-or-later
"""What processes hold: descriptors and memory."""
import contextlib
import os
import time

from wait import wait_for


def descriptors(*pids):
    """How many descriptors each has open."""
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]


def resident(pid):
    """Bytes of memory it has."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


def _settled(pids):
    """descriptors(), once they have not changed for a while: connections are closed at leisure."""
    seen = []

    def same():
        seen.append(descriptors(*pids))
        return len(seen) > 4 and all(count == seen[-1] for count in seen[-5:])

    wait_for(same, lambda: f"a stable number of descriptors; there were {seen}", 10, 0.02)
    return seen[-1]


@contextlib.contextmanager
def no_descriptor_left(*pids):
    """In the end, or soon after, none of them has more descriptors open than in the beginning."""
    before = _settled(pids)
    yield
    wait_for(lambda: all(now <= then for now, then in zip(descriptors(*pids), before)),
             lambda: f"{before} descriptors in processes {pids}; there are {descriptors(*pids)}")


def highest_resident(pid, seconds, between=lambda: None):
    """The most memory it has while the time passes; calls between ten times a second."""
    highest = resident(pid)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        highest = max(highest, resident(pid))
        between()
    return highest
