# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process is killed at a moment of a migration, and started again if somebody would do that: what
becomes of the guest, and what everybody says of it."""
import os
import re
import signal
import subprocess
import time

from course import BEFORE_SWITCH, Course
from guest import Guest
from harness import note
from host import CommandFailed
from migrating import RUN_DIR, nothing_left, summaries, what_is_left
from wait import wait_for

MEMORY = 64                             # MiB
GAP = 1.0                               # seconds until a daemon is started again
SETTLE = 60                             # seconds for all to come to an end
FINAL = 5                               # seconds for which what seems to be the end must last
STUCK = 20                              # and for which nothing may change, if it is not an end

STAYS, ARRIVES, RECOVERS, BY_HAND, LOST = "stays", "arrives", "recovers", "by hand", "lost"
REMAINS = "arrives, remains"            # and the source keeps a domain that is paused

# What virsh says, by the first that is in its words.
SAYS = (
    (r"helper ended unexpectedly", "a helper ended"),
    (r"End of file while reading data|Cannot (recv|write|read) data|client socket is closed|Disconnected from",
     "connection lost"),
    (r"lost the peer|did not come back|cannot reach|[Cc]onnection reset|connection.* (closed|broke)",
     "the other host is lost"),
    (r"closed the monitor|cannot connect to the destination QEMU|domain is not running|Domain not found"
     r"|load of migration failed", "QEMU ended"),
    (r"failed in post-copy phase", "failed in post-copy"),
    (r"job 'migration out' failed", "failed in pre-copy"),
)


def kill_helpers(*hosts):
    for host in hosts:
        for pid in host.helpers():
            os.kill(pid, signal.SIGKILL)


def kill_qemu(host):
    for pid in host.pids("qemu-system-x86_64"):
        os.kill(pid, signal.SIGKILL)


def kill_source_daemon(course):
    course.rig.a.kill_daemon()
    return course.rig.a.start_daemon


def kill_target_daemon(course):
    course.rig.b.kill_daemon()
    return course.rig.b.start_daemon


def kill_source_libvirtd(course):
    host = course.rig.a

    def start():
        host.start_libvirtd()
        course.listen_again(host)

    host.stop_libvirtd(signal.SIGKILL)
    return start


# Each kills its victim and returns how that is started again, if it is.
PROCESSES = {
    "source helper": lambda course: kill_helpers(course.rig.a),
    "destination helper": lambda course: kill_helpers(course.rig.b),
    "both helpers": lambda course: kill_helpers(*course.rig.hosts),
    "source virtpostcopyd": kill_source_daemon,
    "destination virtpostcopyd": kill_target_daemon,
    "source libvirtd": kill_source_libvirtd,
    "destination QEMU": lambda course: kill_qemu(course.rig.b),
}


class Outcome:
    """where: one of STAYS to LOST; virsh: what it said, in the words of SAYS, or "done"."""

    def __init__(self, where, virsh, states, text=""):
        self.where, self.virsh, self.states, self.text = where, virsh, states, text

    def __eq__(self, other):
        return (self.where, self.virsh) == (other.where, other.virsh)

    def __str__(self):
        return f"{self.where}; virsh: {self.virsh}"


def virsh_words(migration):
    if migration.status == 0:
        return "done"
    for pattern, words in SAYS:
        if re.search(pattern, migration.stderr):
            return words
    return migration.stderr.strip().removeprefix("error: ").splitlines()[0][:60]


class Watcher:
    """Looks at both hosts until nothing changes any more; keeps every state it has seen."""

    def __init__(self, course):
        self.course, self.guest = course, course.guest
        self.seen = []                  # (source, destination): as virsh says, None: no such guest, "?": no answer

    def _state(self, host):
        if host.libvirtd is None:
            return "?"
        try:
            return host.state(self.guest.name) if self.guest.name in host.domains() else None
        except CommandFailed:           # it went between the two questions, or libvirtd did
            return "?"

    def look(self):
        states = tuple(self._state(host) for host in self.course.rig.hosts)
        if not self.seen or self.seen[-1] != states:
            self.seen.append(states)
        return states

    def failed_in_postcopy(self):
        return bool(self.course.failed_in_postcopy()) or any(
            state and "post-copy failed" in state for states in self.seen for state in states)

    @staticmethod
    def place(source, target):
        """Where the guest is, or None while that is not decided."""
        if source is None and target and target.startswith("running") and "post-copy" not in target:
            return ARRIVES
        if target is None and source and source.startswith("running"):
            return STAYS
        if target is None and (source is None or "post-copy" in source or source.startswith("paused")):
            return LOST
        return None

    def wait(self, seconds=SETTLE):
        """Returns where it is in the end, None if it is on both hosts and stays there."""
        deadline = time.monotonic() + seconds
        since, before = time.monotonic(), None
        while time.monotonic() < deadline:
            states = self.look()
            place = self.place(*states)
            if states != before:
                since, before = time.monotonic(), states
            # one that has failed may be resumed by the daemons; libvirt may take its time to throw away the source's
            undecided = SETTLE if self.place(None, states[1]) == ARRIVES else STUCK
            lasting = {ARRIVES: 0, STAYS: 1, LOST: FINAL}.get(place, undecided)
            if time.monotonic() - since >= lasting and (place != STAYS or not self.course.busy()):
                break
            self._switch_over(*states)
            time.sleep(0.2)
        source, target = self.look()
        return REMAINS if source and self.place(None, target) == ARRIVES else self.place(source, target)

    def _switch_over(self, source, target):
        """A pre-copy that goes on would never end."""
        if source and source.startswith("running") and target and self.course.busy():
            self.course.rig.a.virsh("migrate-postcopy", self.guest.name, check=False)


def lose(rig, moment, process):
    """Starts a guest and its migration, kills the process at that moment, and returns the Outcome.
    Raises if the guest is not whole, or somebody has said what is not so."""
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    course = Course(rig, guest)
    with course.at(moment):
        restart = PROCESSES[process](course)
    rig.unshape()
    watcher = Watcher(course)
    if restart:
        end = time.monotonic() + GAP
        while time.monotonic() < end:
            watcher.look()
            time.sleep(0.1)
        restart()
    outcome = settled(course, watcher)
    check_honest(course, watcher, moment, outcome)
    for host in rig.hosts:
        host.virsh("destroy", guest.name, check=False)
    wait_for(lambda: not what_is_left(rig.a.path(RUN_DIR)), "an end of all recovery", 40)
    return outcome


def settled(course, watcher):
    """Waits until the end, and does by hand what the daemons do not."""
    guest, rig = course.guest, course.rig
    place = watcher.wait()
    states = watcher.look()
    words = ended(course)
    if place is None:
        place = by_hand(course)
    elif place == ARRIVES and watcher.failed_in_postcopy():
        place = RECOVERS
    if place != LOST:
        guest.verdict(rig.a if place == STAYS else rig.b)
        nothing_left(rig)
    guest.check_clean()
    return Outcome(place, words, states, course.migration.stderr)


def by_hand(course):
    """libvirt's own resume, of what nobody has recovered."""
    guest, rig = course.guest, course.rig
    done = guest.migrate(rig.a, rig.b, "--live", "--postcopy", "--postcopy-resume", check=False)
    if done.status == 0:
        return BY_HAND
    note(f"cannot be resumed: {done.stderr.strip()}")
    return LOST


