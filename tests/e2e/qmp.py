# SPDX-License-Identifier: LGPL-2.1-or-later
"""A QEMU of one's own, spoken to in QMP: for what is tested without libvirt."""
import contextlib
import ctypes
import json
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """For preexec_fn: the process ends when the one that started it does, however it does."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class QmpError(Exception):
    """QEMU refused a command; the text is QEMU's own."""


class QmpClosed(Exception):
    """QEMU has closed its monitor: it has ended."""


class Qmp:
    """One monitor connection. Commands and waiting are for one thread only.

    events holds every event so far, oldest first, as {"t": seconds since the epoch by QEMU's
    clock, "type": name, "details": data}."""

    def __init__(self, sock, name):
        self.sock, self.name = sock, name
        self.events = []
        self._buffer = b""
        self._read_message(10)                          # the greeting
        self.execute("qmp_capabilities")

    def close(self):
        self.sock.close()

    def execute(self, command, timeout=30, **arguments):
        """What the command returns. "_" in argument names stands for QMP's "-"."""
        message = {"execute": command}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            self.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise QmpClosed(f"{self.name}: {command}: {error.strerror}") from error
        deadline = time.monotonic() + timeout
        while True:
            answer = self._read_message(deadline - time.monotonic())
            if answer is None:
                raise TimeoutError(f"{self.name}: no answer to {command} after {timeout:g} s")
            if "error" in answer:
                raise QmpError(f"{self.name}: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def read_events(self, seconds=0.0):
        """Takes in the events there are, waiting that long for the first."""
        while self._read_message(seconds) is not None:
            seconds = 0.0

    def find(self, event, **details):
        """The events of that name whose data is as given."""
        return [e for e in self.events if e["type"] == event
                and all(e["details"].get(k) == v for k, v in details.items())]

    def _read_message(self, timeout):
        """The next message, also put into events if it is one; None if none comes in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                return None
            except ConnectionError:
                data = b""
            if not data:
                raise QmpClosed(f"{self.name} has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message = json.loads(line)
        if "event" in message:
            at = message["timestamp"]
            self.events.append({"t": at["seconds"] + at["microseconds"] / 1e6, "type": message["event"],
                                "details": message.get("data", {})})
        return message


class Qemu:
    """A QEMU started with these arguments, and its monitor as qmp. It ends with this program.

    log is the file its complaints go to."""

    def __init__(self, name, argv, log, env=None):
        self.name, self.log = name, log
        self.qmp = None
        ours, theirs = socket.socketpair()
        with theirs, open(log, "wb") as out:
            self.process = subprocess.Popen(            # pylint: disable=consider-using-with
                [*map(str, argv), "-chardev", f"socket,id=monitor,fd={theirs.fileno()}",
                 "-mon", "chardev=monitor,mode=control"],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                start_new_session=True, preexec_fn=die_with_parent)
        try:
            self.qmp = Qmp(ours, name)
        except QmpClosed:
            ours.close()
            self.close()
            raise RuntimeError(f"{name} did not start: {self.complaints()}") from None
        except BaseException:
            ours.close()
            self.close()
            raise

    def complaints(self):
        """What it wrote to its log, on one line."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "; ".join(line.strip() for line in file if line.strip())

    def close(self):
        """Ends it; its disks are of no concern here."""
        if self.qmp:
            with contextlib.suppress(OSError):
                self.qmp.close()
        self.process.kill()
        self.process.wait()
