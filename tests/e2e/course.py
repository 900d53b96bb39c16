# SPDX-License-Identifier: LGPL-2.1-or-later
"""A migration that can be met at any of its moments.

    course = Course(rig, guest)
    with course.at("switch-over"):
        ...                             # something happens to it just then
    course.release().finish()

The moments come in the order of MOMENTS, and any of them may be left out. Where a moment is too short to
be met, a process on the destination is halted until the block is left.
"""
import contextlib
import os
import re
import signal
import subprocess

from migrating import POSTCOPY, RUN_DIR
from wait import wait_for

MOMENTS = ("set-up", "pre-copy", "switch-over", "first requests", "mid post-copy", "last pages", "recovery")
BEFORE_SWITCH = MOMENTS[:2]

# QEMU's own limit keeps pre-copy from ending, so that nothing waits in front of the network there.
PRECOPY_SPEED = "4"                     # MiB/s
LINK, FASTER, SLOWER, CRAWL = "60mbit", "400mbit", "8mbit", "1mbit"
# So that little gets ahead of the rate. A queue must never be replaced by one with a smaller burst: a
# packet in it that is larger than that would stay for ever.
TIGHT = "32kb", "128kb"
SWITCHED = "QEMU's migration: (device|postcopy-active)"
FRAMED = 1.02                           # bytes on the link for one of memory
MIB = 1 << 20


class LogWatch:
    """What is written to a log of a host from now on."""

    def __init__(self, host, name="virtpostcopyd.out"):
        self.host, self.name = host, name
        self.path = host.path(f"/var/log/libvirt/{name}")
        self.offset = self._size()

    def _size(self):
        return self.path.stat().st_size if self.path.exists() else 0

    def text(self):
        if not self.path.exists():
            return ""
        with open(self.path, "rb") as log:
            log.seek(self.offset)
            return log.read().decode(errors="replace")

    def find(self, pattern):
        """Lines in which it occurs."""
        return [line for line in self.text().splitlines() if re.search(pattern, line)]

    def wait(self, pattern, timeout=30, unless=lambda: None):
        """The first such line. unless: called in between; may raise what makes it pointless."""
        def look():
            found = self.find(pattern)
            if not found:
                unless()
            return found

        return wait_for(look, lambda: f"{pattern!r} in {self.name} of {self.host.name}", timeout, 0.002)[0]


