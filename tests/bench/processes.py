# SPDX-License-Identifier: LGPL-2.1-or-later
"""What processes use while they are watched: processor time and memory. They may end meanwhile, so
they are looked at all the time and the last look counts."""
import contextlib
import os
import pathlib
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")
LOOK_S, FIND_S = 0.02, 0.1              # between two looks; between two searches for who is missing


def cpu_seconds(stat):
    """From /proc/PID/stat or that of a thread."""
    fields = pathlib.Path(stat).read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def busy_seconds():
    """Of all processors, since the machine's start: user, nice, system, and interrupts."""
    fields = pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return sum(int(fields[i]) for i in (1, 2, 3, 6, 7)) / TICK


def vcpu_threads(pid):
    """The stat files of a QEMU's threads that run the guest."""
    return [task / "stat" for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            if (task / "comm").read_text().startswith("CPU ")]


def peak_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise ProcessLookupError(pid)       # a zombie has none


class _Watched:
    def __init__(self, pid, began_before):
        self.pid = pid
        self.threads = []
        self.first = self.last = None
        self.began_before = began_before
        self.peak = 0

    def look(self):
        self.threads = self.threads or vcpu_threads(self.pid)   # not among the first that QEMU starts
        now = (cpu_seconds(f"/proc/{self.pid}/stat"), sum(map(cpu_seconds, self.threads)))
        self.first = self.first or (now if self.began_before else (0.0, 0.0))
        self.last = now
        self.peak = max(self.peak, peak_bytes(self.pid))

    def result(self):
        total, vcpu = (b - a for a, b in zip(self.first, self.last))
        return {"cpu_s": round(total, 2), "vcpu_s": round(vcpu, 2), "peak_bytes": self.peak}


class Watch:
    """with Watch(running, coming) as watch: …; then watch.summary().

    running: {label: pid} of processes that are there, of which only what they do from now on counts;
    coming: {label: function} for those that have yet to start: it returns their pid or None."""

    def __init__(self, running, coming=None):
        self.watched = {label: _Watched(pid, True) for label, pid in running.items()}
        self.coming = dict(coming or {})
        self._busy = busy_seconds()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._end.set()
        self._thread.join()
        self._look()
        self._busy = busy_seconds() - self._busy

    def _look(self):
        for watched in self.watched.values():
            with contextlib.suppress(OSError):          # has ended
                watched.look()

    def _find(self):
        for label, find in list(self.coming.items()):
            pid = find()
            if pid:
                with contextlib.suppress(OSError):
                    self.watched[label] = _Watched(pid, False)
                    del self.coming[label]

    def _run(self):
        searched = 0.0
        while not self._end.wait(LOOK_S):
            if self.coming and time.monotonic() - searched > FIND_S:
                self._find()
                searched = time.monotonic()
            self._look()

    def summary(self):
        """{"processes": {label: {"cpu_s", "vcpu_s": of it by threads that run a guest, "peak_bytes"}},
        "others_cpu_s": by everybody else, which is next to none on a machine at rest}."""
        found = {label: watched.result() for label, watched in self.watched.items() if watched.last}
        others = self._busy - sum(result["cpu_s"] for result in found.values())
        return {"processes": found, "others_cpu_s": round(max(0.0, others), 2)}
