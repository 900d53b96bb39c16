# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks copied along (--copy-storage-*): relayed by the helpers over TLS, where the user names no way."""
import contextlib
import os
import signal

import pki
from course import LogWatch
from cuts import connections, reset
from disks import MARKER, MIB, Disk, guest_with
from guest import MARKER as MEMORY_MARKER
from harness import deadline, note
from host import MIGRATION_PORT
from migrating import POSTCOPY, arrived, begin_in_postcopy, nothing_left, stayed, summaries
from wait import wait_for

AFTER = (*POSTCOPY, "--postcopy-after-precopy")
ALL = (*AFTER, "--copy-storage-all")
LOST = "connection that copies a disk is lost"
USERS_PORT = 49170
PKI = "/etc/pki"

OLD_CALL = """
import sys, libvirt
source, target, name = sys.argv[1:]
flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_POSTCOPY | libvirt.VIR_MIGRATE_NON_SHARED_DISK
libvirt.open(source).lookupByName(name).migrate(libvirt.open(target), flags, None, None, 0)
"""


def copied(rig, guest, *disks, pattern=None):
    """The disks are the same on both hosts, now that nobody writes on them. pattern: (byte, offset, length) of
    what the guest has written meanwhile."""
    guest.destroy(rig.b)
    wait_for(lambda: not rig.b.pids("qemu-system-x86_64"), "no QEMU on b")
    for disk in disks:
        here, there = disk.content(rig.a), disk.content(rig.b)
        assert here == there, f"{disk.target} differs"
        assert MARKER in here, f"{disk.target} is empty"
        if pattern:
            byte, offset, length = pattern
            assert there[offset:offset + length] == bytes([byte]) * length, f"{disk.target} lacks a write"
        disk.remove()


def went_through_helpers(rig, guest):
    """(number of disk channels, bytes on them) as the source counts them; the destination counts the same."""
    a, b = ([s for s in summaries(host) if s["domain"] == guest.name][-1] for host in rig.hosts)
    assert a["disk-channels"] == b["disk-channels"], (a, b)
    assert "disks" in a["features"].split(","), a
    sent = int(a["wire-disks-bytes-sent"])
    assert sent <= int(b["wire-disks-bytes-received"]) + MIB, (a, b)
    note(f"{a['disk-channels']} disk channels, {sent >> 20} MiB on them")
    return int(a["disk-channels"]), sent


def copies(rig, *options, transport="tls"):
    """A guest with a disk on which it goes on writing."""
    disk = Disk(rig, "vda")
    guest = guest_with(rig, disk)
    rig.shape("400mbit")
    migration = guest.start_migration(rig.a, rig.b, *ALL, *options, transport=transport)
    under_way(rig, migration, 4)
    disk.write(rig.a, guest, 0x5a, 40 * MIB, 64 * 1024)
    disk.write(rig.a, guest, 0x5a, 40 * MIB + 64 * 1024, 64 * 1024)
    migration.finish()
    arrived(rig, guest)
    channels, sent = went_through_helpers(rig, guest)
    assert channels >= 1 and sent >= 32 * MIB, (channels, sent)
    copied(rig, guest, disk, pattern=(0x5a, 40 * MIB, 128 * 1024))


def under_way(rig, migration, megabytes):
    """Waits until that much is over the link, while the disks are being copied."""
    sent = rig.a.wire_bytes()[1]
    wait_for(lambda: not migration.running or rig.a.wire_bytes()[1] - sent > megabytes * MIB,
             f"{megabytes} MiB sent", 30)
    assert migration.running, migration.finish(check=False).stderr


@contextlib.contextmanager
def copy_under_way(rig, *options, rate="50mbit"):
    """(guest, disk, Migration): its disk's copying would go on for many seconds. The disk is whole in the end."""
    disk = Disk(rig, "vda")
    guest = guest_with(rig, disk)
    before = disk.content(rig.a)
    rig.shape(rate)
    migration = guest.start_migration(rig.a, rig.b, *ALL, *options)
    under_way(rig, migration, 4)
    yield guest, disk, migration
    rig.unshape()
    stayed(rig, guest)
    assert disk.content(rig.a) == before, "the disk was changed"


# -- the ordinary way --------------------------------------------------------------------------

def test_direct(rig):
    copies(rig)


def test_peer_to_peer(rig):
    copies(rig, "--p2p", transport="tcp")


def test_synchronous_writes(rig):
    copies(rig, "--copy-storage-synchronous-writes")
    copies(rig, "--copy-storage-synchronous-writes", "--p2p")