@contextlib.contextmanager
def halted(*pids):
    """The processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):       # it was killed
                os.kill(pid, signal.SIGCONT)


class Course:
    """One migration of guest from rig.a to rig.b.

    options    virsh's, beside --live and --postcopy
    by_hand    a broken one is resumed by virsh, or else the daemons are waited for"""

    def __init__(self, rig, guest, *options, by_hand=False):
        self.rig, self.guest, self.options, self.by_hand = rig, guest, options, by_hand
        self.source, self.target = LogWatch(rig.a), LogWatch(rig.b)
        self.target_libvirtd = LogWatch(rig.b, "libvirtd.log")
        self.events = {host: [host.events()] for host in rig.hosts}
        self.migration = self.resume = None
        self.switched_at = None         # bytes that had come over the link when it was switched over

    # -- its moments ------------------------------------------------------------------------

    @contextlib.contextmanager
    def at(self, moment):
        """While entered, it is that far and, but for pre-copy and post-copy, comes no further."""
        with contextlib.ExitStack() as stack:
            reach = {"set-up": self._set_up, "pre-copy": self._precopy, "switch-over": self._switch_over,
                     "first requests": self._first_requests, "mid post-copy": self._mid_postcopy,
                     "last pages": self._last_pages, "recovery": self._recovery}[moment]
            reach(stack)
            yield self

    def busy(self):
        """virsh waits for it."""
        return self.migration is not None and self.migration.running

    def _must_go_on(self):
        assert self.busy(), f"virsh has ended: {self.migration.finish(check=False).stderr}"

    def _begin(self):
        if self.migration is None:
            self.rig.shape(LINK, *TIGHT)
            self.migration = self.guest.start_migration(self.rig.a, self.rig.b, *POSTCOPY, "--bandwidth",
                                                        PRECOPY_SPEED, *self.options)

    def _helper(self, host):
        pid, = host.helpers()
        return pid

    def _set_up(self, stack):
        """The helpers shake hands."""
        self._begin()
        self.target.wait("waiting for the source of domain", unless=self._must_go_on)
        stack.enter_context(halted(self._helper(self.rig.b)))
        self.source.wait("connected to .* port", unless=self._must_go_on)

    def _precopy(self, _stack):
        self._begin()
        self.target.wait("connected to the destination QEMU", unless=self._must_go_on)
        began = self.rig.b.wire_bytes()[0]
        wait_for(lambda: self.rig.b.wire_bytes()[0] - began > 4 * MIB, "4 MiB sent", 20)

    def _switch_over(self, stack):
        """The source's guest has stopped, and what the other needs to run is under way."""
        self._precopy(stack)
        self.rig.a.virsh("migrate-setspeed", self.guest.name, "1")
        with self._shell() as shell:
            # Not for long before the switch: little of QEMU's stream is taken while nobody answers.
            stack.enter_context(halted(self._helper(self.rig.b)))
            shell.stdin.write(f"migrate-postcopy {self.guest.name}\n")
            shell.stdin.flush()
            self._switched()

    @contextlib.contextmanager
    def _shell(self):
        """A virsh that is connected and waits for a command."""
        shell = self.rig.a.popen(["virsh", "-q", "-c", self.rig.a.uri(scheme="qemu")], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        try:
            shell.stdin.write("hostname\n")
            shell.stdin.flush()
            shell.stdout.readline()
            yield shell
            shell.communicate("quit\n", 30)
        finally:
            shell.kill()
            shell.wait()

    def _switch(self):
        self.rig.a.virsh("migrate-postcopy", self.guest.name)
        self._switched()

    def _switched(self):
        self.source.wait(SWITCHED, unless=self._must_go_on)
        self.switched_at = self.rig.b.wire_bytes()[0]

    def _in_postcopy(self, stack):
        if not self.switched_at:
            self._precopy(stack)
            self._switch()

    def _first_requests(self, stack):
        """The guest has just begun to run on the destination."""
        self._in_postcopy(stack)
        self.target_libvirtd.wait('"event": "RESUME"', unless=self._must_go_on)

    def _mid_postcopy(self, stack):
        self._first_requests(stack)
        began = self.rig.b.wire_bytes()[0]
        wait_for(lambda: self.rig.b.wire_bytes()[0] - began > 8 * MIB, "8 MiB sent in post-copy", 20)

    def _last_pages(self, stack):
        """The source QEMU has handed over everything, and the last of it is at the source's helper."""
        self._first_requests(stack)
        total = self.guest.pages() * 4096 * FRAMED
        for rate, left in ((FASTER, 12 * MIB), (LINK, 2 * MIB)):
            self.rig.shape(rate, *TIGHT)
            self._wait_sent(total - left)
        self.rig.shape(SLOWER, *TIGHT)
        wait_for(lambda: not self._written(), "everything taken from the source QEMU", 20, 0.002)
        self.rig.shape(CRAWL, *TIGHT)
        self._must_go_on()

    def _wait_sent(self, most):
        def sent():
            self._must_go_on()
            return self.rig.b.wire_bytes()[0] - self.switched_at >= most

        wait_for(sent, f"{most} bytes sent in post-copy", 30, 0.005)

    def _written(self):
        """Bytes that the source QEMU has written and its helper has not read yet."""
        listed = self.rig.a.run(["ss", "-Hxn", "state", "connected"]).stdout
        return sum(int(line.split()[2]) for line in listed.splitlines() if f"{RUN_DIR}/out-" in line)

    def _recovery(self, stack):
        """It has broken, and the QEMUs tell each other what is missing."""
        self._mid_postcopy(stack)
        self.break_session()
        self.target.wait("waiting for the source of domain", 60)
        self.source.wait("side=source .*connected to .* port")
        qemu, = self.rig.b.pids("qemu-system-x86_64")
        stack.enter_context(halted(qemu))
        self.source.wait("QEMU's migration: postcopy-recover")

    # -- more that may be done to it ----------------------------------------------------------

    def break_session(self):
        """Ends the session for good: the source's helper is killed. Then it is resumed."""
        self.source, self.target = LogWatch(self.rig.a), LogWatch(self.rig.b)
        os.kill(self._helper(self.rig.a), signal.SIGKILL)
        if self.by_hand:
            self.wait_failed()
            self.migration.finish(check=False)
            self.resume_by_hand()

    def wait_failed(self, timeout=40):
        """libvirt's post-copy failure on both hosts."""
        for host in self.rig.hosts:
            wait_for(lambda h=host: "post-copy failed" in h.state(self.guest.name),
                     lambda h=host: f"post-copy failed on {h.name}; it is {h.state(self.guest.name)}", timeout)

    def resume_by_hand(self):
        self.resume = self.guest.start_migration(self.rig.a, self.rig.b, *POSTCOPY, "--postcopy-resume", *self.options)
        return self.resume

    def listen_again(self, host):
        """libvirtd was started again there: its events are recorded from now on."""
        self.events[host].append(host.events())

    def release(self):
        """From here on it goes on as fast as it can. A pre-copy is switched over."""
        self.rig.unshape()
        if self.busy() and not self.switched_at:
            self._precopy(None)
            self._switch()
        return self

    def finish(self, check=True, timeout=60):
        """Waits for virsh, and for the virsh that resumes if there is one; returns the last of them."""
        last = self.resume or self.migration
        return last.finish(check, timeout)

    # -- what was seen of it ------------------------------------------------------------------

    def lifecycle(self, host):
        return [event for recorder in self.events[host] for event in recorder.lifecycle(self.guest.name)]

    def failed_in_postcopy(self):
        """The hosts that have said so by an event."""
        return [host for host in self.rig.hosts if any("postcopy_failed" in e for e in self.lifecycle(host))]
