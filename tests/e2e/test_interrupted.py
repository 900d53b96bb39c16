# SPDX-License-Identifier: LGPL-2.1-or-later
"""Migrations that somebody or something interrupts: aborted, clients and daemons killed, links cut.
Nothing is mended here by itself: what libvirt shows, and what its own recovery makes of it."""
import os
import signal

from guest import Guest
from harness import deadline, note, own_rig
from migrating import POSTCOPY, arrived, begin_in_postcopy, precopy_under_way, stayed
from wait import wait_for

RIG = {"daemon_conf": {"reconnect_timeout": 2, "auto_recover": 0}}


def test_abort_in_precopy(rig):
    guest = Guest(rig, 128, rate=0).start(rig.a)
    for options in ((), ("--p2p",)):
        migration = precopy_under_way(rig, guest, *options)
        rig.a.virsh("domjobabort", guest.name, uri="postcopy:///system")
        migration.finish(check=False)
        assert migration.status != 0
        assert "aborted" in migration.stderr or "canceled" in migration.stderr, migration.stderr
        rig.unshape()
        stayed(rig, guest)


def test_client_killed_in_precopy(rig):
    guest = Guest(rig, 128, rate=0).start(rig.a)
    precopy_under_way(rig, guest).kill()
    rig.unshape()
    stayed(rig, guest)
    # and nothing is in the way of another try
    guest.migrate(rig.a, rig.b)
    arrived(rig, guest)


def finished_by_itself(rig, guest):
    wait_for(lambda: guest.name not in rig.a.domains(), lambda: "the source's guest gone; it is "
             + rig.a.state(guest.name), 60)
    wait_for(lambda: "post-copy" not in rig.b.state(guest.name), lambda: "the guest out of post-copy; it is "
             + rig.b.state(guest.name), 30)
    arrived(rig, guest)


def test_client_killed_in_postcopy(rig):
    """Nobody waits for it any more, and it completes."""
    for options in ((), ("--p2p",)):
        guest = Guest(rig, 128, rate=0).start(rig.a)
        migration, _, _ = begin_in_postcopy(rig, guest, *options)
        migration.kill()
        finished_by_itself(rig, guest)
        guest.destroy(rig.b)


@deadline(240)
def test_daemon_killed_in_postcopy(rig):
    """Source, destination, both: the helpers finish, and the daemon starts again beside them."""
    for victims in ((rig.a,), (rig.b,), rig.hosts):
        guest = Guest(rig, 128, rate=0).start(rig.a)
        migration, _, _ = begin_in_postcopy(rig, guest)
        for host in victims:
            host.kill_daemon()
        migration.finish(check=False)
        note(f"killed on {', '.join(h.name for h in victims)}: virsh said {migration.stderr.strip() or 'nothing'}")
        for host in victims:
            host.start_daemon()
        finished_by_itself(rig, guest)
        guest.destroy(rig.b)


def test_daemon_stopped_in_postcopy(rig):
    """An orderly stop is no worse than a kill."""
    guest = Guest(rig, 128, rate=0).start(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest)
    assert rig.b.stop_daemon() == 0
    migration.finish(check=False)
    rig.b.start_daemon()
    finished_by_itself(rig, guest)


def paused(rig, guest):
    """Both sides know that the link is lost and wait to be recovered."""
    wait_for(lambda: "post-copy failed" in rig.a.state(guest.name), lambda: rig.a.state(guest.name), 30)
    wait_for(lambda: "post-copy failed" in rig.b.state(guest.name), lambda: rig.b.state(guest.name), 30)


def cut_in_postcopy(rig, guest, *options):
    """A link that goes away in mid-migration and stays away until both ends have noticed."""
    migration, _, _ = begin_in_postcopy(rig, guest, *options)
    rig.drop(True)
    wait_for(lambda: not rig.a.helpers() and not rig.b.helpers(), "the helpers to notice", 30)
    paused(rig, guest)
    rig.drop(False)
    migration.finish(check=False)
    assert migration.status != 0
    return migration


@deadline(300)
def test_resume_after_a_cut(rig):
    """libvirt's own recovery: Finish must never overtake the new stream."""
    for options in ((), ("--p2p",)):
        guest = Guest(rig, 128, rate=0).start(rig.a)
        migration = cut_in_postcopy(rig, guest, *options)
        note(f"after the cut virsh said: {migration.stderr.strip()}")
        guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-resume", *options)
        arrived(rig, guest)
        guest.destroy(rig.b)


@deadline(180)
def test_cut_twice_in_one_migration(rig):
    guest = Guest(rig, 192, rate=0).start(rig.a)
    cut_in_postcopy(rig, guest)
    migration = guest.start_migration(rig.a, rig.b, *POSTCOPY, "--postcopy-resume")
    wait_for(lambda: len(rig.a.helpers()) == 1 and len(rig.b.helpers()) == 1, "new helpers", 20)
    wait_for(lambda: "failed" not in rig.b.state(guest.name), "recovered", 20)
    rig.drop(True)
    wait_for(lambda: not rig.a.helpers() and not rig.b.helpers(), "the helpers to notice", 30)
    paused(rig, guest)
    rig.drop(False)
    migration.finish(check=False)
    assert migration.status != 0
    guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-resume")
    arrived(rig, guest)


def test_refused_abort_hides_no_reason(rig):
    """In post-copy libvirt refuses to abort; what fails later is still told by its own name."""
    guest = Guest(rig, 128, rate=0).start(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest, "--p2p")
    assert rig.a.virsh("domjobabort", guest.name, uri="postcopy:///system", check=False).returncode != 0
    pid, = rig.a.helpers()
    os.kill(pid, signal.SIGKILL)
    migration.finish(check=False)
    assert migration.status != 0
    assert "helper ended unexpectedly" in migration.stderr, migration.stderr
    rig.unshape()
    guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-resume", "--p2p")
    arrived(rig, guest)


def test_helper_killed_in_postcopy(rig):
    """The guest is not lost: libvirt's recovery works, and the message names the helper."""
    for victim in rig.hosts:
        guest = Guest(rig, 128, rate=0).start(rig.a)
        migration, _, _ = begin_in_postcopy(rig, guest)
        pid, = victim.helpers()
        os.kill(pid, signal.SIGKILL)
        paused(rig, guest)
        migration.finish(check=False)
        note(f"killed on {victim.name}: {migration.stderr.strip()}")
        assert migration.status != 0
        rig.unshape()
        guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-resume")
        arrived(rig, guest)
        guest.destroy(rig.b)


def test_helper_killed_in_precopy(rig):
    for victim in rig.hosts:
        guest = Guest(rig, 128, rate=0).start(rig.a)
        migration = precopy_under_way(rig, guest)
        pid, = victim.helpers()
        os.kill(pid, signal.SIGKILL)
        migration.finish(check=False)
        note(f"killed on {victim.name}: {migration.stderr.strip()}")
        assert migration.status != 0 and "helper" in migration.stderr, migration.stderr
        rig.unshape()
        stayed(rig, guest)
        guest.destroy(rig.a)


@own_rig
def test_link_cut_in_precopy(rig):
    guest = Guest(rig, 128, rate=0).start(rig.a)
    migration = precopy_under_way(rig, guest)
    rig.drop(True)
    wait_for(lambda: not rig.a.helpers() and not rig.b.helpers(), "the helpers to notice", 30)
    rig.drop(False)
    migration.finish(check=False)
    assert migration.status != 0
    note(f"virsh said: {migration.stderr.strip()}")
    rig.unshape()
    stayed(rig, guest)
