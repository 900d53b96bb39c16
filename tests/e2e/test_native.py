# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own migration between the two hosts, with none of this project in it: what the
rig and the guest are measured by before anything else is."""
import re
import time

from guest import MARKER, Guest, GuestCorrupted, stalls
from harness import note

RIG = {"daemon": False}


def describe(verdict):
    return f"{verdict['pages']} pages verified, {verdict['bad']} wrong, {verdict['touches']} touches"


def migrate_in_postcopy(rig, guest, *options):
    """Post-copy from a to b, switched to while half of the memory has yet to be sent.
    Returns (Migration, the guest's reports before and after)."""
    events = rig.b.events()
    before = guest.next_report(rig.a)
    migration = guest.start_native_migration(rig.a, rig.b, "--live", "--postcopy", *options)
    migration.wait_processed(guest.memory // 2)
    migration.switch_to_postcopy(rig.a.uri(scheme="qemu")).finish()
    after = guest.next_report(rig.b)
    assert "resumed/postcopy" in events.lifecycle(guest.name), events.lifecycle(guest.name)
    assert rig.a.domains() == [] and rig.b.domains() == [guest.name]
    events.stop()
    return migration, before, after


def test_postcopy_direct(rig):
    rig.shape("1gbit")
    guest = Guest(rig, 256).start(rig.a)
    migrate_in_postcopy(rig, guest)
    note(describe(guest.verdict(rig.b)))
    assert rig.b.state(guest.name).startswith("running")


def test_postcopy_peer_to_peer(rig):
    rig.shape("1gbit")
    guest = Guest(rig, 256).start(rig.a)
    migrate_in_postcopy(rig, guest, "--p2p")
    note(describe(guest.verdict(rig.b)))


def test_postcopy_after_precopy(rig):
    rig.shape("1gbit")
    guest = Guest(rig, 256).start(rig.a)
    guest.start_native_migration(rig.a, rig.b).finish()
    note(describe(guest.verdict(rig.b)))


def test_postcopy_stalls_at_one_gigabit(rig):
    rig.shape("1gbit")
    guest = Guest(rig, 512, hot=256, rate=0).start(rig.a)
    migration, before, after = migrate_in_postcopy(rig, guest)
    held = stalls(before, after)
    note(f"virsh took {migration.seconds:.1f} s; the guest's stalls: {held}")
    assert held["count"] > 0, "a post-copy migration without a single stall"
    note(describe(guest.verdict(rig.b)))


def test_precopy_of_an_idle_guest_and_back(rig):
    guest = Guest(rig, 64, hot=4, rate=2000).start(rig.a)
    guest.start_native_migration(rig.a, rig.b, "--live").finish()
    guest.start_native_migration(rig.b, rig.a, "--live").finish()
    note(describe(guest.verdict(rig.a)))


POKE = """
import socket, sys
address, = map(int, sys.argv[1:])
gdb = socket.create_connection(("127.0.0.1", 1234), 5)

def answer():
    text = b""
    while not text.endswith(b"#"):
        text += gdb.recv(1)
    gdb.recv(2, socket.MSG_WAITALL)
    gdb.sendall(b"+")
    return text.split(b"$")[-1][:-1].decode()

def command(text):
    gdb.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())
    while (said := answer()).startswith("T"):           # that the guest has stopped for us
        pass
    return said

was = int(command(f"m{address:x},1"), 16)
assert command(f"M{address:x},1:{was ^ 4:02x}") == "OK"
command("D")
"""


def flip_one_bit(host, guest, address):
    """Changes the guest's memory behind its back, through QEMU's debugger port."""
    host.virsh("qemu-monitor-command", guest.name, "--hmp", "gdbserver tcp:127.0.0.1:1234")
    host.run(["/usr/bin/python3", "-c", POKE, address])
    host.virsh("qemu-monitor-command", guest.name, "--hmp", "gdbserver none")


def test_guest_notices_a_single_wrong_bit(rig):
    guest = Guest(rig, 64).start(rig.a)
    guest.verdict(rig.a)
    flip_one_bit(rig.a, guest, 40 * 1024 * 1024 + 1237)
    try:
        guest.verdict(rig.a)
    except GuestCorrupted as found:
        note(str(found))
    else:
        raise AssertionError("the guest did not notice a changed bit of its memory")


def test_capture_finds_guest_memory_sent_in_clear(rig):
    guest = Guest(rig, 64, hot=4).start(rig.a)
    capture = rig.capture()
    guest.start_native_migration(rig.a, rig.b, "--live").finish()
    capture.stop()
    sent = sum(map(len, capture.streams().values()))
    assert capture.contains(MARKER, b"no such thing") == [MARKER]
    assert sent > 64 << 20 and not capture.dropped, f"{sent} bytes captured, {capture.dropped} packets lost"
    note(f"{sent} bytes captured")


CONSOLE = """
import os, select, sys, tty
line = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
tty.setraw(line)
os.write(line, b"is anybody there?")
heard = b""
while b"there?" not in heard and select.select([line], [], [], 5)[0]:
    heard += os.read(line, 100)
print(heard.decode())
"""


def test_second_serial_line_answers(rig):
    guest = Guest(rig, 16).start(rig.a)
    path = re.findall(r"source path='(/dev/pts/[0-9]+)'", rig.a.virsh("dumpxml", guest.name).stdout)[0]
    assert rig.a.run(["/usr/bin/python3", "-c", CONSOLE, path]).stdout.strip() == "is anybody there?"


def test_a_cut_link_is_silent(rig):
    rig.shape("200mbit")
    guest = Guest(rig, 128, rate=0).start(rig.a)
    migration = guest.start_native_migration(rig.a, rig.b, "--live").wait_processed(16)
    rig.drop(True)
    time.sleep(0.5)                     # what was under way has arrived
    before = rig.b.wire_bytes()[0]
    time.sleep(1)
    assert rig.b.wire_bytes()[0] - before < 100_000, "packets get through a link that was cut"
    assert migration.running
    rig.drop(False)
    rig.a.virsh("domjobabort", guest.name)
    assert migration.finish(check=False).status != 0
    note(describe(guest.verdict(rig.a)))
