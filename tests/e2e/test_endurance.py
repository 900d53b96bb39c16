# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same thing over and over: many cuts in one migration, many migrations in one run. Nothing is
lost, nothing comes twice, and nothing is left behind."""
import random
import re
import time

import usage
from course import Course
from cuts import black_hole, connections, link_down, reset
from guest import Guest
from harness import deadline, note, soak
from migrating import POSTCOPY, RUN_DIR, arrived, nothing_left, summaries, what_is_left
from wait import wait_for

MIB = 1 << 20
STAGE = 16 * MIB
RIG = {"daemon_conf": {"keepalive_interval": 1, "keepalive_count": 3, "reconnect_timeout": 20,
                       "migration_stage": STAGE, "log_level": 2}}
SEED = 4711
# Buffers that a helper may have beside its stage: windows and frames of two channels, for either QEMU.
HELPER_GROWTH = 2 * STAGE + 16 * MIB
DAEMON_GROWTH = 2 * MIB


# -- cuts -----------------------------------------------------------------------------------------

def cut_at_random(rig, rng, ports):
    """One cut that is over soon. Returns how many of the connections from these ports it has ended for certain."""
    if rng.random() < 0.7:
        victims = rng.choice([ports[:1], ports[-1:], ports])
        reset(rig, victims)
        return len(victims)
    with rng.choice([link_down, black_hole])(rig):
        time.sleep(rng.uniform(0.02, 0.2))
    return 0


class Holdings:
    """What the daemons and helpers of both hosts hold, from time to time."""

    def __init__(self, rig):
        self.rig = rig
        self.first = self.last = self._take()

    def _take(self):
        pids = [host.daemon.pid for host in self.rig.hosts] + [host.helpers()[0] for host in self.rig.hosts]
        return pids, usage.descriptors(*pids), [usage.resident(pid) for pid in pids]

    def look(self):
        self.last = self._take()

    def check(self):
        (_, few, small), (_, many, large) = self.first, self.last
        grown = [after - before for before, after in zip(small, large)]
        note(f"descriptors {few} -> {many}, KiB more: {[size >> 10 for size in grown]}")
        assert all(after <= before + 2 for before, after in zip(few, many)), (few, many)    # one may be being made
        assert all(size < DAEMON_GROWTH for size in grown[:2]), grown
        assert all(size < HELPER_GROWTH for size in grown[2:]), grown


def cuts_in_one_migration(rig, memory, count, rate):
    rng = random.Random(SEED)
    guest = Guest(rig, memory).start(rig.a)
    course = Course(rig, guest)
    ended = 0
    with course.at("first requests"):
        rig.shape(rate)
        holdings = Holdings(rig)
        before = rig.b.wire_bytes()[0]
        for number in range(count):
            mark = before + (memory * MIB * (number + 1)) // (count + 2)
            wait_for(lambda most=mark: rig.b.wire_bytes()[0] >= most or not course.busy(),
                     lambda n=number: f"more to come after {n} cuts; {connections(rig)}", 30, 0.002)
            assert course.busy(), f"after {number} cuts: {course.finish(check=False).stderr}"
            # A channel that is lost over and over is made again after a pause; the other goes on, and may be next.
            ports = wait_for(lambda: connections(rig), "a connection", 20, 0.01)
            ended += cut_at_random(rig, rng, ports)
            holdings.look()
    migration = course.finish(timeout=120)
    arrived(rig, guest)
    assert not course.failed_in_postcopy(), [course.lifecycle(host) for host in rig.hosts]
    holdings.check()
    none_twice(rig, guest, ended)
    note(f"{count} cuts, {ended} connections ended, {migration.seconds:.1f} s")


def none_twice(rig, guest, ended):
    source, target = ({name: int(value) for name, value in summaries(host)[-1].items() if value.isdigit()}
                      for host in rig.hosts)
    note({name: (source[name], target[name]) for name in ("pages-normal", "pages-zero", "pages-urgent", "duplicates",
                                                          "resumes", "bytes-sent-again")})
    for name in ("pages-normal", "pages-zero"):
        assert source[name] == target[name], f"{name}: {source[name]} were sent, {target[name]} placed"
    pages = target["pages-normal"] + target["pages-zero"]
    assert pages <= guest.memory * 256 + 4096, f"{pages} pages of a guest of {guest.memory} MiB"    # and its ROMs
    assert target["duplicates"] == 0, "the frames of a connection that is replaced are told apart by number"
    assert target["resumes"] >= ended * 0.9, f"{target['resumes']} for {ended} connections that were ended"


@deadline(90)
def test_ten_cuts_in_one_migration(rig):
    cuts_in_one_migration(rig, 128, 10, "500mbit")


@soak
@deadline(600)
def test_hundred_cuts_in_one_migration(rig):
    cuts_in_one_migration(rig, 1024, 100, "1gbit")


# -- migrations -----------------------------------------------------------------------------------

LEFT = ("/run", "/tmp", "/var/lib/libvirt", "/var/cache/libvirt", "/dev/shm")


class Leavings:
    """What could be left behind in a host: processes, files, mounts, links, sockets."""

    def __init__(self, host):
        self.host = host

    def take(self):
        files = self.host.run(["find", *LEFT, "-xdev", "(", "-path", "/run/postcopy-*", "-prune", ")", "-o",
                               "-print"], check=False).stdout.split()
        unix = re.findall(r" (/.*)", self.host.run(["cat", "/proc/net/unix"]).stdout)
        return {
            "processes": sorted(self._names()),
            "files": self._paths(files),
            "sockets": self._paths(unix),
            "mounts": len(self.host.run(["cat", "/proc/self/mounts"]).stdout.splitlines()),
            "links": self.host.run(["ip", "-o", "link"]).stdout.count("\n"),
        }

    def differ(self, before):
        """What is not as it was before."""
        return {kind: f"{before[kind]}, {now}" if isinstance(now, int) else sorted(set(now) ^ set(before[kind])) or now
                for kind, now in self.take().items() if now != before[kind]}

    @staticmethod
    def _paths(paths):
        """libvirt counts the domains it has started."""
        return sorted({re.sub(r"domain-\d+-", "domain-N-", path) for path in paths})

    def _names(self):
        for pid in self.host.ns.pids():
            try:
                with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as comm:
                    yield comm.read().strip()
            except OSError:
                pass


def there_and_back(rig, guest, times):
    for _ in range(times):
        for source, target in ((rig.a, rig.b), (rig.b, rig.a)):
            guest.migrate(source, target, *POSTCOPY, "--postcopy-after-precopy")
            guest.check_clean()


def migrations_leave_nothing(rig, rounds):
    guest = Guest(rig, 16).start(rig.a)
    there_and_back(rig, guest, 2)       # what is made once is made now
    nothing_left(rig)
    pids = [host.daemon.pid for host in rig.hosts]
    leavings = [Leavings(host) for host in rig.hosts]
    small, before = [usage.resident(pid) for pid in pids], [each.take() for each in leavings]
    with usage.no_descriptor_left(*pids):
        there_and_back(rig, guest, rounds)
        nothing_left(rig)
    grown = [usage.resident(pid) - size for pid, size in zip(pids, small)]
    note(f"{2 * rounds} migrations; {[size >> 10 for size in grown]} KiB more")
    assert all(size < DAEMON_GROWTH for size in grown), grown
    for each, then in zip(leavings, before):
        wait_for(lambda e=each, t=then: e.take() == t, lambda e=each, t=then: f"as before; other: {e.differ(t)}", 15)
        assert not what_is_left(each.host.path(RUN_DIR))
    guest.verdict(rig.a)
    boots = [line for line in guest.lines(rig.a) if "BOOT" in line]
    assert len(boots) == 1, boots


@deadline(60)
def test_migrations_leave_nothing_behind(rig):
    migrations_leave_nothing(rig, 3)


@soak
@deadline(1200)
def test_two_hundred_migrations_leave_nothing_behind(rig):
    migrations_leave_nothing(rig, 100)
