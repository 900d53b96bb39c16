# SPDX-License-Identifier: LGPL-2.1-or-later
"""--parallel: the session spreads memory over bulk channels of its own, which are cut and come back as the others,
and no page is lost or comes twice."""
import os
import signal

from course import LogWatch
from cuts import connections, link_down, reset
from guest import Guest
from harness import deadline, note
from host import MIGRATION_PORT
from migrating import POSTCOPY, arrived, begin_in_postcopy, summaries, went_through_helpers
from wait import wait_for

RIG = {"daemon_conf": {"keepalive_interval": 1, "keepalive_count": 2, "reconnect_timeout": 30, "auto_recover": 1}}
BULK = 3
PARALLEL = ("--parallel", "--parallel-connections", str(BULK))


def last_summary(host, guest):
    return [s for s in summaries(host) if s["domain"] == guest.name][-1]


def spread(rig, guest):
    """Both ends have had these channels, and memory went over them as well as over the main one. Returns the
    summaries of both ends."""
    sides = [last_summary(host, guest) for host in rig.hosts]
    for side in sides:
        assert "bulk" in side["features"].split(","), side
        assert int(side["bulk-channels"]) == BULK, side
        pages = {name: int(side[f"pages-{name}"]) for name in ("normal", "zero", "background", "urgent")}
        assert pages["normal"] + pages["zero"] == pages["background"] + pages["urgent"], side
    source, target = sides
    assert source["pages-background"] == target["pages-background"], sides
    assert int(source["wire-bulk-bytes-sent"]) > 8 << 20 < int(target["wire-bulk-bytes-received"]), sides
    assert target["requests-outstanding"] == "0", target
    return sides


def test_memory_is_spread_over_bulk_channels(rig):
    rig.shape("1gbit")
    guest = Guest(rig, 128).start(rig.a)
    logs = [LogWatch(host) for host in rig.hosts]
    guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-after-precopy", *PARALLEL)
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    source, _ = spread(rig, guest)
    note(f"main {int(source['wire-bytes-sent']) >> 20} MiB, bulk {int(source['wire-bulk-bytes-sent']) >> 20} MiB")
    for log in logs:
        up = [name for name in ("bulk-1", "bulk-2", "bulk-3") if log.find(f"{name} channel with ")]
        assert len(up) == BULK, log.text()


@deadline(120)
def test_bulk_channels_come_back(rig):
    """One of them is cut, then all, then the whole link is away for a while."""
    guest = Guest(rig, 128).start(rig.a)
    log = LogWatch(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest, *PARALLEL, rate="100mbit")
    ports = wait_for(lambda: (found := connections(rig)) and len(found) == 2 + BULK and found,
                     lambda: f"{2 + BULK} connections to port {MIGRATION_PORT}")
    reset(rig, ports[2:3])
    log.wait("channel=bulk-1 .*goes on over another connection")
    reset(rig, connections(rig))
    for name in ("main", "preempt", "bulk-1", "bulk-2", "bulk-3"):
        log.wait(f"channel={name} .*goes on over another connection")
    with link_down(rig):
        log.wait("channel=bulk-2 .*the connection is lost: .*")
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    source, _ = spread(rig, guest)
    assert int(source["resumes"]) >= 1 + 2 + BULK, source


@deadline(120)
def test_recovery_has_bulk_channels_as_well(rig):
    """A session that breaks is followed by one that is asked for the same."""
    guest = Guest(rig, 128).start(rig.a)
    log = LogWatch(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest, *PARALLEL, rate="100mbit")
    for helper in rig.a.helpers():
        os.kill(helper, signal.SIGKILL)
    log.wait("the helper ended: ")
    rig.unshape()
    migration.finish(check=False)
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from the source", 60)
    arrived(rig, guest)
    assert int(last_summary(rig.a, guest)["bulk-channels"]) == BULK, last_summary(rig.a, guest)
