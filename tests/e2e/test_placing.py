# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages that the helper places in the destination QEMU's memory by itself: whatever happens to the migration, the guest
finds all of its memory right, and QEMU is never given a page that it has."""
import os
import signal
import struct

from course import LogWatch
from cuts import connections, reset
from guest import HUGEPAGES, Guest
from harness import Skip, deadline, note, own_rig
from migrating import RUN_DIR, arrived, begin_in_postcopy, summaries, went_through_helpers
from wait import wait_for

RIG = {"daemon_conf": {"log_level": 1}}
BUSY = {"rate": 0}
MEMFD = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
PLACING = "pages are placed in QEMU's memory directly$"
PREEMPT = "QEMU has a preempt connection of its own"
TWO_NODES = "<numa><cell id='0' cpus='0' memory='32' unit='MiB'/><cell id='1' cpus='1' memory='32' unit='MiB'/></numa>"
# A page that comes twice is one of the two, and QEMU's end.
TWICE = "File exists|postcopy_place_page"


def counters(rig):
    """Of the destination's last helper."""
    wait_for(lambda: summaries(rig.b), "a summary", 10)
    return {name: int(value) for name, value in summaries(rig.b)[-1].items() if value.isdigit()}


def places(rig, guest, *options, **where):
    """A migration that has begun to place pages. Returns it and the watch of the destination's log."""
    log = LogWatch(rig.b)
    migration, _, _ = begin_in_postcopy(rig, guest, *options, **where)
    if PREEMPT in log.wait(f"{PLACING}|{PREEMPT}"):
        rig.unshape()
        migration.finish()
        arrived(rig, guest)
        raise Skip(PREEMPT)
    return migration, log


def placed_much(rig, guest):
    seen = counters(rig)
    note({name: seen[name] for name in ("pages-direct", "pages-normal", "pages-zero", "pages-urgent", "duplicates",
                                        "requests", "request-latency-p50-us", "request-latency-p99-us") if name in seen})
    assert seen["pages-direct"] > 0
    assert not LogWatch(rig.b, f"qemu/{guest.name}.log").find(TWICE)
    assert not list(rig.b.path(RUN_DIR).glob("placed-*")), "a record is left"
    return seen


def comes_on_the_stream(rig, guest, words):
    log = LogWatch(rig.b)
    migration, _, _ = begin_in_postcopy(rig, guest)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    if words:
        log.wait(words)
    assert counters(rig)["pages-direct"] == 0
    assert not log.find(PLACING)


def resumed(rig, guest, migration):
    """By the daemon, after what has happened."""
    rig.unshape()
    migration.finish(check=False)
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from a", 60)
    arrived(rig, guest)


@deadline(60)
def test_private_memory(rig):
    guest = Guest(rig, 128, vcpus=2, **BUSY).start(rig.a)
    migration, _ = places(rig, guest)
    rig.shape("1gbit")
    migration.finish()
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    seen = placed_much(rig, guest)
    assert seen["pages-direct"] > (seen["pages-normal"] + seen["pages-zero"]) / 2


@deadline(60)
def test_memfd(rig):
    guest = Guest(rig, 64, memory_backing=MEMFD, **BUSY).start(rig.a)
    places(rig, guest)[0].finish()
    arrived(rig, guest)
    placed_much(rig, guest)


@deadline(60)
def test_huge_pages(rig):
    with rig.hugepages(2 * 128):
        guest = Guest(rig, 128, memory_backing=HUGEPAGES, **BUSY).start(rig.a)
        migration, _ = places(rig, guest, rate="1gbit")
        migration.finish()
        arrived(rig, guest)
        assert placed_much(rig, guest)["pages-direct"] >= 512
        guest.destroy(rig.b)


@deadline(90)
def test_lost_connections(rig):
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    migration, log = places(rig, guest)
    source = LogWatch(rig.a)
    for _ in range(3):
        before = len(source.find("is back after"))
        reset(rig, wait_for(lambda: connections(rig), "connections", 20))
        wait_for(lambda most=before: len(source.find("is back after")) > most, "another connection", 20)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    assert placed_much(rig, guest)["resumes"] >= 3
    assert len(log.find(PLACING)) == 1


