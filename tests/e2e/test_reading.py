# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages that are read from the source QEMU's memory: what the guest waits for is not asked of QEMU, and
whatever happens to the migration, or to the proof, the guest finds all of its memory right."""
import os
import re
import signal
import time

from course import LogWatch, halted
from cuts import connections, reset
from guest import Guest
from harness import deadline, note, own_rig
from migrating import (RUN_DIR, arrived, begin_in_postcopy, precopy_under_way, summaries,
                       went_through_helpers)
from wait import wait_for

RIG = {"daemon_conf": {"log_level": 1}}
BUSY = {"rate": 0}
MEMFD = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
READING = "reading the source QEMU's memory: reading"


def counters(rig):
    """Of the source's last helper."""
    wait_for(lambda: summaries(rig.a), "a summary", 10)
    return {name: int(value) for name, value in summaries(rig.a)[-1].items() if value.isdigit()}


def reads(rig, guest, *options, **where):
    """A migration that reads, up to its first page."""
    log = LogWatch(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest, *options, **where)
    log.wait(READING)
    return migration


def read_much(rig):
    seen = counters(rig)
    note({name: seen[name] for name in ("requests", "requests-read", "requests-staged", "requests-asked", "pages-read",
                                        "pages-dropped", "stage-high-water")})
    assert seen["pages-read"] > 0
    return seen


def comes_on_the_stream(rig, guest, words):
    """Nothing is read, for the reason that the log has, and nobody notices."""
    log = LogWatch(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    log.wait(words)
    assert counters(rig)["pages-read"] == 0
    assert not log.find(READING)


@deadline(60)
def test_requested_pages_are_read(rig):
    guest = Guest(rig, 128, vcpus=2, **BUSY).start(rig.a)
    migration = reads(rig, guest)
    rig.shape("1gbit")
    migration.finish()
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    seen = read_much(rig)
    # What is asked for before the proof, and of the small blocks, QEMU is asked for.
    assert seen["requests-read"] > 4 * seen["requests-asked"]
    assert seen["duplicates"] == 0


@deadline(60)
def test_memfd(rig):
    guest = Guest(rig, 64, memory_backing=MEMFD, **BUSY).start(rig.a)
    reads(rig, guest).finish()
    arrived(rig, guest)
    read_much(rig)


@deadline(60)
def test_bulk_channels(rig):
    """Pages that were read go over several channels like others."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    migration = reads(rig, guest, "--parallel", "--parallel-connections", "3")
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    read_much(rig)


@deadline(90)
def test_lost_connections(rig):
    """The reading goes on over the next ones."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    log = LogWatch(rig.a)
    migration = reads(rig, guest)
    for _ in range(3):
        before = len(log.find("is back after"))
        reset(rig, wait_for(lambda: connections(rig), "connections", 20))
        wait_for(lambda most=before: len(log.find("is back after")) > most, "another connection", 20)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    assert read_much(rig)["resumes"] >= 3
    assert len(log.find(READING)) == 1


@deadline(120)
def test_source_helper_killed(rig):
    """The next one has no proof: it makes its own."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    log = LogWatch(rig.a)
    migration = reads(rig, guest)
    pid, = rig.a.helpers()
    os.kill(pid, signal.SIGKILL)
    rig.unshape()
    wait_for(lambda: len(log.find(READING)) == 2 or guest.name not in rig.a.domains(), "another helper that reads", 60)
    migration.finish(check=False)
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from a", 60)
    arrived(rig, guest)
    note(f"{len(log.find(READING))} helpers have read")


def reading_has_failed(rig):
    """The record of the only migration, as the daemon leaves it of a session that broke after its reading had failed."""
    path, = rig.a.path(RUN_DIR).glob("job-*.conf")
    text = path.read_text()
    for key, value in (("reading-failed", "true"), ("broken", str(int(time.time()))), ("helper-pid", "0")):
        text = re.sub(f"(?m)^{key}=.*$", f"{key}={value}", text)
    path.write_text(re.sub("(?m)^socket-path=.*\n", "", text))


@deadline(120)
def test_a_failed_reading_is_not_tried_again(rig):
    """Neither by the recovery that a daemon begins which has found that in a record."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    log = LogWatch(rig.a)
    migration = reads(rig, guest)
    pid, = rig.a.helpers()
    rig.a.kill_daemon()
    os.kill(pid, signal.SIGKILL)
    reading_has_failed(rig)
    rig.a.start_daemon()
    log.wait("QEMU's memory is not read: that failed before")
    rig.unshape()
    migration.finish(check=False)
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from a", 60)
    arrived(rig, guest)
    assert len(log.find(READING)) == 1
    assert counters(rig)["pages-read"] == 0


@deadline(120)
def test_source_daemon_restarted(rig):
    """Before the guest has stopped: the next daemon offers the memory. After: the helper has it."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    log = LogWatch(rig.a)
    migration = reads(rig, guest)
    rig.a.kill_daemon()
    rig.a.start_daemon()
    log.wait("found the helper of domain")
    rig.unshape()
    migration.finish(check=False)
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from a", 60)
    arrived(rig, guest)
    assert not log.find("SetReading"), "the memory was offered twice"
    read_much(rig)


@deadline(120)
def test_source_daemon_late_at_the_switch(rig):
    """Pages come on the stream before the memory is there."""
    guest = Guest(rig, 128, **BUSY).start(rig.a)
    log = LogWatch(rig.a)
    daemon, = rig.a.pids("virtpostcopyd")
    migration = precopy_under_way(rig, guest, rate="60mbit")
    with halted(daemon):
        rig.a.virsh("migrate-postcopy", guest.name, uri="qemu:///system")
        log.wait("phase=stream .* QEMU's migration: postcopy-active")
        sent = rig.a.wire_bytes()[1]
        wait_for(lambda: rig.a.wire_bytes()[1] - sent > 2 << 20, "2 MiB sent", 30)
        assert not log.find("reading the source QEMU's memory")
    log.wait(READING)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    read_much(rig)


@deadline(60)
def test_memory_that_qemu_gives_back_is_not_read(rig):
    """release-ram: what QEMU has written to its stream is gone from its memory."""
    guest = Guest(rig, 64, **BUSY).start(rig.a)
    rig.a.virsh("qemu-monitor-command", "--hmp", guest.name, "migrate_set_capability release-ram on")
    comes_on_the_stream(rig, guest, "reading the source QEMU's memory: unproved")


@deadline(60)
def test_another_process_is_not_read(rig):
    """libvirt's file names one that is not this guest's QEMU."""
    guest = Guest(rig, 64, **BUSY).start(rig.a)
    path = rig.a.path(f"/run/libvirt/qemu/{guest.name}.pid")
    own = path.read_text()
    path.write_text("1\n")
    try:
        comes_on_the_stream(rig, guest, "process 1 is not the QEMU of domain")
    finally:
        if path.exists():
            path.write_text(own)


@own_rig
@deadline(60)
def test_setting_off(rig):
    rig.a.restart_daemon(migration_direct_reading=0)
    guest = Guest(rig, 64, **BUSY).start(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    assert counters(rig)["memory-bytes-read"] == 0
