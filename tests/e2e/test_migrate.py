# SPDX-License-Identifier: LGPL-2.1-or-later
"""Post-copy migrations by stock virsh through both daemons, each with the guest's own verdict."""
from guest import Guest
from harness import deadline, note
from host import TCP_PORT
from migrating import (POSTCOPY, arrived, begun_postcopy, begin_in_postcopy, nothing_left, precopy_under_way,
                       summaries, went_through_helpers)
from wait import wait_for

# What an event consumer sees of a good migration.
ON_SOURCE = ["suspended/migrated", "suspended/postcopy", "stopped/migrated"]
ON_TARGET = ["started/migrated", "resumed/postcopy", "resumed/migrated"]


def test_direct(rig):
    """--postcopy-after-precopy; the events on both hosts are libvirt's own and in its order."""
    rig.shape("1gbit")
    guest = Guest(rig, 256).start(rig.a)
    at_a, at_b = rig.a.events("postcopy:///system"), rig.b.events("postcopy:///system")
    guest.migrate(rig.a, rig.b)
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    wait_for(lambda: len(at_a.lifecycle(guest.name)) >= 3, "the source's last event")
    assert at_a.lifecycle(guest.name) == ON_SOURCE, at_a.lifecycle(guest.name)
    assert at_b.lifecycle(guest.name) == ON_TARGET, at_b.lifecycle(guest.name)


def test_peer_to_peer(rig):
    rig.shape("1gbit")
    guest = Guest(rig, 256).start(rig.a)
    at_b = rig.b.events()
    guest.migrate(rig.a, rig.b, *POSTCOPY, "--p2p", "--postcopy-after-precopy")
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    assert at_b.lifecycle(guest.name) == ON_TARGET, at_b.lifecycle(guest.name)


def test_peer_to_peer_over_tcp_and_ipv6(rig):
    guest = Guest(rig, 64).start(rig.a)
    guest.migrate(rig.a, rig.b, *POSTCOPY, "--p2p", "--postcopy-after-precopy", transport="tcp")
    arrived(rig, guest)
    guest.migrate(rig.b, rig.a, *POSTCOPY, "--p2p", "--postcopy-after-precopy",
                  target_uri=rig.a.uri("tls", v6=True))
    arrived(rig, guest, rig.b, rig.a)


# In place of ssh: checks how it was called, and goes to the host by plain TCP.
FAKE_SSH = """#!/usr/bin/python3
import os, socket, sys, threading
host, command = sys.argv[-2:]
assert "-T" in sys.argv and "BatchMode=yes" in sys.argv and "virt-ssh-helper" in command, sys.argv
s = socket.create_connection((host, {port}))
def out():
    while data := s.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=out, daemon=True).start()
while data := os.read(0, 65536):
    s.sendall(data)
"""


def test_peer_to_peer_over_ssh(rig):
    script = rig.a.path("/run/fake-ssh")
    script.write_text(FAKE_SSH.format(port=TCP_PORT))
    script.chmod(0o755)
    guest = Guest(rig, 64).start(rig.a)
    guest.migrate(rig.a, rig.b, *POSTCOPY, "--p2p", "--postcopy-after-precopy",
                  target_uri=f"postcopy+ssh://{rig.b.name}/system?command=/run/fake-ssh")
    arrived(rig, guest)
    went_through_helpers(rig, guest)


def test_switched_by_hand(rig):
    """virsh migrate-postcopy while pre-copy cannot converge."""
    guest = Guest(rig, 128, rate=0).start(rig.a)
    at_b = rig.b.events()
    migration = precopy_under_way(rig, guest)
    rig.a.virsh("migrate-postcopy", guest.name, uri="postcopy:///system")
    migration.finish()
    begun_postcopy(at_b, guest, 1)
    arrived(rig, guest)


def test_client_on_tls_at_both_ends(rig):
    """The client is on neither socket of the source host: TLS to it as well."""
    guest = Guest(rig, 64).start(rig.a)
    guest.migrate(rig.a, rig.b, uri=rig.a.uri("tls"))
    arrived(rig, guest)
    went_through_helpers(rig, guest)


def test_tls_flag_is_taken_by_the_session(rig):
    """--tls asks for what is done anyway; libvirtd has no TLS set up for QEMU and never hears of it."""
    guest = Guest(rig, 64).start(rig.a)
    guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-after-precopy", "--tls", "--tls-destination",
                  rig.b.name)
    arrived(rig, guest)


@deadline(240)
def test_there_and_back_ten_times(rig):
    guest = Guest(rig, 64).start(rig.a)
    here, there = rig.a, rig.b
    for _ in range(10):
        guest.migrate(here, there)
        here, there = there, here
    arrived(rig, guest, there, here)
    assert len([s for s in summaries(rig.a) if s["domain"] == guest.name]) == 10


@deadline(180)
def test_three_guests_at_once(rig):
    rig.shape("1gbit")
    guests = [Guest(rig, 64).start(rig.a) for _ in range(3)]
    migrations = [g.start_migration(rig.a, rig.b) for g in guests]
    for migration in migrations:
        migration.finish()
    for guest in guests:
        arrived(rig, guest)
        went_through_helpers(rig, guest)


def test_precopy_that_ends_before_postcopy_begins(rig):
    """An idle guest is through before anybody asks for post-copy: no post-copy phase at all."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    at_b = rig.b.events()
    guest.migrate(rig.a, rig.b, *POSTCOPY)
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    assert at_b.lifecycle(guest.name) == ["started/migrated", "resumed/migrated"], at_b.lifecycle(guest.name)


def test_plain_migration_is_libvirts_own(rig):
    """Without --postcopy nothing of ours takes part, and the memory goes where libvirt sends it."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    before = [len(summaries(host)) for host in rig.hosts]
    for options in (["--live"], ["--live", "--p2p"]):
        guest.migrate(rig.a, rig.b, *options)
        guest.verdict(rig.b)
        guest.migrate(rig.b, rig.a, *options)
    arrived(rig, guest, rig.b, rig.a)
    assert before == [len(summaries(host)) for host in rig.hosts]


def test_helpers_are_unprivileged(rig):
    """The helpers run as the unprivileged user, without new privileges, in their filter."""
    guest = Guest(rig, 128, rate=0).start(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest)
    for host in rig.hosts:
        pids = host.helpers()
        assert len(pids) == 1, (host.name, pids)
        with open(f"/proc/{pids[0]}/status", encoding="ascii") as status:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in status)
        assert set(fields["Uid"].split()) == {"65534"}, fields["Uid"]
        assert fields["NoNewPrivs"].strip() == "1" and fields["Seccomp"].strip() == "2", fields
        note(f"{host.name}: helper's peak memory {fields['VmHWM'].strip()}")
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    nothing_left(rig)
