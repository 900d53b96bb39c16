# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's RPC protocol by hand, for frames that libvirt's own client would never send.

    with RpcClient(host.path(SOCKET)) as client:
        client.open()
        reply = client.call(CONNECT_GET_TYPE)

Nothing is checked on the way out. Sockets are unix sockets, named by a path seen from outside.
"""
import contextlib
import socket
import struct
from typing import NamedTuple

REMOTE, QEMU, KEEPALIVE = 0x20008086, 0x20008087, 0x6b656570
CALL, REPLY, MESSAGE, STREAM, CALL_WITH_FDS, REPLY_WITH_FDS, STREAM_HOLE = range(7)
OK, ERROR, CONTINUE = range(3)

CONNECT_OPEN, CONNECT_CLOSE, CONNECT_GET_TYPE, CONNECT_GET_VERSION = 1, 2, 3, 4
CONNECT_GET_CAPABILITIES, DOMAIN_DESTROY, DOMAIN_GET_XML_DESC, DOMAIN_LOOKUP_BY_NAME = 7, 12, 14, 23
AUTH_LIST, CONNECT_GET_URI, CONNECT_GET_LIB_VERSION = 66, 110, 157
KEEPALIVE_PING, KEEPALIVE_PONG = 1, 2
OPEN_READ_ONLY = 1

HEADER_LEN = 28
FRAME_MAX = 33554436                    # 32 MiB and the length word itself


def xdr_string(text):
    data = text.encode()
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def xdr_optional_string(text):
    return struct.pack(">I", 0) if text is None else struct.pack(">I", 1) + xdr_string(text)


def xdr_domain(name, uuid, number=-1):
    return xdr_string(name) + bytes.fromhex(uuid.replace("-", "")) + struct.pack(">i", number)


def frame(procedure, payload=b"", *, program=REMOTE, version=1, type=CALL, serial=0, status=OK,
          length=None):
    """The bytes of one frame; length: what its length word says, if not the truth."""
    if length is None:
        length = HEADER_LEN + len(payload)
    return struct.pack(">IIIiIII", length, program, version, procedure, type, serial, status) + payload


def open_frame(name="postcopy:///system", flags=0, serial=0):
    return frame(CONNECT_OPEN, xdr_optional_string(name) + struct.pack(">I", flags), serial=serial)


class Frame(NamedTuple):
    """A frame that came."""

    program: int
    version: int
    procedure: int
    type: int
    serial: int
    status: int
    payload: bytes

    @property
    def error(self):
        """(code, domain, message) of an error object."""
        assert self.status == ERROR, f"not an error: {self}"
        code, domain, present = struct.unpack_from(">iiI", self.payload)
        if not present:
            return code, domain, None
        size, = struct.unpack_from(">I", self.payload, 12)
        return code, domain, self.payload[16:16 + size].decode()

    @property
    def text(self):
        """The string that is all of a reply."""
        assert self.status == OK, f"an error: {self.error}"
        size, = struct.unpack_from(">I", self.payload)
        return self.payload[4:4 + size].decode()


class RpcClient:
    """One connection. Everything that waits does so for timeout seconds at most."""

    def __init__(self, path, timeout=20):
        self.serial = 0
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(str(path))
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    # -- sending ----------------------------------------------------------------------

    def send(self, data):
        self.sock.sendall(data)

    def send_fds(self, fds):
        """The descriptors that follow a frame: each goes with a byte of its own."""
        for fd in fds:
            socket.send_fds(self.sock, [b"\0"], [fd])

    def next_serial(self):
        self.serial += 1
        return self.serial

    # -- receiving --------------------------------------------------------------------

    def _receive_exactly(self, size):
        """None if the connection ended before the first byte."""
        data = bytearray()
        while len(data) < size:
            piece = self.sock.recv(min(size - len(data), 1 << 20))
            if not piece:
                if data:
                    raise ConnectionError(f"the connection ended after {len(data)} of {size} bytes")
                return None
            data += piece
        return bytes(data)

    def receive(self):
        """The next frame, or None at the end of the connection."""
        word = self._receive_exactly(4)
        if word is None:
            return None
        rest = self._receive_exactly(struct.unpack(">I", word)[0] - 4)
        return Frame(*struct.unpack_from(">IIiIII", rest), rest[HEADER_LEN - 4:])

    def reply(self, serial):
        """The reply to the call of that serial; events before it are dropped."""
        while True:
            came = self.receive()
            if came is None:
                raise ConnectionError("the connection ended instead of a reply")
            if came.type in (REPLY, REPLY_WITH_FDS) and came.serial == serial:
                return came

    def ended(self):
        """Reads on to the end of the connection; whether it comes within the timeout."""
        with contextlib.suppress(ConnectionError):      # closed with bytes unread
            try:
                while self.sock.recv(1 << 20):
                    pass
            except TimeoutError:
                return False
        return True

    # -- calls ------------------------------------------------------------------------

    def call(self, procedure, payload=b"", fds=(), **header):
        """Sends a call and returns its reply."""
        serial = self.next_serial()
        self.send(frame(procedure, payload, serial=serial, **header))
        self.send_fds(fds)
        return self.reply(serial)

    def open(self, name="postcopy:///system", flags=0):
        """Opens the connection as libvirt's client does; raises if it is refused."""
        serial = self.next_serial()
        self.send(open_frame(name, flags, serial))
        reply = self.reply(serial)
        if reply.status != OK:
            raise ConnectionError(f"not opened: {reply.error}")
        return self
