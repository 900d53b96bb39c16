# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ten clients at once, of both hosts and all transports; the result of each of their calls is checked."""
import subprocess

from guest import Guest
from harness import deadline, note
from migrating import arrived

UNTIL_TOLD = 0


class Loads:
    """Clients of client.py that are all connected and at work."""

    def __init__(self, rounds, *where):
        """where: (host, URI, domain) of each."""
        self.clients = [host.popen(["/usr/bin/python3", host.script("client.py"), "load", uri, name, rounds],
                                   text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT) for host, uri, name in where]
        for client in self.clients:
            line = client.stdout.readline()
            assert line == "ready\n", line + client.stdout.read()

    def finish(self, timeout=60):
        """The number of calls each made; raises what the first saw go wrong."""
        calls = []
        for client in self.clients:
            assert client.poll() in (None, 0), client.stdout.read()
            client.stdin.close()
            client.stdin = None
        for client in self.clients:
            answer, _ = client.communicate(timeout=timeout)
            assert client.returncode == 0, answer
            calls.append(int(answer))
        return calls


def local_and_remote(host, other, name):
    return [(host, host.uri(), name)] * 3 + [(other, host.uri("tls"), name), (other, host.uri("tcp"), name)]


@deadline(150)
def test_ten_clients_at_once(rig):
    guest = Guest(rig, 32, video=True).start(rig.a, ready=False)
    calls = Loads(60, *local_and_remote(rig.a, rig.b, guest.name) * 2).finish(120)
    note(f"{sum(calls)} calls, all answered as expected")
    assert len(calls) == 10 and min(calls) > 500, calls


@deadline(240)
def test_ten_clients_during_a_migration(rig):
    """Five of each host, which see nothing of it; the guest arrives."""
    seen_by = [Guest(rig, 32, rate=1000, video=True).start(host, ready=False) for host in rig.hosts]
    rig.shape("500mbit")                # or pre-copy would be done before post-copy can begin
    guest = Guest(rig, 256, hot=64).start(rig.a)
    loads = Loads(UNTIL_TOLD, *local_and_remote(rig.a, rig.b, seen_by[0].name),
                  *local_and_remote(rig.b, rig.a, seen_by[1].name))
    events = rig.b.events()
    migration = guest.migrate(rig.a, rig.b)
    calls = loads.finish()
    assert "resumed/postcopy" in events.lifecycle(guest.name), events.lifecycle(guest.name)
    events.stop()
    note(f"{sum(calls)} calls in {migration.seconds:.1f} s of migration, all answered as expected")
    assert min(calls) > 50, calls
    arrived(rig, guest)
