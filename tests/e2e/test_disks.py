# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks copied along (--copy-storage-*): relayed by the helpers over TLS, where the user names no way."""
import re

from disks import MARKER, MIB, Disk, guest_with
from guest import MARKER as MEMORY_MARKER
from harness import deadline, note
from migrating import POSTCOPY, arrived, nothing_left, stayed, summaries
from wait import wait_for

AFTER = (*POSTCOPY, "--postcopy-after-precopy")


def destroyed(rig, guest, host):
    guest.destroy(host)
    wait_for(lambda: not host.pids("qemu-system-x86_64"), f"no QEMU on {host.name}")


def copied(rig, guest, *disks):
    """The disks are the same on both hosts, now that nobody writes on them."""
    destroyed(rig, guest, rig.b)
    for disk in disks:
        here, there = disk.content(rig.a), disk.content(rig.b)
        assert here == there, f"{disk.target} differs"
        assert here.count(MARKER), f"{disk.target} is empty"
        disk.remove()


def disk_bytes(rig, guest):
    last = [s for s in summaries(rig.a) if s["domain"] == guest.name][-1]
    return int(last["disk-channels"]), int(last["wire-disks-bytes-sent"])


def migrates(rig, *options):
    disk = Disk(rig, "vda")
    guest = guest_with(rig, disk)
    guest.migrate(rig.a, rig.b, *AFTER, "--copy-storage-all", *options)
    arrived(rig, guest)
    channels, sent = disk_bytes(rig, guest)
    assert channels >= 1 and sent >= 32 * MIB, (channels, sent)
    note(f"{channels} disk channels, {sent >> 20} MiB sent on them")
    copied(rig, guest, disk)


def test_direct(rig):
    migrates(rig)


def test_peer_to_peer(rig):
    migrates(rig, "--p2p")
