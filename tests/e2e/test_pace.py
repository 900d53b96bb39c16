# SPDX-License-Identifier: LGPL-2.1-or-later
"""In post-copy the source QEMU is told to send what the link carries, and never more than the user
allows."""
import re

from guest import Guest
from harness import deadline, note, own_rig
from migrating import arrived, begin_in_postcopy
from wait import wait_for

LINK = 500_000_000 // 8                 # bytes a second
RATE = "500mbit"
MIB = 1 << 20
DOWNTIME = re.compile(r'"migrate-set-parameters".*"downtime-limit":(\d+)')
ALONE = True
RIG = {"daemon_conf": {"migration_pace_qemu": 1}}
SET = re.compile(r'"migrate-set-parameters".*"max-postcopy-bandwidth":(\d+)')


class Monitor:
    """What libvirtd tells a host's QEMUs from now on."""

    def __init__(self, host):
        self.host, self.begin = host, len(host.log("libvirtd.log"))

    def _lines(self):
        return [line for line in self.host.log("libvirtd.log")[self.begin:].splitlines()
                if "QEMU_MONITOR_IO_WRITE" in line]

    def speeds(self):
        """Every speed for post-copy that QEMU was told, in bytes a second."""
        return [int(found[1]) for found in map(SET.search, self._lines()) if found]

    def downtimes(self):
        """Every downtime limit that QEMU was told, in milliseconds."""
        return [int(found[1]) for found in map(DOWNTIME.search, self._lines()) if found]

    def asked(self):
        """How often its settings were asked for."""
        return sum("query-migrate-parameters" in line for line in self._lines())


def words(speeds):
    return " ".join(f"{speed / MIB:.0f}" for speed in speeds)


@deadline(60)
def test_source_qemu_is_kept_to_the_speed_of_the_link(rig):
    guest = Guest(rig, 192, rate=0).start(rig.a)
    monitor = Monitor(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest, rate=RATE)
    migration.finish()
    arrived(rig, guest)
    speeds = monitor.speeds()
    note(f"{migration.seconds:.1f} s; MiB/s, of a link of {LINK / MIB:.0f}: {words(speeds)}")
    assert any(LINK / 2 < speed < LINK * 3 / 2 for speed in speeds), speeds


@deadline(60)
def test_source_qemu_is_kept_to_the_speed_of_the_link_peer_to_peer(rig):
    guest = Guest(rig, 128, rate=0).start(rig.a)
    monitor = Monitor(rig.a)
    begin_in_postcopy(rig, guest, "--p2p", rate=RATE)[0].finish()
    arrived(rig, guest)
    assert any(LINK / 2 < speed < LINK * 3 / 2 for speed in monitor.speeds()), monitor.speeds()


@deadline(90)
def test_users_limit_is_never_exceeded(rig):
    """Neither the one a migration begins with nor the one that is set while it runs, and not through
    this daemon."""
    guest = Guest(rig, 192, rate=0).start(rig.a)
    monitor = Monitor(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest, "--postcopy-bandwidth", "100")
    wait_for(lambda: len(monitor.speeds()) > 1, "a wish of the helper's", 20)
    assert monitor.speeds()[0] == 100 * MIB and max(monitor.speeds()) == 100 * MIB, monitor.speeds()
    rig.a.virsh("migrate-setspeed", "--postcopy", guest.name, "20")
    later = Monitor(rig.a)
    rig.shape(RATE)                     # now QEMU is what limits, and the helper wants more
    wait_for(lambda: later.asked() > 1, "more wishes of the helper's", 20)
    assert migration.running
    migration.finish()
    arrived(rig, guest)
    note(f"{migration.seconds:.1f} s; MiB/s: {words(monitor.speeds())}")
    assert all(0 < speed <= 20 * MIB for speed in later.speeds()), later.speeds()


@own_rig
@deadline(60)
def test_pacing_is_off_unless_asked_for(rig):
    """But QEMU's last round is shortened all the same: see docs/architecture.md."""
    rig.a.stop_daemon()
    rig.a.write_daemon_conf(migration_pace_qemu=0)
    rig.a.start_daemon()
    guest = Guest(rig, 128, rate=0).start(rig.a)
    monitor = Monitor(rig.a)
    begin_in_postcopy(rig, guest, rate=RATE)[0].finish()
    arrived(rig, guest)
    assert not monitor.speeds(), monitor.speeds()
    assert monitor.downtimes() == [1], monitor.downtimes()
