# SPDX-License-Identifier: LGPL-2.1-or-later
"""The link between the hosts is cut while a guest migrates: a cut that is over in time nobody but the
helpers notices; one that is not fails as libvirt documents it, and is recovered."""
import contextlib
import time

from course import BEFORE_SWITCH, MOMENTS, Course, LogWatch
from cuts import KINDS, LASTING, MOMENTARY, connections, cut
from guest import Guest
from harness import deadline, note, own_rig, soak
from migrating import POSTCOPY, arrived, stayed, summaries
from wait import wait_for

# A silent peer is found within three seconds, and waited for long enough for any of the short cuts.
RIG = {"daemon_conf": {"keepalive_interval": 1, "keepalive_count": 2, "reconnect_timeout": 20, "auto_recover": 1}}
DETECTION = 10                          # seconds within which a loss is noticed, at the latest
SHORT = 2                               # seconds of reconnect_timeout, where it shall pass
MEMORY = 64                             # MiB

LOST = "the connection to the other host is lost"


def busy_guest(rig, memory=MEMORY):
    return Guest(rig, memory, rate=0).start(rig.a)


def resumes(host, guest):
    """Connections that took the place of lost ones, as the host's summaries of that guest count them."""
    return sum(int(s.get("resumes", 0)) for s in summaries(host) if s["domain"] == guest.name)


def hold(rig, course, kind, moment):
    """Cuts the link in that way until the source has noticed it, and mends it. Returns how many
    connections were lost at least."""
    log = LogWatch(rig.a)
    with cut(rig, kind):
        if kind in MOMENTARY:               # in set-up the destination may not know the connection yet
            return 0 if moment == "set-up" else 1
        if moment == "set-up":
            time.sleep(1)               # who shakes hands is patient
            return 0
        log.wait(LOST, DETECTION)
        time.sleep(0.3)                 # so that a try to connect anew fails, too
        return 1


def unnoticed(rig, course, guest, at_least):
    """It arrives, and libvirt has never heard of a cut."""
    migration = course.release().finish()
    arrived(rig, guest)
    assert not course.failed_in_postcopy(), [course.lifecycle(host) for host in rig.hosts]
    counted = [resumes(host, guest) for host in rig.hosts]
    note(f"{migration.seconds:.1f} s; {counted} connections replaced")
    assert min(counted) >= at_least, counted
    guest.destroy(rig.b)


def survives(rig, kind, *moments):
    """Cuts at each of the moments in one migration."""
    guest = busy_guest(rig)
    course = Course(rig, guest)
    lost = 0
    for moment in moments:
        with course.at(moment):
            lost += hold(rig, course, kind, moment)
        wait_for(lambda: connections(rig) or not course.busy(), "a connection again", 20)
    unnoticed(rig, course, guest, lost)


# -- cuts that are over in time ----------------------------------------------------------------

@deadline(90)
def test_reset_at_each_moment(rig):
    """Both channels, in one migration: from the handshake to the last pages."""
    survives(rig, "reset", *MOMENTS[:-1])


@deadline(60)
def test_reset_of_one_channel(rig):
    for kind in ("reset of the main channel", "reset of the preempt channel"):
        survives(rig, kind, "pre-copy", "first requests")


@deadline(60)
def test_black_hole_in_postcopy(rig):
    survives(rig, "black hole", "mid post-copy")


@deadline(60)
def test_silent_stall(rig):
    """One direction of one port: only a heartbeat tells."""
    survives(rig, "stall", "pre-copy")


@deadline(60)
def test_half_open_connection(rig):
    """The destination still believes in the connection that another one replaces."""
    survives(rig, "half-open", "mid post-copy")


def recovers_from(rig, kind):
    """A cut while a recovery shakes hands: of its session, so that the recovery does not fail."""
    guest = busy_guest(rig)
    course = Course(rig, guest)
    with course.at("recovery"):
        failures = [len(course.lifecycle(host)) for host in rig.hosts]
        hold(rig, course, kind, "recovery")
    rig.unshape()
    course.migration.finish(check=False)
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from the source", 60)
    arrived(rig, guest)
    for host, before in zip(rig.hosts, failures):
        later = course.lifecycle(host)[before:]
        assert not [e for e in later if "postcopy_failed" in e], f"failed again: {course.lifecycle(host)}"
    guest.destroy(rig.b)


@deadline(60)
def test_reset_in_a_recovery(rig):
    recovers_from(rig, "reset")


@soak
@deadline(1800)
def test_every_cut_at_every_moment(rig):
    for kind in KINDS:
        for moment in MOMENTS[:-1]:
            note(f"{kind}, {moment}:")
            survives(rig, kind, moment)
            rig.reset()
        note(f"{kind}, recovery:")
        recovers_from(rig, kind)
        rig.reset()


