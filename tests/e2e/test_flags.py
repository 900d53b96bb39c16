# SPDX-License-Identifier: LGPL-2.1-or-later
"""What virsh's options for compression, addresses and speed do when the session does them. That each of
them is accepted or refused as it should is in test_matrix.py."""
import os
import re
import signal
import time

from course import LogWatch
from guest import Guest
from harness import deadline, note, own_rig
from migrating import POSTCOPY, arrived, begin_in_postcopy, begun_postcopy, nothing_left, summaries
from wait import wait_for

RIG = {"daemon_conf": {"auto_recover": 1}}
MIB = 1 << 20
TOLD_QEMU = re.compile(r'"capability":"(compress|multifd)","state":true')


def last_summary(host, guest):
    return [s for s in summaries(host) if s["domain"] == guest.name][-1]


def text_guest(rig, **options):
    """Whose memory is worth compressing, and all of it written to all the time."""
    return Guest(rig, 64, rate=0, pattern="text", **options).start(rig.a)


@deadline(150)
def test_session_compresses_by_the_methods_that_are_asked_for(rig):
    for method, options, session in (
            ("zlib", (), "zlib"),
            ("mt", ("--p2p", "--comp-mt-level", "5", "--comp-mt-threads", "2", "--comp-mt-dthreads", "2"), "zlib"),
            ("zstd", ("--p2p", "--parallel", "--parallel-connections", "4"), "zstd")):
        guest = text_guest(rig)
        logs = [LogWatch(host, "libvirtd.log") for host in rig.hosts]
        begin_in_postcopy(rig, guest, "--compressed", "--comp-methods", method, *options)[0].finish()
        arrived(rig, guest)
        summary = last_summary(rig.a, guest)
        assert summary["compression-method"] == session, summary
        assert float(summary["compression"]) > 1.5, summary
        assert session in summary["features"].split(","), summary
        assert not [line for log in logs for line in log.find(TOLD_QEMU)], "QEMU was told to compress, too"
        note(f"{method}: {summary['compression']} times less")
        guest.destroy(rig.b)
        rig.unshape()


@deadline(60)
def test_level_zero_is_no_compression(rig):
    guest = text_guest(rig)
    begin_in_postcopy(rig, guest, "--comp-methods", "mt", "--comp-mt-level", "0")[0].finish()
    arrived(rig, guest)
    assert last_summary(rig.a, guest)["compression-method"] == "none", last_summary(rig.a, guest)


@own_rig
@deadline(90)
def test_what_the_destination_cannot_do_is_told(rig):
    """It is no reason not to migrate."""
    rig.b.restart_daemon(migration_compression="off")
    guest = text_guest(rig)
    log = LogWatch(rig.a)
    begin_in_postcopy(rig, guest, "--parallel", "--compressed", "--comp-methods", "zlib,zstd")[0].finish()
    arrived(rig, guest)
    line = log.find("phase=perform .* features: ")[0]
    assert line.endswith("asked for and not to be had: zlib, zstd"), line
    assert last_summary(rig.a, guest)["compression-method"] == "none"


@deadline(150)
def test_recovery_asks_for_the_same(rig):
    """The session that takes the place of a broken one compresses as that did, and goes the same way, which is not
    the one that the destination's virtpostcopyd.conf says."""
    for options in ((), ("--p2p",)):
        guest = text_guest(rig)
        log = LogWatch(rig.a)
        migration, _, _ = begin_in_postcopy(
            rig, guest, *options, "--parallel", "--compressed", "--comp-methods", "zlib", "--migrateuri",
            f"tcp://[{rig.b.ip6}]", "--listen-address", rig.b.ip6)
        for helper in rig.a.helpers():
            os.kill(helper, signal.SIGKILL)
        log.wait("the helper ended: ")
        rig.unshape()
        migration.finish(check=False)
        wait_for(lambda g=guest: g.name not in rig.a.domains(), "the guest gone from the source", 60)
        arrived(rig, guest)
        dialled = [line.split("connected to ")[1] for line in log.find("connected to .* port ")]
        assert len(dialled) >= 2 and set(dialled) == {f"{rig.b.ip6} port 16515"}, dialled
        assert all("zlib" in line for line in log.find("features: ")), log.find("features: ")
        assert last_summary(rig.a, guest)["state"] == "completed"
        guest.destroy(rig.b)


# -- speed, changed while it runs ------------------------------------------------------------------

def sent(rig):
    """MiB that have left the source so far, and the time."""
    return rig.a.wire_bytes()[1] / MIB, time.monotonic()


def rate_since(rig, before):
    """MiB a second."""
    (megabytes, seconds), (earlier, began) = sent(rig), before
    return (megabytes - earlier) / (seconds - began)


def measure(rig, seconds=2):
    before = sent(rig)
    time.sleep(seconds)
    return rate_since(rig, before)


@deadline(90)
def test_speed_of_precopy_is_changed_while_it_runs(rig):
    guest = Guest(rig, 96, hot=1, rate=100).start(rig.a)
    migration = guest.start_migration(rig.a, rig.b, *POSTCOPY, "--bandwidth", "2").wait_processed(2)
    slow = measure(rig)
    assert migration.running and slow < 4, slow
    before = sent(rig)
    rig.a.virsh("migrate-setspeed", guest.name, "1000", uri=rig.a.uri())
    wait_for(lambda: not migration.running, "the migration through", 40)
    fast = rate_since(rig, before)
    migration.finish()
    arrived(rig, guest)
    note(f"{slow:.1f} MiB/s with --bandwidth 2, then {fast:.1f}")
    assert fast > 2 * slow


@deadline(120)
def test_speed_of_postcopy_is_changed_while_it_runs(rig):
    """The pages that the guest asks for are not held up by it, and the sweep asks for each in its turn: slowly."""
    guest = Guest(rig, 64, ram=32, hot=1, rate=100, sweep=500).start(rig.a)
    events = rig.b.events()
    migration = guest.start_migration(rig.a, rig.b, *POSTCOPY, "--bandwidth", "2", "--postcopy-bandwidth", "1")
    migration.wait_processed(2)
    rig.a.virsh("migrate-postcopy", guest.name, uri=rig.a.uri())
    begun_postcopy(events, guest)
    slow = measure(rig)
    assert migration.running and slow < 5, slow
    before = sent(rig)
    rig.a.virsh("migrate-setspeed", "--postcopy", guest.name, "1000", uri=rig.a.uri())
    wait_for(lambda: not migration.running, "the migration through", 40)
    fast = rate_since(rig, before)
    migration.finish()
    note(f"{slow:.1f} MiB/s with --postcopy-bandwidth 1, then {fast:.1f}")
    assert fast > 1.5 * slow
    guest.verdict(rig.b, 70)
    nothing_left(rig)
