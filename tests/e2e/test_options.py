# SPDX-License-Identifier: LGPL-2.1-or-later
"""virsh's options that change what a migration leaves behind, and those that are refused."""
from guest import Guest
from migrating import POSTCOPY, arrived, nothing_left, stayed, went_through_helpers

AFTER = (*POSTCOPY, "--postcopy-after-precopy")

# The client of virDomainMigrate(), which has flags and no typed parameters (procedures 213-218).
OLD_CALL = """
import sys, libvirt
source, target, name, how = sys.argv[1:]
src, dst = libvirt.open(source), None
dom = src.lookupByName(name)
flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_POSTCOPY
if how == "migrate":
    dst = libvirt.open(target)
    dom.migrate(dst, flags, None, None, 0)
else:
    dom.migrateToURI(target, flags | libvirt.VIR_MIGRATE_PEER2PEER, None, 0)
"""


def all_domains(host):
    return host.virsh("list", "--all", "--name").stdout.split()


def persistent_on(host, name):
    return "yes" in host.virsh("dominfo", name).stdout.split("Persistent:")[1].split("\n")[0]


def test_persistent_and_undefinesource(rig):
    guest = Guest(rig, 64, persistent=True).start(rig.a)
    guest.migrate(rig.a, rig.b, *AFTER, "--persistent", "--undefinesource")
    arrived(rig, guest)
    assert persistent_on(rig.b, guest.name)
    assert guest.name not in all_domains(rig.a)


def test_dname(rig):
    """The domain has another name on the destination, direct and peer-to-peer."""
    for options in ((), ("--p2p",)):
        guest = Guest(rig, 64).start(rig.a)
        guest.migrate(rig.a, rig.b, *AFTER, *options, "--dname", f"{guest.name}-moved")
        assert rig.b.domains() == [f"{guest.name}-moved"] and rig.a.domains() == []
        guest.verdict(rig.b)
        nothing_left(rig)
        rig.b.virsh("destroy", f"{guest.name}-moved")


def test_offline(rig):
    """A domain that does not run is copied as XML; nothing else happens."""
    guest = Guest(rig, 64, persistent=True).start(rig.a)
    guest.destroy(rig.a)
    for source, target, options in ((rig.a, rig.b, ()), (rig.b, rig.a, ("--p2p",))):
        guest.migrate(source, target, "--offline", "--persistent", "--undefinesource", *options)
        assert guest.name in all_domains(target) and guest.name not in all_domains(source)
    nothing_left(rig)


def test_calls_without_typed_parameters(rig):
    """virDomainMigrate() direct, and virDomainMigrateToURI() peer-to-peer."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    rig.a.run(["/usr/bin/python3", "-c", OLD_CALL, "postcopy:///system", rig.b.uri("tls"), guest.name, "migrate"])
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    rig.b.run(["/usr/bin/python3", "-c", OLD_CALL, "postcopy:///system", rig.a.uri("tls"), guest.name, "touri"])
    arrived(rig, guest, rig.b, rig.a)


def refused(rig, guest, *options, words, **where):
    migration = guest.migrate(rig.a, rig.b, *options, check=False, **where)
    assert migration.status != 0, f"{options} was accepted"
    assert words in migration.stderr, migration.stderr
    # a job that was left behind would refuse this
    rig.a.virsh("suspend", guest.name)
    rig.a.virsh("resume", guest.name)


def test_what_cannot_be_is_refused_and_said_why(rig):
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    for options, words in (
            (("--tunnelled", "--p2p"), "--tunnelled"),
            (("--zerocopy", "--parallel"), "--zerocopy"),
            (("--migrateuri", f"rdma://{rig.b.name}"), "tcp://HOST[:PORT]"),
            (("--p2p", "--migrateuri", f"rdma://{rig.b.name}"), "tcp://HOST[:PORT]"),
            (("--listen-address", "192.0.2.77"), "--listen-address"),
            (("--compressed", "--comp-methods", "mt", "--comp-mt-level", "10"), "--comp-mt-level"),
            (("--suspend",), "")):
        refused(rig, guest, *POSTCOPY, *options, words=words)
    stayed(rig, guest)


def test_tunnelled_is_refused_without_postcopy_too(rig):
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    refused(rig, guest, "--live", "--p2p", "--tunnelled", words="tunnelled")
    stayed(rig, guest)


def test_a_destination_without_the_daemon_gets_no_byte(rig):
    """qemu+tcp:// as the destination would be an ordinary migration in clear."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    sent = rig.a.wire_bytes()[1]
    for options in ((), ("--p2p",)):
        refused(rig, guest, *POSTCOPY, *options, words="postcopy://", target_uri=rig.b.uri("tcp", "qemu"))
    assert rig.a.wire_bytes()[1] - sent < 1 << 20
    stayed(rig, guest)


def test_a_source_without_the_daemon_gets_no_byte_out(rig):
    """The URI from Prepare means nothing to a stock source: it fails at once and sends nothing."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    sent = rig.a.wire_bytes()[1]
    migration = guest.migrate(rig.a, rig.b, *POSTCOPY, check=False, uri="qemu:///system")
    assert migration.status != 0
    assert rig.a.wire_bytes()[1] - sent < 1 << 20
    stayed(rig, guest)
