# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands between two QEMUs on unix sockets, passes on what they say and records it."""
import contextlib
import pathlib
import socket
import threading

PIECE = 1 << 18


class Connection:
    """One that the source QEMU has made: files of what either side has sent.

    While swallow is set, that is recorded and goes no further."""

    def __init__(self, ours, theirs, directory, name):
        self.swallow = threading.Event()
        self.sockets = (ours, theirs)
        self.sent, self.returned = directory / f"{name}.sent", directory / f"{name}.returned"
        self.threads = [threading.Thread(target=self._pass_on, args=args, daemon=True)
                        for args in ((ours, theirs, self.sent), (theirs, ours, self.returned))]
        for thread in self.threads:
            thread.start()

    def _pass_on(self, source, target, record):
        with open(record, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                file.write(data)
                if not self.swallow.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self):
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def join(self, timeout=10):
        for thread in self.threads:
            thread.join(timeout)
            assert not thread.is_alive(), f"the connection of {self.sent.name} is still open"


class StreamRelay:
    """Listens for the source QEMU and joins each of its connections to one with the destination, in
    the order in which they come."""

    def __init__(self, directory, name, target):
        self.directory, self.name, self.target = pathlib.Path(directory), name, target
        self.path = self.directory / f"{name}.sock"
        self.connections = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):              # closed
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    theirs.connect(str(self.target))
                except OSError:
                    ours.close()
                    continue
                self.connections.append(Connection(ours, theirs, self.directory,
                                                   f"{self.name}-{len(self.connections)}"))

    def finished(self):
        """The connections, once both sides have closed them."""
        for connection in self.connections:
            connection.join()
        return self.connections

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)   # wakes accept()
        self._listener.close()
        for connection in self.connections:
            connection.cut()
            for sock in connection.sockets:
                sock.close()
