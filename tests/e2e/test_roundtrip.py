# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a call costs through the daemon, beside what it costs directly: shown, not judged."""
from harness import note

CALLS = 2000


def compare(host, what, direct, passed):
    done = host.run(["/usr/bin/python3", host.script("client.py"), "roundtrip", CALLS, direct, passed])
    before, after = map(float, done.stdout.split())
    note(f"{what}: {before:.0f} µs direct, {after:.0f} µs through virtpostcopyd, {after - before:+.0f} µs "
         f"(median of {CALLS} calls)")
    assert before > 0 and after > 0


def test_cost_of_a_call(rig):
    compare(rig.a, "unix socket", rig.a.uri(scheme="qemu"), rig.a.uri())
    compare(rig.b, "plain TCP", rig.a.uri("tcp", "qemu"), rig.a.uri("tcp"))
    compare(rig.b, "TLS, beside plain TCP", rig.a.uri("tcp", "qemu"), rig.a.uri("tls"))
