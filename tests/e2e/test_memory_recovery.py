# SPDX-License-Identifier: LGPL-2.1-or-later
"""What breaks while the memory of a process is moved: links, helpers, daemons. In post-copy it goes on, or both
processes are told that it is paused and begin anew with what they have; before that the guest runs on at the source."""
import contextlib
import json
import os
import signal

from harness import deadline, note
from screen import PROGRAM
from wait import wait_for
from workload import Ended, Move

RECONNECT_S = 3
RIG = {"daemon_conf": {"reconnect_timeout": RECONNECT_S}}
MIB = 1 << 20
SLOW = ("max-bandwidth=5000000",)
CRAWL = (*SLOW, "max-postcopy-bandwidth=8000000")
KINDS = ("anon", "shmem")


@contextlib.contextmanager
def in_postcopy(rig, kind="anon", mib=48, **options):
    """A guest that runs over there, and most of whose memory is here."""
    with Move(rig, f"ram:{kind}:{mib}", hashes=True, settings=CRAWL, **options) as move:
        move.connect()
        move.postcopy()
        yield move


def hurry(move):
    move.source.do("set max-postcopy-bandwidth=0")


def kill_helpers(*hosts):
    for host in hosts:
        for pid in host.helpers():
            os.kill(pid, signal.SIGKILL)
    for host in hosts:
        wait_for(lambda h=host: not h.helpers(), f"no helper left in {host.name}")


def paused(move, nth=1):
    for workload in (move.source, move.destination):
        ended = workload.ended("paused", timeout=30, nth=nth)
        assert ended["error"], ended
        note(f"{workload.side}: {ended['error']}")
    assert not move.source.find("resumed")


def recover(move, nth=2):
    """Both connect again; all of the memory arrives, and nothing of it twice."""
    move.connect()
    hurry(move)
    return move.completed(nth=nth)


def log(host):
    return host.log("virtpostcopyd.out")


# -- the link ---------------------------------------------------------------------------------


def shown(host, *options):
    """The memory client's migration among those that virt-postcopy lists on the host."""
    said = json.loads(host.run([PROGRAM, "list", "--json", *options]).stdout)
    found, = [migration for migration in said["migrations"] if migration["domain"].startswith("memory/")]
    return found


@deadline(60)
def test_a_link_that_comes_back_is_an_interruption(rig):
    with in_postcopy(rig) as move:
        for workload, host in ((move.source, rig.a), (move.destination, rig.b)):
            seen = shown(host)
            assert seen["side"] == workload.side and seen["job"] == "running", seen
            wait_for(lambda h=host: shown(h)["stats"]["postcopy.phase"] in ("postcopy-active", "running"), "the phase")
            wait_for(lambda h=host: 0 < shown(h)["progress"] < 1, "progress")
        assert shown(rig.a)["uuid"] == shown(rig.b)["uuid"]
        rig.drop(True)
        wait_for(lambda: "the connection to the other host is lost" in log(rig.a), "the loss noticed", 20)
        assert shown(rig.a)["stats"]["postcopy.link"] == "lost"
        rig.drop(False)
        hurry(move)
        move.completed()
        assert not move.source.find("ended", outcome="paused")
    for host in rig.hosts:
        seen = shown(host, "--completed")
        assert seen["job"] == "completed" and seen["progress"] == 1, seen
        assert seen["domain"] not in host.domains() and "memory/" not in host.run([PROGRAM, "list"]).stdout


@deadline(60)
def test_a_link_that_is_lost_before_the_switch_is_an_interruption(rig):
    with Move(rig, "ram:anon:48", hashes=True, settings=SLOW) as move:
        move.connect()
        move.source.state("active")
        rig.link(False)
        wait_for(lambda: "the connection to the other host is lost" in log(rig.a), "the loss noticed", 20)
        rig.link(True)
        move.source.do("set max-bandwidth=0")
        move.postcopy()
        move.completed()


@deadline(120)
def test_a_link_that_stays_away_pauses_and_both_recover(rig):
    for kind in KINDS:
        with in_postcopy(rig, kind) as move:
            rig.drop(True)
            paused(move)
            rig.drop(False)
            verdict = recover(move)
            note(f"{kind}: {verdict['pages']} pages right")


