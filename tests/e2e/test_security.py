# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may move a guest where: certificates, names, tokens, and what a listener on the wire sees.
Whatever is refused is refused before a byte of the guest has left, and virsh says why."""
import contextlib
import os
import re
import subprocess

import pki
from guest import MARKER, Guest
from harness import note
from host import MIGRATION_PORT, TCP_PORT
from migrating import POSTCOPY, arrived, begin_in_postcopy, stayed

AFTER = (*POSTCOPY, "--postcopy-after-precopy")
PKI = "/etc/pki"


def small_guest(rig):
    return Guest(rig, 64, hot=2, rate=500).start(rig.a)


def refused(rig, guest, words, *options, transport="tcp"):
    """The client itself comes over TCP, so that what is refused is the session between helpers."""
    sent = rig.a.wire_bytes()[1]
    migration = guest.migrate(rig.a, rig.b, *AFTER, *options, check=False, transport=transport)
    assert migration.status != 0, "accepted"
    assert re.search(words, migration.stderr), f"{words!r} is not in: {migration.stderr}"
    assert rig.a.wire_bytes()[1] - sent < 1 << 20, "more than a handshake went over the wire"
    note(migration.stderr.strip())
    stayed(rig, guest)


@contextlib.contextmanager
def certificates(rig, host, authority=None, **roles):
    """Other certificates on a host for a while (helpers read them for each migration)."""
    pki.install(host.path(PKI), authority or rig.ca, **roles)
    try:
        yield
    finally:
        pki.install(host.path(PKI), rig.ca, server=host.certificate, client=host.certificate)


def both_ways(rig, guest, words):
    for options in ((), ("--p2p",)):
        refused(rig, guest, words, *options)


def test_unknown_ca_of_the_destination(rig):
    guest, other = small_guest(rig), rig.authority("Another CA")
    with certificates(rig, rig.b, other, server=other.issue(rig.b.name, [rig.b.ip])):
        both_ways(rig, guest, "certificate")


def test_unknown_ca_of_the_source(rig):
    """First one the source itself does not know either, then one that only the destination does not."""
    guest, other = small_guest(rig), rig.authority("Another CA")
    with certificates(rig, rig.a, client=other.issue(rig.a.name, purpose="client")):
        refused(rig, guest, "clientcert.pem")
        bundle = rig.a.path(f"{PKI}/{pki.CA_CERT}")
        bundle.write_text(bundle.read_text() + other.own.cert.read_text())
        refused(rig, guest, "refused.*certificate|certificate.*refused")


def test_expired_certificate_of_the_destination(rig):
    guest = small_guest(rig)
    with certificates(rig, rig.b, server=rig.ca.expired(rig.b.name, [rig.b.ip])):
        both_ways(rig, guest, "expired")


def test_expired_certificate_of_the_source(rig):
    guest = small_guest(rig)
    with certificates(rig, rig.a, client=rig.ca.expired(rig.a.name, purpose="client")):
        refused(rig, guest, "expired")


def test_certificate_for_another_host(rig):
    guest = small_guest(rig)
    with certificates(rig, rig.b, server=rig.ca.wrong_name()):
        both_ways(rig, guest, re.escape(rig.b.name))
        # the name to expect can be given
        guest.migrate(rig.a, rig.b, *AFTER, "--tls", "--tls-destination", "elsewhere.test", transport="tcp")
    arrived(rig, guest)


def test_missing_certificate_names_the_file(rig):
    guest = small_guest(rig)
    cert = rig.a.path(f"{PKI}/{pki.CLIENT_CERT}")
    cert.rename(f"{cert}.away")
    try:
        refused(rig, guest, "/etc/pki/libvirt/clientcert.pem")
    finally:
        os.rename(f"{cert}.away", cert)


def test_peer_that_is_not_on_the_allow_list(rig):
    guest = small_guest(rig)
    rig.b.restart_daemon(migration_allowed_dn_list=["CN=someone.else"])
    try:
        refused(rig, guest, "allow|DN|refused")
    finally:
        rig.b.restart_daemon(migration_allowed_dn_list=None)
        rig.b.write_daemon_conf()
    rig.b.restart_daemon()
    guest.migrate(rig.a, rig.b, *AFTER)
    arrived(rig, guest)


def test_preshared_key(rig):
    """PSK in place of certificates, and what is said when the keys differ."""
    guest = small_guest(rig)
    good, bad = {"hosts": os.urandom(32)}, {"hosts": os.urandom(32)}
    path = "/etc/libvirt/postcopy.psk"
    try:
        for host, keys in ((rig.a, bad), (rig.b, good)):
            pki.make_psk(host.path(path), keys)
            host.restart_daemon(migration_auth="psk", migration_psk_file=path)
        refused(rig, guest, "[Kk]ey|PSK|pre-shared")
        pki.make_psk(rig.a.path(path), good)
        guest.migrate(rig.a, rig.b, *AFTER)
        arrived(rig, guest)
    finally:
        for host in rig.hosts:
            host.write_daemon_conf()
            host.restart_daemon()


# -- tokens -------------------------------------------------------------------------------

@contextlib.contextmanager
def meddler(rig, how, *argument):
    """meddler.py in host a; yields (a URI for virsh, a function that gives the queries it has seen)."""
    process = rig.a.popen(["/usr/bin/python3", rig.a.script("meddler.py"), str(TCP_PORT), how, *argument],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        yield f"postcopy+tcp://127.0.0.1:{port}/system", process.stdout.readline
    finally:
        process.kill()
        process.wait()


def refused_by_uri(rig, guest, how, words, *argument):
    sent = rig.a.wire_bytes()[1]
    with meddler(rig, how, *argument) as (uri, next_query):
        migration = guest.migrate(rig.a, rig.b, *AFTER, check=False, uri=uri)
        query = next_query().strip()
    assert migration.status != 0, "accepted"
    assert re.search(words, migration.stderr), f"{words!r} is not in: {migration.stderr}"
    assert rig.a.wire_bytes()[1] - sent < 1 << 20
    note(migration.stderr.strip())
    stayed(rig, guest)
    return query


def test_wrong_token(rig):
    refused_by_uri(rig, small_guest(rig), "flip", "token")


def test_unknown_session(rig):
    refused_by_uri(rig, small_guest(rig), "session", "does not know this session")


def test_used_token(rig):
    """The URI of a migration that is over opens nothing."""
    guest = small_guest(rig)
    used = refused_by_uri(rig, guest, "flip", "token")
    refused_by_uri(rig, guest, "replace", "does not know this session", used)


def test_token_is_in_no_log(rig):
    guest = small_guest(rig)
    query = refused_by_uri(rig, guest, "flip", "token")
    token = query.partition("token=")[2]
    assert len(token) == 64
    for host in rig.hosts:
        assert token not in host.log("virtpostcopyd.out"), f"the token stands in the log of {host.name}"


def test_wire_shows_neither_memory_nor_token(rig):
    """Everything that crosses the link in a whole migration is captured and searched."""
    rig.shape("1gbit")
    guest = Guest(rig, 128).start(rig.a)
    capture = rig.capture()
    migration = guest.migrate(rig.a, rig.b)
    arrived(rig, guest)
    capture.stop()
    assert capture.dropped == 0, f"tcpdump lost {capture.dropped} packets"
    size = sum(len(s) for s in capture.streams().values())
    assert size > 100 << 20, f"only {size} bytes were captured"
    assert capture.contains(b"virt-postcopy/1\n"), "the capture does not even show the preamble"
    found = capture.contains(MARKER, b"token=", b"<domain", guest.name.encode())
    assert not found, found
    note(f"{size} bytes on the wire, none of the guest's in clear; virsh took {migration.seconds:.1f} s")


def test_a_plain_migration_does_show_memory(rig):
    """The search finds the guest's pages where they are in clear, so its silence above means something."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    capture = rig.capture()
    guest.migrate(rig.a, rig.b, "--live")
    capture.stop()
    assert capture.contains(MARKER)