def test_two_disks_of_three(rig):
    """Each has a connection of its own; the third one, read by others, is left alone."""
    disks = [Disk(rig, "vda"), Disk(rig, "vdb", form="qcow2", data=16)]
    other = Disk(rig, "vdc", megabytes=8, data=2, shareable=True)
    guest = guest_with(rig, *disks, other)
    before = other.content(rig.b)
    for options in ((), ("--p2p",)):
        guest.migrate(rig.a, rig.b, *ALL, "--unsafe", "--migrate-disks", "vda,vdb", *options)
        arrived(rig, guest)
        channels, sent = went_through_helpers(rig, guest)
        assert channels == 2 and sent > 48 * MIB, (channels, sent)
        if not options:                 # and back, by the same way
            guest.migrate(rig.b, rig.a, *ALL, "--unsafe", "--migrate-disks", "vda,vdb")
            arrived(rig, guest, rig.b, rig.a)
    assert other.content(rig.b) == before
    copied(rig, guest, *disks)


def test_increments(rig):
    """What both hosts have in a backing file is not sent."""
    disk = Disk(rig, "vda", form="qcow2", data=8, base=40)
    guest = guest_with(rig, disk)
    for options in ((), ("--p2p",)):
        guest.migrate(rig.a, rig.b, *AFTER, "--copy-storage-inc", *options)
        arrived(rig, guest)
        _, sent = went_through_helpers(rig, guest)
        assert 8 * MIB <= sent < 20 * MIB, sent
        if not options:
            guest.migrate(rig.b, rig.a, *AFTER, "--copy-storage-inc")
            arrived(rig, guest, rig.b, rig.a)
    copied(rig, guest, disk)


@deadline(180)
def test_recovery_has_no_disks_to_copy(rig):
    """A guest whose disks have been copied is resumed by itself after its helper has died in post-copy."""
    for options in ((), ("--p2p",)):
        disk = Disk(rig, "vda", data=8)
        guest = guest_with(rig, disk, memory=128, hot=None, rate=0)
        migration, *_ = begin_in_postcopy(rig, guest, "--copy-storage-all", *options)
        os.kill(rig.a.helpers()[0], signal.SIGKILL)
        migration.finish(check=False)
        rig.unshape()
        wait_for(lambda g=guest: g.name not in rig.a.domains(), "the source's guest gone", 60)
        arrived(rig, guest)
        copied(rig, guest, disk)


# -- what the wire shows -----------------------------------------------------------------------

def test_wire_shows_neither_disk_nor_memory(rig):
    disk = Disk(rig, "vda")
    guest = guest_with(rig, disk)
    capture = rig.capture()
    guest.migrate(rig.a, rig.b, *ALL)
    arrived(rig, guest)
    capture.stop()
    assert capture.dropped == 0, f"tcpdump lost {capture.dropped} packets"
    size = sum(len(s) for s in capture.streams().values())
    assert size > 32 * MIB, f"only {size} bytes were captured"
    found = capture.contains(MARKER, MEMORY_MARKER, b"NBDMAGIC", b"IHAVEOPT")
    assert not found, found
    note(f"{size} bytes on the wire, none of the disk's in clear")
    copied(rig, guest, disk)


def test_way_that_the_user_names(rig):
    """It is libvirt's own, and in clear: which also shows that the search above would find the disk."""
    for options in ((), ("--p2p",)):
        disk = Disk(rig, "vda", data=4)
        guest = guest_with(rig, disk)
        capture = rig.capture()
        guest.migrate(rig.a, rig.b, *ALL, *options, "--disks-uri", f"tcp://{rig.b.name}:{USERS_PORT}")
        arrived(rig, guest)
        assert went_through_helpers(rig, guest) == (0, 0)
        assert capture.stop().contains(MARKER, b"IHAVEOPT") == [MARKER, b"IHAVEOPT"]
        copied(rig, guest, disk)


# -- what goes wrong ---------------------------------------------------------------------------

def test_nothing_is_copied_where_the_helpers_do_not_agree(rig):
    """Whoever's way the disks take: a migration that cannot be is found out before."""
    disk = Disk(rig, "vda")
    guest = guest_with(rig, disk)
    other = rig.authority("Another CA")
    pki.install(rig.b.path(PKI), other, server=other.issue(rig.b.name, [rig.b.ip]))
    try:
        for way in ((), ("--disks-uri", f"tcp://{rig.b.name}:{USERS_PORT}")):
            for options in ((), ("--p2p",)):
                sent = rig.a.wire_bytes()[1]
                migration = guest.migrate(rig.a, rig.b, *ALL, *way, *options, check=False, transport="tcp")
                assert migration.status != 0 and "certificate" in migration.stderr, migration.stderr
                assert rig.a.wire_bytes()[1] - sent < MIB, f"{way} {options}: more than a handshake was sent"
                stayed(rig, guest)
    finally:
        pki.install(rig.b.path(PKI), rig.ca, server=rig.b.certificate, client=rig.b.certificate)
    rig.a.virsh("suspend", guest.name)      # no job is left behind