@deadline(60)
def test_a_link_that_stays_away_before_the_switch_leaves_the_guest_at_the_source(rig):
    with Move(rig, "ram:anon:48", settings=SLOW) as move:
        move.connect()
        move.source.state("active")
        rig.drop(True)
        for workload in (move.source, move.destination):
            note(f"{workload.side}: {workload.ended('failed', timeout=30)['error']}")
        rig.drop(False)
        move.source.verify()


# -- helpers ----------------------------------------------------------------------------------


@deadline(120)
def test_a_killed_helper_of_either_side_pauses_and_both_recover(rig):
    for side in ("a", "b", "ab"):
        with in_postcopy(rig) as move:
            kill_helpers(*(host for host in rig.hosts if host.letter in side))
            paused(move)
            verdict = recover(move)
            note(f"{side}: {verdict['pages']} pages right")


@deadline(120)
def test_a_recovery_that_breaks_is_recovered(rig):
    with rig.hugepages(2 * 96), in_postcopy(rig, "huge", mib=96) as move:
        for nth in (1, 2, 3):
            kill_helpers(rig.b if nth % 2 else rig.a)
            paused(move, nth)
            move.connect()
        hurry(move)
        move.completed(nth=4)


@deadline(60)
def test_threads_that_wait_get_their_pages_after_a_recovery(rig):
    """A fault that the helper before has taken out of the userfaultfd is asked for by the next one."""
    with in_postcopy(rig, threads=64, rate=0) as move:
        kill_helpers(rig.b)
        paused(move)
        verdict = recover(move)
        stats = move.destination.stats()
        note(f"{verdict['pages']} pages right; {stats['stalls']} stalls, max {stats['stall-max-ns'] / 1e6:.0f} ms")


@deadline(60)
def test_a_helper_killed_before_the_switch_leaves_the_guest_at_the_source(rig):
    for host in rig.hosts:
        with Move(rig, "ram:anon:48", settings=SLOW) as move:
            move.connect()
            move.source.state("active")
            kill_helpers(host)
            for workload in (move.source, move.destination):
                note(f"{host.letter}, {workload.side}: {workload.ended('failed')['error']}")
            move.source.verify()


# -- daemons ----------------------------------------------------------------------------------


@deadline(60)
def test_daemons_that_are_killed_change_nothing(rig):
    with in_postcopy(rig) as move:
        for host in rig.hosts:
            host.kill_daemon()
        hurry(move)
        move.completed()


@deadline(60)
def test_the_next_daemon_dials_again_for_what_the_one_before_began(rig):
    with in_postcopy(rig) as move:
        for host in rig.hosts:
            host.kill_daemon()
        rig.drop(True)
        for host in rig.hosts:
            host.start_daemon()
        wait_for(lambda: "found the helper of domain memory/workload again" in log(rig.a), "the helper found", 20)
        wait_for(lambda: "the connection to the other host is lost" in log(rig.a), "the loss noticed", 20)
        rig.drop(False)
        hurry(move)
        move.completed()


# -- what goes to the wrong place -------------------------------------------------------------


def refused(workload, uri, *parts):
    try:
        workload.connect(uri)
    except Ended as refusal:
        for part in parts:
            assert part in str(refusal), refusal
        return str(refusal)
    raise AssertionError("it was not refused")


@deadline(60)
def test_a_uri_is_good_for_one_source(rig):
    with Move(rig, "ram:anon:48", settings=SLOW) as move, Move(rig, "ram:anon:48") as other:
        uri = move.destination.connect()["uri"]
        move.source.connect(uri)
        note(refused(other.source, uri, "this migration URI has been used before"))
        host_less = uri.replace("hostb.test", "hosta.test")
        note(refused(other.source, host_less))
        hurry(move)
        move.source.do("set max-bandwidth=0")
        move.completed()


@deadline(60)
def test_a_uri_whose_destination_has_gone_is_refused(rig):
    with Move(rig, "ram:anon:16") as move:
        uri = move.destination.connect()["uri"]
        move.destination.kill()
        wait_for(lambda: not rig.b.helpers(), "no helper left")
        note(refused(move.source, uri, "hostb.test"))
