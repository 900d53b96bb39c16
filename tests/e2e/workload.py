# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory clients of the tests: two processes with memory and threads that use it (tests/workload), one in each host,
and the migration between them.

    with Move(rig, "ram:anon:64", pattern="hot", threads=8) as move:
        move.connect()
        move.source.do("start-postcopy")
        move.completed()                # the outcome on both sides, and every byte verified
"""
import contextlib
import json
import re
import subprocess
import threading
import time

from host import INSIDE_BUILD
from wait import Timeout, wait_for

PROGRAM = f"{INSIDE_BUILD}/tests/workload/workload"
ENVIRONMENT = {"LD_LIBRARY_PATH": f"{INSIDE_BUILD}/client/.libs"}


class Ended(AssertionError):
    """The workload is gone, or said something that it should not have."""


class Workload:
    """One of them. Its events are dictionaries, see tests/workload/say.h; commands: commands.h."""

    def __init__(self, host, side, *options):
        self.host, self.side = host, side
        self.events = []
        self._seen = 0                  # of events, by do()
        self._changed = threading.Condition()
        self.log = f"workload-{side}-{host.next_number()}.out"
        with open(host.path(f"/var/log/libvirt/{self.log}"), "wb") as log:
            self.process = host.popen([PROGRAM, f"--{side}", *options], env=ENVIRONMENT, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=log, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self.events.append({"event": "gone", "t": time.monotonic()})
            self._changed.notify_all()

    def find(self, event, **details):
        """All such events so far."""
        return [e for e in list(self.events) if e["event"] == event and details.items() <= e.items()]

    def wait(self, *names, timeout=60, after=0, **details):
        """The first event of one of these names, of those from index after on."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for event in self.events[after:]:
                    if event["event"] in names and details.items() <= event.items():
                        return event
                    if event["event"] in ("gone", "ended"):
                        raise Ended(f"{self.side}: {event} before {names}; {self.host.log_tail(self.log, 5)}")
                if not self._changed.wait(deadline - time.monotonic()):
                    said = [e for e in self.events[after:] if e["event"] != "throttle"][-5:]
                    raise Timeout(f"after {timeout:g} s the {self.side}'s workload has not said {names} {details}, but "
                                  f"{said}")

    def send(self, line):
        """A command, whose answer is not waited for; returns the index from which that will be found."""
        with self._changed:
            after = len(self.events)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return after

    def do(self, line, *answers, timeout=60):
        """A command and its answer, one of these events ("done" if none is named)."""
        answers = answers or ("done",)
        after = self.send(line)
        answer = self.wait(*answers, "error", timeout=timeout, after=after)
        if answer["event"] == "error" and "error" not in answers:
            raise Ended(f"{self.side}: {line}: {answer['reason']}")
        return answer

    def connect(self, uri=None):
        """Returns the event "connected"; the destination's has the uri."""
        answer = self.do(f"connect {uri}" if uri else "connect", "connected", "refused")
        if answer["event"] == "refused":
            raise Ended(f"{self.side}: refused: {answer['reason']}")
        return answer

    def state(self, name, timeout=60):
        """Waits for one of QEMU's words."""
        return self.wait("state", name=name, timeout=timeout)

    def ended(self, outcome=None, timeout=60, nth=1):
        """The end of the nth connection."""
        after = 0
        for _ in range(nth):
            event = self.wait("ended", timeout=timeout, after=after)
            after = self.events.index(event) + 1
        if outcome and event["outcome"] != outcome:
            raise Ended(f"{self.side}: {event['outcome']} in the place of {outcome}: {event['error']}")
        return event

    def verify(self, timeout=120):
        """Every byte; returns what was looked at."""
        verdict = self.do("verify", "verified", timeout=timeout)
        stats = self.stats()
        if verdict["bad"] or stats["bad"]:
            raise Ended(f"{self.side}: {verdict['bad']} of {verdict['pages']} pages are wrong, and {stats['bad']} were "
                        f"seen to be: {verdict['first-bad']}")
        return verdict

    def stats(self):
        return self.do("stats", "stats")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        self.process.stdin.close()
        self.process.stdout.close()


def _summary(host, session):
    """The daemon's last word on a session; None before it."""
    lines = [line for line in host.log("virtpostcopyd.out").splitlines()
             if f"migration={session} " in line and " summary domain=" in line]
    return dict(re.findall(r'([\w-]+)=("[^"]*"|\S*)', lines[-1].partition(" summary ")[2])) if lines else None


class Move:
    """A workload on host a, its place on host b, and the migration from there to here. Options with underscores are
    those of the workload: rate=0, hashes=True, settings=("max-bandwidth=1",)."""

    def __init__(self, rig, *regions, settings=(), settings_destination=(), **options):
        self.rig = rig
        words = [word for region in regions for word in ("--region", region)]
        for name, value in options.items():
            option = "--" + name.replace("_", "-")
            words += [option] if value is True else [option, str(value)]
        self._workloads = contextlib.ExitStack()
        self.source = self._start(rig.a, "source", words, settings)
        self.destination = self._start(rig.b, "destination", words, settings_destination)

    def _start(self, host, side, words, settings):
        given = [word for setting in settings for word in ("--set", setting)]
        workload = Workload(host, side, *words, *given)
        self._workloads.callback(workload.close)
        return workload

    def __enter__(self):
        try:
            for workload in (self.source, self.destination):
                workload.wait("ready")
        except BaseException:
            self._workloads.close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        self._workloads.close()
        if error is None:
            self.helpers_gone()
        if isinstance(error, (Ended, Timeout)):
            last = [f"{w.side}: {[e for e in w.events if e['event'] != 'throttle'][-4:]}"
                    for w in (self.source, self.destination)]
            raise Ended(f"{error}; the last words: {'; '.join(last)}") from error

    def helpers_gone(self):
        """And with them what they had of the memory."""
        for host in self.rig.hosts:
            wait_for(lambda h=host: not h.helpers(), f"no helper left in {host.name}", 30)

    def connect(self):
        """Both to their daemons, the destination first; also to recover. Returns the source's answer."""
        return self.source.connect(self.destination.connect()["uri"])

    def postcopy(self):
        """Lets the guest go on over there as soon as it may."""
        self.source.do("start-postcopy")
        return self.destination.wait("running")

    def completed(self, timeout=120, nth=1):
        """Both have ended well, and all of the memory is right; returns the destination's verdict."""
        for workload in (self.source, self.destination):
            workload.ended("completed", timeout=timeout, nth=nth)
        return self.destination.verify()

    def counted(self):
        """What the helpers counted, by side: {"source": {name: text}, "destination": …}. After the end."""
        session = self.source.find("connected")[-1]["session"]
        found = {}
        for side, host in (("source", self.rig.a), ("destination", self.rig.b)):
            found[side] = wait_for(lambda h=host: _summary(h, session[:8]), f"a summary in {host.name}'s log")
        return found

    @property
    def postcopy_s(self):
        """From the end of the source's guest to the end of the migration."""
        return self.destination.ended()["t"] - self.source.find("paused")[0]["t"]

    @property
    def downtime_s(self):
        return self.destination.find("running")[0]["t"] - self.source.find("paused")[0]["t"]
