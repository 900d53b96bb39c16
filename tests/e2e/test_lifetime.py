# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's life: libvirtd gone and back, the daemon's own start and end."""
import contextlib
import signal
import time

import rpc_client as rpc
from harness import own_rig
from host import TCP_PORT, TLS_PORT
from rpc_client import RpcClient, frame

SOCKETS = ("virtpostcopyd-sock", "virtpostcopyd-sock-ro")


def connect(rig, **options):
    return RpcClient(rig.a.path(f"/run/libvirt/{SOCKETS[0]}"), **options)


def sockets(rig):
    return [name for name in SOCKETS if rig.a.path(f"/run/libvirt/{name}").exists()]


def works(rig):
    assert rig.a.virsh("hostname", uri=rig.a.uri()).stdout.strip() == rig.a.name


def test_missing_libvirtd_is_named(rig):
    rig.a.stop_libvirtd()
    for host, uri, option, names in ((rig.a, rig.a.uri(), [], "/run/libvirt/libvirt-sock: No such file"),
                                     (rig.a, rig.a.uri(), ["-r"], "/run/libvirt/libvirt-sock-ro: No such file"),
                                     (rig.b, rig.a.uri("tls"), [], "/run/libvirt/libvirt-sock: No such file")):
        done = host.run(["virsh", "-c", uri, *option, "list"], check=False)
        assert done.returncode == 1 and names in done.stderr, done
        assert "/run/libvirt/virtqemud-sock" in done.stderr, done
    rig.a.start_libvirtd()
    works(rig)


def test_clients_are_closed_with_libvirtd(rig):
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(rig)) for _ in range(5)]
            for client in clients[1:]:
                client.open()
            events = rig.a.events(uri=rig.a.uri())
            rig.a.stop_libvirtd(signum)
            for client in clients:
                assert client.ended()
            events.wait("closed")
            events.stop()
        rig.a.start_libvirtd()
        works(rig)


def test_sigterm_ends_it_in_order(rig):
    """Status 0, no sockets left, the clients closed, whatever they were at."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(rig)) for _ in range(4)]
        for client in clients[1:]:
            client.open()
        clients[2].send(frame(rpc.CONNECT_GET_TYPE, bytes(1000))[:500])
        clients[3].send(frame(rpc.KEEPALIVE_PING, program=rpc.KEEPALIVE, type=rpc.MESSAGE))
        remote = [rig.b.popen(["/usr/bin/python3", "-c", REMOTE, rig.a.ip, str(port)], stdout=-1)
                  for port in (TLS_PORT, TCP_PORT)]
        for process in remote:
            assert process.stdout.readline() == b"connected\n"
        began = time.monotonic()
        assert rig.a.stop_daemon() == 0
        assert time.monotonic() - began < 5
        for client in clients:
            assert client.ended()
        for process in remote:
            assert process.communicate(timeout=10)[0] == b"closed\n"
    assert sockets(rig) == []
    rig.a.start_daemon()
    works(rig)


REMOTE = """
import contextlib, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print("connected", flush=True)
with contextlib.suppress(ConnectionError):
    assert sock.recv(1) == b""
print("closed")
"""


def test_sigterm_does_not_wait_for_who_never_reads(rig):
    with connect(rig) as client:
        client.open()
        client.send(b"".join(frame(rpc.CONNECT_GET_CAPABILITIES, serial=100 + i) for i in range(300)))
        time.sleep(1)
        assert rig.a.stop_daemon() == 0
    assert sockets(rig) == []


def test_second_daemon_leaves_the_first_alone(rig):
    second = rig.a.run(rig.a.daemon_command, check=False, timeout=20)
    assert second.returncode == 1, second
    assert "virtpostcopyd.pid" in second.stderr, second.stderr
    second = rig.a.run([*rig.a.daemon_command, "--pid-file", "/tmp/second.pid"], check=False, timeout=20)
    assert second.returncode == 1, second
    assert "somebody else listens on /run/libvirt/virtpostcopyd-sock" in second.stderr, second.stderr
    assert sockets(rig) == list(SOCKETS)
    works(rig)


def test_killed_daemon_is_succeeded(rig):
    """What SIGKILL leaves behind, the sockets among it, does not keep the next one from starting."""
    with connect(rig) as client:
        client.open()
        rig.a.kill_daemon()
        assert client.ended()
    assert sockets(rig) == list(SOCKETS)
    refused = rig.a.run(["virsh", "-c", rig.a.uri(), "list"], check=False)
    assert refused.returncode == 1 and "virtpostcopyd-sock" in refused.stderr, refused
    rig.a.start_daemon()
    works(rig)


@own_rig
def test_max_clients_makes_others_wait(rig):
    rig.a.restart_daemon(max_clients=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(rig).open()) for _ in range(3)]
        waiting = rig.a.popen(["virsh", "-q", "-c", rig.a.uri(), "hostname"], stdout=-1, stderr=-2, text=True)
        time.sleep(0.5)
        assert waiting.poll() is None
        for client in clients:
            assert client.call(rpc.CONNECT_GET_TYPE).text == "QEMU"
        clients[0].close()
        assert waiting.communicate(timeout=10)[0].strip() == rig.a.name
    works(rig)
