# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames no stock client sends: the largest legal one, malformed ones, and clients that do not
play along. Whoever sends them is answered or closed; nobody else notices."""
import contextlib
import os
import signal
import struct
import time

import rpc_client as rpc
from guest import Guest
from harness import deadline, note
from rpc_client import FRAME_MAX, HEADER_LEN, RpcClient, frame, open_frame
from usage import highest_resident, no_descriptor_left, resident
from wait import wait_for

OURS, LIBVIRTS = "/run/libvirt/virtpostcopyd-sock", "/run/libvirt/libvirt-sock"
MIB = 1 << 20


def connect(rig, **options):
    return RpcClient(rig.a.path(OURS), **options)


def fresh_daemon(rig):
    """A daemon that has had no clients to keep memory from; how much it has."""
    rig.a.restart_daemon()
    rig.a.virsh("list", uri=rig.a.uri())
    return resident(rig.a.daemon.pid)


@contextlib.contextmanager
def nobody_else_notices(rig):
    """Another client is served before and after; no descriptor is left open."""
    with no_descriptor_left(rig.a.daemon.pid, rig.a.libvirtd.pid), connect(rig) as other:
        other.open()
        yield other
        assert other.call(rpc.CONNECT_GET_TYPE).text == "QEMU"


def closed_for(rig, reason, *pieces, fds=(), hang_up=False):
    """Sends the pieces on an open connection of their own: it is closed and the log says why."""
    seen = len(rig.a.log("virtpostcopyd.out"))
    with nobody_else_notices(rig), connect(rig) as client:
        client.open()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                client.send(piece)
            client.send_fds(fds)
        if hang_up:
            client.sock.shutdown(1)
        assert client.ended(), f"{reason}: not closed"
    wait_for(lambda: reason in rig.a.log("virtpostcopyd.out")[seen:],
             lambda: f"{reason!r} in the log; it says {rig.a.log('virtpostcopyd.out')[seen:]}", 5)


# -- lengths --------------------------------------------------------------------------


def test_largest_frame_is_answered(rig):
    room = FRAME_MAX - HEADER_LEN
    with nobody_else_notices(rig), connect(rig) as client:
        client.open()
        assert client.call(rpc.CONNECT_GET_TYPE, bytes(room)).text == "QEMU"
        # the protocol's longest string is one of 4 MiB, and the answer quotes the name
        name = rpc.xdr_string("n" * (4 * MIB - 100))
        refusal = client.call(rpc.DOMAIN_LOOKUP_BY_NAME, name + bytes(room - len(name)))
        assert refusal.error[0] == 42, refusal.error
        assert client.call(rpc.CONNECT_GET_TYPE).text == "QEMU"


def test_length_out_of_range_closes_that_client_alone(rig):
    for length in (FRAME_MAX + 1, 0xffffffff):
        closed_for(rig, f"length {length} is over the limit", frame(rpc.CONNECT_GET_TYPE, length=length))
    for length in (27, 4, 3, 0):
        closed_for(rig, f"length {length} is shorter than a header", struct.pack(">I", length))


def test_promised_bytes_cost_no_memory(rig):
    """Memory follows what has come, not what a length word promises."""
    before = fresh_daemon(rig)
    with nobody_else_notices(rig), contextlib.ExitStack() as clients:
        for _ in range(100):
            clients.enter_context(connect(rig)).send(frame(rpc.CONNECT_GET_TYPE, length=FRAME_MAX))
        time.sleep(0.5)
        grown = resident(rig.a.daemon.pid) - before
    note(f"100 clients that promise 32 MiB each cost {grown >> 10} KiB")
    assert grown < 32 * MIB, grown


# -- malformed frames -----------------------------------------------------------------


def test_garbage_closes_that_client_alone(rig):
    closed_for(rig, "over the limit", b"GET / HTTP/1.1\r\n\r\n")
    closed_for(rig, "unknown type", struct.pack(">I", 64) + b"\xa5" * 60)
    closed_for(rig, "unknown type 7", frame(rpc.CONNECT_GET_TYPE, type=7))
    closed_for(rig, "unknown status 3", frame(rpc.CONNECT_GET_TYPE, status=3))


def test_frame_that_ends_early_closes_that_client_alone(rig):
    whole = frame(rpc.CONNECT_GET_TYPE, bytes(1000))
    closed_for(rig, "ended inside the length, after 3 of 4 bytes", whole[:3], hang_up=True)
    closed_for(rig, "ended inside the frame, after 500 of 1028 bytes", whole[:500], hang_up=True)
    closed_for(rig, "ended before the frame's descriptors",
               frame(rpc.CONNECT_GET_TYPE, b"\0\0\0\1", type=rpc.CALL_WITH_FDS), hang_up=True)


def test_wrong_descriptors_close_that_client_alone(rig):
    def call(number):
        return frame(rpc.CONNECT_GET_TYPE, struct.pack(">I", number), type=rpc.CALL_WITH_FDS)

    pipe = os.pipe()
    try:
        for number in (33, 0xffffffff):
            closed_for(rig, f"{number} descriptors announced", call(number))
        closed_for(rig, "number of descriptors", frame(rpc.CONNECT_GET_TYPE, type=rpc.CALL_WITH_FDS))
        # announced, but an ordinary frame follows; some of them came
        closed_for(rig, "one descriptor was expected, 0 came", call(2), frame(rpc.CONNECT_GET_TYPE))
        with nobody_else_notices(rig), connect(rig) as client:
            client.open()
            client.send(call(2))
            client.send_fds(pipe[:1])
            client.send(b"\0")
            assert client.ended()
    finally:
        for fd in pipe:
            os.close(fd)


def test_as_many_descriptors_as_libvirt_takes_pass(rig):
    with nobody_else_notices(rig), connect(rig) as client, open(os.devnull, "rb") as null:
        client.open()
        reply = client.call(rpc.CONNECT_GET_TYPE, struct.pack(">I", 32), [null.fileno()] * 32,
                            type=rpc.CALL_WITH_FDS)
        assert reply.text == "QEMU"


# -- well-formed frames that mean nothing ---------------------------------------------


def answers(path, name, scenario):
    """What is said to the frames of a scenario: of replies all that does not name the URI."""
    with RpcClient(path) as client:
        return scenario(client, name)


SCENARIOS = {
    "before OPEN": lambda c, name: [c.call(rpc.CONNECT_GET_TYPE), c.call(rpc.AUTH_LIST)],
    "second OPEN": lambda c, name: [c.open(name) and c.call(rpc.CONNECT_OPEN, open_frame(name)[HEADER_LEN:]),
                                    c.call(rpc.CONNECT_GET_TYPE)],
    "unknown program": lambda c, name: [c.open(name) and c.call(1, program=0x1234)],
    "unknown version": lambda c, name: [c.open(name) and c.call(3, version=2)],
    "unknown procedure": lambda c, name: [c.open(name) and c.call(99999), c.call(-5), c.call(0)],
    "unknown procedure of QEMU's": lambda c, name: [c.open(name) and c.call(99, program=rpc.QEMU)],
    "call with an error's status": lambda c, name: [c.open(name) and c.call(3, status=rpc.ERROR)],
    "arguments cut short": lambda c, name: [c.open(name) and c.call(rpc.DOMAIN_LOOKUP_BY_NAME, b"\0\0\0\7a")],
    "string over its limit": lambda c, name: [c.open(name) and c.call(rpc.DOMAIN_LOOKUP_BY_NAME,
                                                                       struct.pack(">I", 4 * MIB + 1))],
}


def test_frames_of_unknown_meaning_get_libvirts_own_answer(rig):
    for what, scenario in SCENARIOS.items():
        with nobody_else_notices(rig):
            direct = answers(rig.a.path(LIBVIRTS), "qemu:///system", scenario)
            passed = answers(rig.a.path(OURS), "postcopy:///system", scenario)
        assert passed == direct, f"{what}: {passed} instead of {direct}"


def test_frames_nobody_waits_for_are_dropped(rig):
    """Replies, events and stream packets that belong to nothing: libvirtd passes over them."""
    with nobody_else_notices(rig), connect(rig) as client:
        client.open()
        for kind in (rpc.REPLY, rpc.MESSAGE, rpc.STREAM, rpc.STREAM_HOLE):
            client.send(frame(rpc.CONNECT_GET_TYPE, type=kind, serial=4711))
        assert client.call(rpc.CONNECT_GET_TYPE).text == "QEMU"


def test_malformed_open_is_refused(rig):
    with nobody_else_notices(rig), connect(rig) as client:
        for payload in (b"", b"\0\0\0\1", b"\0\0\0\2\0\0\0\0", b"\0\0\0\1\xff\xff\xff\xff"):
            reply = client.call(rpc.CONNECT_OPEN, payload)
            assert reply.error[0] == 39 and "CONNECT_OPEN" in reply.error[2], reply.error
        client.open()


def test_uri_comes_back_as_the_clients_own(rig):
    with connect(rig) as client:
        client.open()
        assert client.call(rpc.CONNECT_GET_URI).text == "postcopy:///system"


def test_keepalive_is_answered(rig):
    with connect(rig) as client:
        for _ in range(3):
            client.send(frame(rpc.KEEPALIVE_PING, program=rpc.KEEPALIVE, type=rpc.MESSAGE))
            pong = client.receive()
            assert (pong.program, pong.procedure) == (rpc.KEEPALIVE, rpc.KEEPALIVE_PONG), pong


# -- pace -----------------------------------------------------------------------------


def test_frame_in_single_bytes_is_answered(rig):
    with nobody_else_notices(rig) as other, connect(rig) as client:
        for byte in open_frame() + frame(rpc.CONNECT_GET_TYPE, serial=1):
            client.send(bytes([byte]))
            time.sleep(0.002)
            assert other.call(rpc.CONNECT_GET_TYPE).text == "QEMU"
        assert client.reply(0).status == rpc.OK
        assert client.reply(1).text == "QEMU"


def test_frames_in_one_piece_are_all_answered(rig):
    """libvirtd has several threads for them, so the order is not that of the calls."""
    with nobody_else_notices(rig), connect(rig) as client:
        client.open()
        client.send(b"".join(frame(rpc.CONNECT_GET_LIB_VERSION, serial=100 + i) for i in range(1000)))
        assert sorted(client.receive().serial for _ in range(1000)) == list(range(100, 1100))


def define_large(rig):
    """A domain whose description has three megabytes; names it as XDR does."""
    guest = Guest(rig, 32)
    large = f"<description>{'three megabytes ' * (3 * MIB // 16)}</description>"
    rig.a.path("/tmp/large.xml").write_text(guest.xml().replace("<memory", large + "<memory"))
    rig.a.virsh("define", "/tmp/large.xml")
    return rpc.xdr_domain(guest.name, guest.uuid)


@deadline(60)
def test_client_that_never_reads_costs_bounded_memory(rig):
    """Hundreds of megabytes are due to a client that reads none: the others are served, and when it
    reads in the end it has all of them."""
    calls, domain = 100, define_large(rig)
    before = fresh_daemon(rig)
    with nobody_else_notices(rig) as other, connect(rig) as client:
        client.open()
        client.send(b"".join(frame(rpc.DOMAIN_GET_XML_DESC, domain + bytes(4), serial=100 + i)
                             for i in range(calls)))
        grown = highest_resident(rig.a.daemon.pid, 3, lambda: other.call(rpc.CONNECT_GET_TYPE).text) - before
        note(f"{3 * calls} MiB of answers are due; the daemon grew by {grown >> 10} KiB")
        assert grown < 32 * MIB
        came = [client.receive() for _ in range(calls)]
        assert sorted(answer.serial for answer in came) == list(range(100, 100 + calls))
        assert all(len(answer.payload) > 3 * MIB for answer in came)


@deadline(60)
def test_server_that_never_reads_costs_bounded_memory(rig):
    """A client may push as much as it likes: what libvirtd does not take stays with the client."""
    before, sent = fresh_daemon(rig), 0
    with nobody_else_notices(rig), connect(rig, timeout=1) as client:
        client.open()
        rig.a.libvirtd.send_signal(signal.SIGSTOP)
        try:
            large = frame(rpc.CONNECT_GET_TYPE, bytes(4 * MIB), serial=4711)
            with contextlib.suppress(TimeoutError):
                while sent < 256 * MIB:
                    sent += client.sock.send(large[sent % len(large):])
            grown = resident(rig.a.daemon.pid) - before
        finally:
            rig.a.libvirtd.send_signal(signal.SIGCONT)
        note(f"{sent >> 20} MiB went off before the client was held; the daemon grew by {grown >> 10} KiB")
        assert grown < 32 * MIB and sent < 64 * MIB
        client.send(large[sent % len(large):] if sent % len(large) else b"")
        assert client.reply(4711).text == "QEMU"


# -- connections ----------------------------------------------------------------------


def test_silent_clients_hold_nobody_up(rig):
    with nobody_else_notices(rig) as other, contextlib.ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(connect(rig))
            assert other.call(rpc.CONNECT_GET_TYPE).text == "QEMU"
        rig.a.virsh("list", uri=rig.a.uri())


def test_many_connections_leave_nothing_behind(rig):
    with no_descriptor_left(rig.a.daemon.pid, rig.a.libvirtd.pid):
        for i in range(200):
            with connect(rig) as client:
                if i % 4 == 1:
                    client.send(b"\0\0")
                elif i % 4 == 2:
                    client.send(open_frame())
                elif i % 4 == 3:
                    client.open()
                    assert client.call(rpc.CONNECT_CLOSE).status == rpc.OK