def test_no_address_of_the_users_is_streamed_to_where_the_helpers_do_not_agree(rig):
    """libvirt has a migration URI of the user's, and the disks a way of their own: neither is taken in clear."""
    disk = Disk(rig, "vda", data=4)
    guest = guest_with(rig, disk)
    other = rig.authority("Another CA")
    pki.install(rig.b.path(PKI), other, server=other.issue(rig.b.name, [rig.b.ip]))
    capture = rig.capture()
    try:
        for way in ((), ("--disks-uri", f"tcp://{rig.b.name}:{USERS_PORT}")):
            migration = guest.migrate(rig.a, rig.b, *ALL, *way, "--p2p", "--migrateuri",
                                      f"tcp://{rig.b.name}:{MIGRATION_PORT}", check=False, transport="tcp")
            assert migration.status != 0 and "certificate" in migration.stderr, migration.stderr
            stayed(rig, guest)
            nothing_left(rig)
    finally:
        pki.install(rig.b.path(PKI), rig.ca, server=rig.b.certificate, client=rig.b.certificate)
    capture.stop()
    assert capture.dropped == 0, f"tcpdump lost {capture.dropped} packets"
    assert capture.streams(), "nothing was captured"
    found = capture.contains(MARKER, MEMORY_MARKER, b"QEVM", b"IHAVEOPT")
    assert not found, found
    rig.a.virsh("suspend", guest.name)      # no job is left behind


def test_lost_connection_fails_the_copy_alone(rig):
    """The migration fails before the switch-over, and says why; the guest has its disk."""
    for options in ((), ("--p2p",)):
        with copy_under_way(rig, *options) as (_, _, migration):
            ports = connections(rig)
            assert len(ports) == 3, f"main, preempt and disk: {ports}"
            reset(rig, ports[2:])
            migration.finish(check=False)
            assert migration.status != 0 and LOST in migration.stderr, migration.stderr
            note(migration.stderr.strip())


def test_lost_link_fails_the_copy(rig):
    with copy_under_way(rig) as (_, _, migration):
        log = LogWatch(rig.a)
        rig.link(False)
        log.wait("disk connection 1 is lost", 60)
        rig.link(True)
        migration.finish(check=False)
        assert migration.status != 0 and LOST in migration.stderr, migration.stderr


def test_abort_while_disks_are_copied(rig):
    for options in ((), ("--p2p",)):
        with copy_under_way(rig, *options) as (guest, _, migration):
            rig.a.virsh("domjobabort", guest.name, uri=rig.a.uri())
            migration.finish(check=False)
            assert migration.status != 0
            assert "aborted" in migration.stderr or "canceled" in migration.stderr, migration.stderr


def test_client_killed_while_disks_are_copied(rig):
    with copy_under_way(rig) as (_, _, migration):
        migration.kill()


def test_helper_killed_while_disks_are_copied(rig):
    for host in rig.hosts:
        with copy_under_way(rig) as (_, _, migration):
            os.kill(host.helpers()[0], signal.SIGKILL)
            migration.finish(check=False)
            assert migration.status != 0, "it has succeeded without a helper"
            note(migration.stderr.strip())


def test_daemon_restarted_while_disks_are_copied(rig):
    """As a client that goes: the migration ends, nothing is left, and another one is as good as ever."""
    for host in rig.hosts:
        with copy_under_way(rig) as (_, _, migration):
            host.restart_daemon()
            migration.finish(check=False)
            assert migration.status != 0


def test_no_server_to_copy_to(rig):
    """A disk that the destination does not have is libvirt's to complain about."""
    disk = Disk(rig, "vda")
    guest = guest_with(rig, disk)
    rig.b.path(disk.file).unlink()
    migration = guest.migrate(rig.a, rig.b, *ALL, check=False)
    assert migration.status != 0
    note(migration.stderr.strip())
    stayed(rig, guest)


def test_calls_without_parameters_are_refused(rig):
    disk = Disk(rig, "vda", data=1)
    guest = guest_with(rig, disk)
    done = rig.a.run(["/usr/bin/python3", "-c", OLD_CALL, rig.a.uri(), rig.b.uri("tls"), guest.name], check=False)
    assert done.returncode != 0 and "virDomainMigrate3" in done.stderr, done.stderr
    stayed(rig, guest)
    rig.a.virsh("suspend", guest.name)      # no job is left behind
    nothing_left(rig)