# -- the migration port -------------------------------------------------------------------

KNOCK = """
import socket, sys
host, port, data, finish = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), sys.argv[4] == "1"
s = socket.create_connection((host, port), 5)
s.settimeout(15)
try:
    s.sendall(data)
    if finish:
        s.shutdown(socket.SHUT_WR)
    print((s.recv(100) or b"closed").hex())
except ConnectionResetError:
    print("reset")
"""


def knock(rig, data, finish=True):
    done = rig.a.run(["/usr/bin/python3", "-c", KNOCK, rig.b.name, MIGRATION_PORT, data.hex(), int(finish)])
    return done.stdout.strip()


def test_strangers_at_the_migration_port(rig):
    """Garbage, half a preamble, an unknown session: each closed alone, while a migration runs."""
    guest = Guest(rig, 128, rate=0).start(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest)
    magic = b"virt-postcopy/1\n"
    session = bytes.fromhex(session_of(rig.b))
    closed = (b"closed".hex(), "reset")
    assert knock(rig, b"GET / HTTP/1.0\r\n\r\n" + b"x" * 40) in closed
    assert knock(rig, b"") in closed
    assert knock(rig, magic + b"short") in closed
    assert knock(rig, magic + bytes(16)) == "02"
    assert knock(rig, b"virt-postcopy/2\n" + bytes(16)) in closed
    # the session of the migration that runs, but no TLS behind it
    assert knock(rig, magic + session).startswith("01")
    assert knock(rig, magic + session + b"not a ClientHello" * 20).startswith("01")
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    assert knock(rig, magic + session) == "02", "the session is still known after its end"


def session_of(host):
    """The session id of the newest migration, from the preamble that was captured."""
    found = re.findall(r"session=([0-9a-f]{32})", host.log("virtpostcopyd.out"))
    assert found, "no session id in the log"
    return found[-1]