# -- cuts that last longer than is waited for ------------------------------------------------------

@contextlib.contextmanager
def impatient(rig, **changes):
    """reconnect_timeout is short. The daemons are as they were in the end."""
    settings = {**RIG["daemon_conf"], "reconnect_timeout": SHORT, **changes}
    for host in rig.hosts:
        host.restart_daemon(**settings)
    try:
        yield
    finally:
        for host in rig.hosts:
            host.restart_daemon(**RIG["daemon_conf"])


def helpers_gone(rig):
    wait_for(lambda: not rig.a.helpers() and not rig.b.helpers(), "the helpers to give up", 30)


def fails_on_the_source(rig, kind, moment):
    guest = busy_guest(rig)
    course = Course(rig, guest)
    with course.at(moment), contextlib.ExitStack() as stack:
        stack.enter_context(cut(rig, kind))
        if moment == "set-up":              # the destination's waits to hear of it
            wait_for(lambda: not rig.a.helpers(), "the source's helper to give up", 30)
        else:
            helpers_gone(rig)
    course.migration.finish(check=False)
    assert course.migration.status != 0
    note(f"{kind}, {moment}: {course.migration.stderr.strip()}")
    assert not course.failed_in_postcopy()
    rig.unshape()
    stayed(rig, guest)
    assert not [e for e in course.lifecycle(rig.a) if e.startswith(("stopped", "shutdown"))], course.lifecycle(rig.a)
    guest.destroy(rig.a)


def fails_in_postcopy(rig, kind, moment):
    """Returns the Course, with the link whole again."""
    guest = busy_guest(rig)
    course = Course(rig, guest)
    with course.at(moment):
        with cut(rig, kind):
            helpers_gone(rig)
            course.wait_failed()
    for host in rig.hosts:
        assert not [e for e in course.lifecycle(host) if e.startswith(("stopped", "shutdown"))], course.lifecycle(host)
        assert guest.name in host.domains()
    for summary in (s for host in rig.hosts for s in summaries(host) if s["domain"] == guest.name):
        assert summary["state"] == "failed", summary
    rig.unshape()
    return course


def recovers_by_itself(rig, kind, moment):
    course = fails_in_postcopy(rig, kind, moment)
    course.migration.finish(check=False)
    guest = course.guest
    note(f"{kind}, {moment}: {course.migration.stderr.strip()}")
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from the source", 60)
    arrived(rig, guest)
    assert course.failed_in_postcopy() == list(rig.hosts)
    guest.destroy(rig.b)


def recovered_by_hand(rig, kind, moment, *options):
    course = fails_in_postcopy(rig, kind, moment)
    course.migration.finish(check=False)
    assert course.migration.status != 0
    guest = course.guest
    note(f"{kind}, {moment}: {course.migration.stderr.strip()}")
    guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-resume", *options)
    arrived(rig, guest)
    guest.destroy(rig.b)


@own_rig
@deadline(60)
def test_longer_cut_in_precopy_leaves_the_guest_on_the_source(rig):
    with impatient(rig):
        fails_on_the_source(rig, "refused", "pre-copy")


@own_rig
@deadline(60)
def test_longer_cut_in_postcopy_is_recovered(rig):
    with impatient(rig):
        recovers_by_itself(rig, "stall", "mid post-copy")


@own_rig
@deadline(60)
def test_longer_cut_in_postcopy_is_recovered_by_hand(rig):
    with impatient(rig, auto_recover=0):
        recovered_by_hand(rig, "refused", "first requests")


LONG = ("link down", "black hole", "stall", "stall back", "refused")


@own_rig
@soak
@deadline(1800)
def test_every_longer_cut_at_every_moment(rig):
    for changes, outcome in (({}, recovers_by_itself), ({"auto_recover": 0}, recovered_by_hand)):
        with impatient(rig, **changes):
            for kind in LONG:
                for moment in BEFORE_SWITCH:
                    fails_on_the_source(rig, kind, moment)
                for moment in ("first requests", "mid post-copy"):
                    outcome(rig, kind, moment)
                rig.reset()


@own_rig
@soak
@deadline(600)
def test_longer_cut_of_a_recovery(rig):
    """What would cost the guest if it were given up is waited for: see docs/failures.md."""
    with impatient(rig):
        for kind in LONG:
            guest = busy_guest(rig)
            course = Course(rig, guest)
            with course.at("recovery"), cut(rig, kind):
                time.sleep(DETECTION / 2 + 2 * SHORT)
                assert rig.a.helpers() and rig.b.helpers()
            rig.unshape()
            course.migration.finish(check=False)
            wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from the source", 90)
            arrived(rig, guest)
            guest.destroy(rig.b)
            rig.reset()
