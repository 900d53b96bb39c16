# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients made with python3-libvirt, to be run inside a host: `client.py COMMAND ARGUMENT…`.

    uri                       prints the URI that the server gives for the default connection
    graphics URI DOMAIN       prints what VNC says first, through both kinds of descriptor passing
    watch URI INTERVAL COUNT  prints lifecycle events, with keepalive on, until the connection ends
    load URI DOMAIN ROUNDS    makes many kinds of calls and checks each; prints how many in the end
                              (ROUNDS 0: until its standard input ends)
    roundtrip N URI…          prints the median time of N calls for each URI, in microseconds
"""
import contextlib
import select
import socket
import statistics
import sys
import threading
import time

import libvirt


def run_event_loop():
    """libvirt's events, keepalive and streams need somebody who runs them."""
    libvirt.virEventRegisterDefaultImpl()

    def loop():
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()


def uri():
    print(libvirt.open(None).getURI())


def graphics(target, name):
    domain = libvirt.open(target).lookupByName(name)
    with socket.socket(fileno=domain.openGraphicsFD(0, 0)) as ours:
        print(ours.recv(12).decode().strip())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        domain.openGraphics(0, theirs.fileno(), 0)
        theirs.close()
        print(ours.recv(12).decode().strip())


def watch(target, interval, count):
    libvirt.virEventRegisterDefaultImpl()
    conn = libvirt.open(target)

    def on_event(_conn, domain, event, detail, _opaque):
        print("event", domain.name(), event, detail, flush=True)

    def on_close(_conn, reason, _opaque):
        print("closed", reason, flush=True)
        sys.exit(0)

    conn.registerCloseCallback(on_close, None)
    conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_event, None)
    assert conn.setKeepAlive(int(interval), int(count)) == 0, "keepalive is not supported"
    print("ready", flush=True)
    while conn.isAlive():
        libvirt.virEventRunDefaultImpl()


class Load:
    """Calls of many kinds, whose results are known."""

    def __init__(self, target, name):
        self.target, self.name = target, name
        self.calls = 0
        self.conn = self.open()
        self.domain = self.conn.lookupByName(name)
        self.first = self.answers()

    def open(self):
        conn = libvirt.open(self.target)
        conn.setKeepAlive(1, 30)
        return conn

    def did(self, good, what):
        self.calls += 1
        if not good:
            raise AssertionError(f"call {self.calls}: {what}")

    def refused(self, code, function, *args):
        try:
            function(*args)
        except libvirt.libvirtError as error:
            self.did(error.get_error_code() == code, f"refused for another reason: {error}")
        else:
            self.did(False, f"{function} was not refused")

    def answers(self):
        """What must be the same each time."""
        return (self.conn.getLibVersion(), self.conn.getVersion(), self.conn.getHostname(),
                self.conn.getInfo()[0], self.conn.getMaxVcpus(None), self.domain.UUIDString(),
                self.domain.maxMemory(), self.domain.XMLDesc(0), self.domain.state())

    def round(self):
        self.did(self.answers() == self.first, "another answer than at first")
        self.calls += len(self.first) - 2               # the UUID is known to the client
        self.did(self.name in [d.name() for d in self.conn.listAllDomains()], "the domain is not listed")
        self.did(self.conn.lookupByName(self.name).ID() == self.domain.ID(), "another id")
        self.did(self.domain.info()[0] == libvirt.VIR_DOMAIN_RUNNING, "not running")
        self.refused(libvirt.VIR_ERR_NO_DOMAIN, self.conn.lookupByName, "nobody-has-this-name")
        self.refused(libvirt.VIR_ERR_OPERATION_INVALID, self.domain.create)
        self.refused(libvirt.VIR_ERR_NO_STORAGE_POOL, self.conn.storagePoolLookupByName, "nor-this")

    def long_round(self):
        """What takes longer: another connection, an event callback, capabilities, a stream."""
        other = self.open()
        callback = other.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                                lambda *_: None, None)
        other.domainEventDeregisterAny(callback)
        self.did("<capabilities>" in other.getCapabilities(), "no capabilities")
        picture = self.picture(other)
        self.did(picture[:2] == b"P6" or picture[1:4] == b"PNG", f"not a picture: {picture[:8]}")
        self.did(other.close() >= 0, "the connection did not close cleanly")
        self.calls += 5

    def picture(self, conn):
        picture, stream = bytearray(), conn.newStream(0)
        domain = conn.lookupByUUIDString(self.domain.UUIDString())
        self.did(domain.screenshot(stream, 0).startswith("image/"), "not an image")
        stream.recvAll(lambda _stream, data, _opaque: picture.extend(data), None)
        stream.finish()
        return picture


def load(target, name, rounds):
    run_event_loop()
    client = Load(target, name)
    print("ready", flush=True)
    done = 0
    while done < int(rounds) if int(rounds) else not select.select([sys.stdin], [], [], 0)[0]:
        client.round()
        if done % 10 == 0:
            client.long_round()
        done += 1
    print(client.calls)


def roundtrip(count, *targets):
    conns = [libvirt.open(target) for target in targets]
    times = [[] for _ in conns]
    for _ in range(int(count)):
        for conn, taken in zip(conns, times):
            began = time.perf_counter()
            conn.getLibVersion()
            taken.append(time.perf_counter() - began)
    for taken in times:
        print(round(statistics.median(taken) * 1e6, 1))


def main(command, *args):
    libvirt.registerErrorHandler(lambda *_: None, None)
    commands = {f.__name__: f for f in (uri, graphics, watch, load, roundtrip)}
    with contextlib.suppress(BrokenPipeError):
        commands[command](*args)


if __name__ == "__main__":
    main(*sys.argv[1:])