def ended(course):
    """What virsh said; it must have ended by now."""
    try:
        course.migration.finish(check=False, timeout=30)
    except subprocess.TimeoutExpired:
        return "does not end"
    return virsh_words(course.migration)


def check_honest(course, watcher, moment, outcome):
    """Nobody called the guest gone or done before it was."""
    rig, guest = course.rig, course.guest
    gone = outcome.where in (ARRIVES, RECOVERS, BY_HAND, REMAINS)
    for source, target in watcher.seen:
        if source is None or source == "shut off (migrated)":
            assert gone, f"the guest was gone from the source: {watcher.seen}"
            assert target == "?" or "running" in target and "post-copy" not in target, watcher.seen
        elif "shut off" in source or "crashed" in source:
            raise AssertionError(f"the source says what is not so: {watcher.seen}")
        assert target is None or not re.match("shut off|crashed", target), watcher.seen
    stopped = [e for e in course.lifecycle(rig.a) if e.startswith("stopped/")]
    assert not stopped or (gone and stopped == ["stopped/migrated"]), f"{outcome}: {stopped}, {watcher.seen}"
    completed = [s for host in rig.hosts for s in summaries(host)
                 if s["domain"] == guest.name and s["state"] == "completed"]
    assert gone or not completed, completed
    if moment in BEFORE_SWITCH:
        assert outcome.where in (STAYS, ARRIVES), f"{outcome} before the switch-over"
    history = ", then ".join(f"{source or 'gone'} / {target or 'gone'}" for source, target in watcher.seen)
    note(f"{moment}: {outcome}; {history}")
