# SPDX-License-Identifier: LGPL-2.1-or-later
"""The second channel between the helpers, on which the guest's requests are answered: it is there
before the guest leaves, or the guest does not leave."""
import contextlib
import re
import subprocess

from guest import Guest
from harness import note
from host import MIGRATION_PORT
from migrating import POSTCOPY, arrived, stayed, summaries, went_through_helpers

AFTER = (*POSTCOPY, "--postcopy-after-precopy")
ELSEWHERE = 16599


def test_requests_have_a_channel_of_their_own(rig):
    rig.shape("1gbit")
    guest = Guest(rig, 128).start(rig.a)
    guest.migrate(rig.a, rig.b, *AFTER)
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    source, target = (summaries(host)[-1] for host in rig.hosts)
    note(f"source: {source}")
    note(f"destination: {target}")
    assert source["phase"] == "completed", source
    assert target["phase"] == "end", target
    for side in (source, target):
        counted = {name: int(side[name]) for name in ("pages-normal", "pages-zero", "pages-background", "pages-urgent",
                                                      "wire-preempt-bytes-sent", "wire-preempt-bytes-received")}
        assert counted["wire-preempt-bytes-sent"] > 0 < counted["wire-preempt-bytes-received"], counted
        assert counted["pages-urgent"] > 0 < counted["pages-background"], counted
        assert counted["pages-normal"] + counted["pages-zero"] == \
            counted["pages-background"] + counted["pages-urgent"], counted
    assert all(source[name] == target[name] for name in ("pages-normal", "pages-zero", "pages-urgent"))
    assert int(target["requests"]) > 0 < int(target["request-latency-p99-us"]), target
    assert target["requests-outstanding"] == "0", target


# -- when it cannot be had ----------------------------------------------------------------

@contextlib.contextmanager
def only_one_connection(rig, how):
    """The migration port of b is reached by way of a program in a that passes one connection on.
    Yields virsh's options for that, and a function that waits until a connection was refused."""
    rig.a.restart_daemon(migration_port=ELSEWHERE)
    rig.b.restart_daemon(host_name=rig.a.name)
    process = rig.a.popen(["/usr/bin/python3", rig.a.script("one_connection.py"), str(MIGRATION_PORT), rig.b.ip, how],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "listening\n"
        yield ("--tls", "--tls-destination", rig.b.name), process.stdout.readline
    finally:
        process.kill()
        process.wait()
        for host in rig.hosts:
            host.write_daemon_conf()
            host.restart_daemon()


def refused_for_want_of_a_channel(rig, how, words, *options):
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    with only_one_connection(rig, how) as (tls, was_refused):
        sent = rig.a.wire_bytes()[1]
        migration = guest.migrate(rig.a, rig.b, *AFTER, *tls, *options, check=False, transport="tcp")
        assert migration.status != 0, "accepted"
        said = f"cannot open the preempt channel to {rig.a.name}: {words}"
        assert re.search(said, migration.stderr), f"{said!r} is not in: {migration.stderr}"
        assert how == "closed" or was_refused() == "refused\n"
        assert rig.a.wire_bytes()[1] - sent < 1 << 20, "more than handshakes went over the wire"
        note(migration.stderr.strip())
        stayed(rig, guest)
        ended = [s for s in summaries(rig.b) if s["domain"] == guest.name]
        assert [s["state"] for s in ended] == ["cancelled"], ended
    guest.migrate(rig.a, rig.b, *AFTER)
    arrived(rig, guest)


def test_no_second_connection(rig):
    refused_for_want_of_a_channel(rig, "closed", "cannot reach the destination's migration port.*refused")


def test_no_second_connection_peer_to_peer(rig):
    refused_for_want_of_a_channel(rig, "closed", "cannot reach the destination's migration port.*refused", "--p2p")


def test_second_connection_is_cut(rig):
    refused_for_want_of_a_channel(rig, "cut", "cannot reach the destination's migration port")


def test_second_connection_says_nothing(rig):
    """The handshake has a deadline of its own."""
    refused_for_want_of_a_channel(rig, "mute", ".*")