@deadline(120)
def test_destination_helper_killed(rig):
    """QEMU does not know of what was placed: the record does. The next helper places, too."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    migration, log = places(rig, guest)
    before = rig.b.wire_bytes()[0]
    wait_for(lambda: rig.b.wire_bytes()[0] - before > 24 << 20, "a part of it there", 30)
    pid, = rig.b.helpers()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(log.find(PLACING)) == 2 or guest.name not in rig.a.domains(), "another helper that places", 60)
    resumed(rig, guest, migration)
    assert len(log.find(PLACING)) == 2
    placed_much(rig, guest)


@deadline(150)
def test_helpers_killed_again_and_again(rig):
    """Each time at another place in what a helper does to a page."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    migration, log = places(rig, guest, rate="100mbit")
    for kills in range(1, 4):
        pid, = rig.b.helpers()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda n=kills: len(log.find(PLACING)) > n or guest.name not in rig.a.domains(),
                 "another helper that places", 60)
    resumed(rig, guest, migration)
    placed_much(rig, guest)


def notes(rig):
    """What helpers have noted: the record (ram/placed_record.h), and where the bits of its blocks are."""
    path, = rig.b.path(RUN_DIR).glob("placed-*")
    record = bytearray(path.read_bytes())
    target, count = struct.unpack_from("=II", record, 16)
    blocks = (struct.unpack_from("=QQQQ", record, at + 256) for at in range(24, 24 + 304 * count, 304))
    return path, record, [slice(bits, bits + length // target // 8) for _, length, _, bits in blocks]


def noted(rig):
    _, record, blocks = notes(rig)
    return sum(byte.bit_count() for block in blocks for byte in record[block])


def forget_notes(rig):
    """As if no helper had lived to note what it placed."""
    path, record, blocks = notes(rig)
    for block in blocks:
        record[block] = bytes(block.stop - block.start)
    with path.open("r+b") as file:
        file.write(record)


@deadline(120)
def test_what_was_not_noted_comes_only_once(rig):
    """Also where the recovery's stream is passed on unread, as of a guest all of whose pages are huge."""
    with rig.hugepages(2 * 128):
        guest = Guest(rig, 128, memory_backing=HUGEPAGES, **BUSY).start(rig.a)
        migration, log = places(rig, guest, rate="400mbit")
        wait_for(lambda: noted(rig) >= 2048, "pages that are placed")
        pid, = rig.b.helpers()
        rig.b.kill_daemon()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not rig.b.helpers(), "the helper gone")
        note(f"{noted(rig)} pages were placed")
        forget_notes(rig)
        rig.b.start_daemon()
        log.wait("pages are in place in QEMU's memory that nobody has noted")
        resumed(rig, guest, migration)
        assert not LogWatch(rig.b, f"qemu/{guest.name}.log").find(TWICE)
        guest.destroy(rig.b)


@deadline(120)
def test_destination_daemon_restarted(rig):
    """The helper has what it needs; and when it is killed then, the next daemon knows the record."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    migration, log = places(rig, guest)
    rig.b.kill_daemon()
    rig.b.start_daemon()
    log.wait("found the helper of domain")
    pid, = rig.b.helpers()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(log.find(PLACING)) == 2 or guest.name not in rig.a.domains(), "another helper that places", 60)
    resumed(rig, guest, migration)
    placed_much(rig, guest)


@deadline(60)
def test_blocks_of_one_length_come_on_the_stream(rig):
    """Which of them is which nobody says; what else there is is placed."""
    guest = Guest(rig, 64, vcpus=2, **BUSY)
    guest.numa = TWO_NODES
    guest.start(rig.a)
    migration, _ = places(rig, guest)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    seen = counters(rig)
    assert seen["pages-direct"] < seen["pages-normal"] / 10, seen


@own_rig
@deadline(90)
def test_setting_off(rig):
    rig.b.restart_daemon(migration_direct_placing=0)
    comes_on_the_stream(rig, Guest(rig, 64, **BUSY).start(rig.a), None)


@own_rig
@deadline(120)
def test_a_later_daemon_offers_the_memory(rig):
    """What has come on the stream until then QEMU has, and the rest is placed."""
    rig.b.restart_daemon(migration_direct_placing=0)
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    log = LogWatch(rig.b)
    migration, _, _ = begin_in_postcopy(rig, guest)
    before = rig.b.wire_bytes()[0]
    wait_for(lambda: rig.b.wire_bytes()[0] - before > 8 << 20, "a part of it there", 30)
    assert not log.find(PLACING)
    rig.b.restart_daemon(migration_direct_placing=1)
    log.wait(PLACING)
    resumed(rig, guest, migration)
    seen = placed_much(rig, guest)
    assert seen["pages-direct"] < seen["pages-normal"] - 1000
