# SPDX-License-Identifier: LGPL-2.1-or-later
"""What went over the wire between the hosts: tcpdump, and a reader for its files."""
import re
import shutil
import signal
import struct
import subprocess

from wait import wait_for

ETHERTYPE_IP, ETHERTYPE_IP6 = 0x0800, 0x86dd
TCP = 6


def _packets(file):
    """The Ethernet frames of a pcap file."""
    header = file.read(24)
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}[header[:4]]
    while len(record := file.read(16)) == 16:
        yield file.read(struct.unpack(order + "IIII", record)[2])


def _segment(frame):
    """((source, port, destination, port), sequence, payload) of a TCP packet, else None."""
    kind, = struct.unpack_from(">H", frame, 12)
    if kind == ETHERTYPE_IP and frame[23] == TCP:
        start = 14 + (frame[14] & 15) * 4
        end = 14 + struct.unpack_from(">H", frame, 16)[0]
        addresses = frame[26:30], frame[30:34]
    elif kind == ETHERTYPE_IP6 and frame[20] == TCP:
        start = 54
        end = 54 + struct.unpack_from(">H", frame, 18)[0]
        addresses = frame[22:38], frame[38:54]
    else:
        return None
    source, target, sequence = struct.unpack_from(">HHI", frame, start)
    if frame[start + 13] & 2:           # SYN takes a number of its own
        sequence += 1
    payload = frame[start + (frame[start + 12] >> 4) * 4:end]
    return (addresses[0], source, addresses[1], target), sequence, payload


class Capture:
    """Every TCP packet of a host from now until stop()."""

    def __init__(self, host):
        self.host = host
        inside = f"/tmp/capture-{host.next_number()}.pcap"
        self.file = host.path(inside)
        self.report = host.path(f"{inside}.err")
        self.dropped = None             # packets the kernel could not keep; known after stop()
        with open(self.report, "wb") as err:
            self.process = host.popen(
                ["tcpdump", "-i", "eth0", "-n", "-s", "0", "-B", "131072", "-Z", "root", "-w", inside, "tcp"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        wait_for(lambda: "listening on" in self.report.read_text() or self.process.poll() is not None,
                 "tcpdump listening")
        if self.process.poll() is not None:
            raise RuntimeError(f"tcpdump: {self.report.read_text()}")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
        found = re.search(r"(\d+) packets? dropped by kernel", self.report.read_text())
        self.dropped = int(found.group(1)) if found else None
        return self

    def discard(self):
        """Frees the memory the packets take."""
        self.stop()
        self.file.unlink(missing_ok=True)

    def save(self, path):
        shutil.copyfile(self.file, path)

    def streams(self):
        """{(source address, port, destination address, port): bytes} of each direction of each
        connection, put together by sequence number (missing parts are left out)."""
        streams, ends = {}, {}
        with open(self.file, "rb") as file:
            for frame in _packets(file):
                segment = _segment(frame)
                if not segment or not segment[2]:
                    continue
                key, sequence, payload = segment
                end = ends.setdefault(key, sequence)
                offset = (sequence - end + (1 << 31)) % (1 << 32) - (1 << 31)
                fresh = payload if offset >= 0 else payload[-offset:]
                if fresh:
                    streams.setdefault(key, bytearray()).extend(fresh)
                    ends[key] = (sequence + len(payload)) % (1 << 32)
        return streams

    def contains(self, *needles):
        """Those of the byte strings that went over the wire in clear."""
        streams = self.streams().values()
        return [n for n in needles if any(n in stream for stream in streams)]
