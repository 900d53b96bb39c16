# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two things break at once, or the second before the first is mended."""
from course import Course
from cuts import connections, refused, reset
from guest import Guest
from harness import deadline, note, soak
from losses import kill_helpers
from migrating import arrived, stayed
from wait import wait_for

RIG = {"daemon_conf": {"keepalive_interval": 1, "keepalive_count": 3, "reconnect_timeout": 30, "auto_recover": 1}}
MEMORY = 64                             # MiB


def in_postcopy(rig, moment="mid post-copy"):
    """Returns (Course, the context of that moment)."""
    course = Course(rig, Guest(rig, MEMORY, rate=0).start(rig.a))
    return course, course.at(moment)


def arrives(rig, course, unnoticed=False):
    """Whatever the client was told; unnoticed: QEMU and libvirt on the destination have seen no failure."""
    guest = course.guest
    rig.unshape()
    course.migration.finish(check=False)
    note(f"virsh: {course.migration.stderr.strip() or 'done'}")
    wait_for(lambda: guest.name not in rig.a.domains(), lambda: "the guest gone from the source; it is "
             f"{rig.a.state(guest.name)}, on the destination {rig.b.state(guest.name)}", 60)
    wait_for(lambda: "post-copy" not in rig.b.state(guest.name), lambda: rig.b.state(guest.name), 30)
    arrived(rig, guest)
    if unnoticed:
        assert rig.b not in course.failed_in_postcopy(), course.lifecycle(rig.b)
    guest.destroy(rig.b)


def daemons_killed_and_link_cut(rig, *hosts):
    """The daemon that comes later finds a helper that has lost its peer, and mends that."""
    course, moment = in_postcopy(rig)
    with moment:
        for host in hosts:
            host.kill_daemon()
        reset(rig, connections(rig))
        for host in hosts:
            host.start_daemon()
    arrives(rig, course, unnoticed=True)


@deadline(60)
def test_source_daemon_killed_and_link_cut(rig):
    daemons_killed_and_link_cut(rig, rig.a)


@deadline(60)
def test_destination_daemon_killed_and_link_cut(rig):
    daemons_killed_and_link_cut(rig, rig.b)


@soak
@deadline(90)
def test_both_daemons_killed_and_link_cut(rig):
    daemons_killed_and_link_cut(rig, *rig.hosts)


def helper_killed_while_daemon_restarts(rig, daemon, helper):
    course, moment = in_postcopy(rig)
    with moment:
        daemon.kill_daemon()
        kill_helpers(helper)
        wait_for(lambda: not helper.helpers(), "the helper gone")
        daemon.start_daemon()
    arrives(rig, course)


@deadline(60)
def test_helper_killed_while_its_daemon_restarts(rig):
    helper_killed_while_daemon_restarts(rig, rig.a, rig.a)


@soak
@deadline(200)
def test_helper_killed_while_a_daemon_restarts(rig):
    for daemon, helper in ((rig.b, rig.b), (rig.a, rig.b), (rig.b, rig.a)):
        helper_killed_while_daemon_restarts(rig, daemon, helper)
        rig.reset()


@deadline(60)
def test_everything_but_the_guest_is_killed(rig):
    """Both helpers and both daemons at once."""
    course, moment = in_postcopy(rig)
    with moment:
        for host in rig.hosts:
            host.kill_daemon()
        kill_helpers(*rig.hosts)
        for host in rig.hosts:
            host.start_daemon()
    arrives(rig, course)


@deadline(60)
def test_helper_killed_while_the_link_is_cut(rig):
    course, moment = in_postcopy(rig)
    with moment, refused(rig):
        course.source.wait("the connection to the other host is lost")
        kill_helpers(rig.b)
        wait_for(lambda: not rig.b.helpers(), "the helper gone")
    arrives(rig, course)


@deadline(60)
def test_helper_killed_after_a_recovery(rig):
    """It has just begun to go on; another recovery follows."""
    course, moment = in_postcopy(rig, "recovery")
    with moment:
        pass
    course.source.wait("QEMU's migration: postcopy-active")
    kill_helpers(rig.b)
    arrives(rig, course)


@soak
@deadline(200)
def test_daemons_killed_in_a_recovery(rig):
    for hosts in ((rig.a,), (rig.b,), rig.hosts):
        course, moment = in_postcopy(rig, "recovery")
        with moment:
            for host in hosts:
                host.kill_daemon()
            reset(rig, connections(rig))
            for host in hosts:
                host.start_daemon()
        arrives(rig, course)
        rig.reset()


@deadline(60)
def test_daemon_and_link_in_precopy(rig):
    """Before the switch-over the guest stays, whatever breaks."""
    course, moment = in_postcopy(rig, "pre-copy")
    with moment:
        rig.a.kill_daemon()
        reset(rig, connections(rig))
        rig.a.start_daemon()
    rig.unshape()
    course.migration.finish(check=False)
    stayed(rig, course.guest)
    assert not course.failed_in_postcopy()
    course.guest.destroy(rig.a)
