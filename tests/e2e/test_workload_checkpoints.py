# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that follows another one on the other host by checkpoints: its memory is that of the last of them when the
source is lost, and it goes on with that."""
import os
import random
import signal
import time

from harness import deadline, note
from wait import wait_for
from workload import Move

RIG = {"daemon_conf": {"reconnect_timeout": 3}}
BOTH = ("checkpoints=1",)
MIB = 1 << 20


def follow(rig, *regions, settings=(), **options):
    return Move(rig, *regions, hashes=True, settings=(*BOTH, *settings), settings_destination=BOTH, **options)


def complete(move, nth, timeout=60):
    """Until there are so many checkpoints, and the source's guest goes on."""
    for workload, event in ((move.source, "resumed"), (move.destination, "running")):
        wait_for(lambda w=workload, e=event: len(w.find(e)) >= nth, f"checkpoint {nth} at the {workload.side}", timeout)


def right_at_last(move):
    """Every byte of the destination's memory is what it has to be, most of them by the hash of the source's."""
    verdict = move.destination.verify()
    assert verdict["unwritten"] > 0, verdict
    return verdict


def goes_on_alone(move, timeout=30):
    ended = move.destination.ended("failed-over", timeout=timeout)
    before = move.destination.stats()["touches"]
    wait_for(lambda: move.destination.stats()["touches"] > before, "the guest at work")
    return ended, right_at_last(move)


def checkpoints(move, first, last):
    for nth in range(first, last + 1):
        if nth > 1:
            move.source.do("checkpoint")
        complete(move, nth)
        # Both guests go on, each its own way.
        for workload in (move.source, move.destination):
            before = workload.stats()["writes"]
            wait_for(lambda w=workload, b=before: w.stats()["writes"] > b + 50, f"writes at the {workload.side}")


def with_source_killed(rig, *regions, **options):
    with follow(rig, *regions, settings=("bulk-channels=2", "xbzrle-cache=16777216"), **options) as move:
        move.connect()
        checkpoints(move, 1, 4)
        right_at_last(move)             # both run, and what is written here is known
        move.source.kill()
        ended, verdict = goes_on_alone(move)
        assert ended["error"], ended
        stops = [e["t"] for e in move.source.find("paused")]
        goes = [e["t"] for e in move.source.find("resumed")]
        note(f"{verdict['pages']} pages right after 4 checkpoints, {verdict['unwritten']} of them by hash; the source "
             f"stood still for {', '.join(f'{(g - s) * 1000:.0f}' for s, g in zip(stops, goes))} ms; {ended['error']}")


@deadline(120)
def test_private_memory_goes_on_from_the_last_checkpoint(rig):
    with_source_killed(rig, "ram:anon:48", pattern="hot")


@deadline(120)
def test_shared_memory_goes_on_from_the_last_checkpoint(rig):
    with_source_killed(rig, "ram:shmem:32", "low:anon:8", pattern="random")


@deadline(120)
def test_huge_pages_go_on_from_the_last_checkpoint(rig):
    with rig.hugepages(2 * 16):
        with_source_killed(rig, "ram:huge:16", pattern="random")


@deadline(120)
def test_checkpoints_at_intervals_until_the_link_is_lost(rig):
    """The link goes somewhere in one of them: what is not complete is as if it had not been."""
    with follow(rig, "ram:anon:32", settings=("checkpoint-interval=100",), rate=5000) as move:
        move.connect()
        complete(move, 5)
        rig.drop(True)
        try:
            ended, verdict = goes_on_alone(move, timeout=60)
            # Who lives, lives: whoever manages the two decides which one it is to be.
            assert move.source.ended("failed", timeout=60)["error"]
        finally:
            rig.drop(False)
        move.source.verify()
        note(f"{len(move.source.find('resumed'))} checkpoints, {verdict['pages']} pages right: {ended['error']}")


@deadline(120)
def test_the_source_is_killed_at_any_time(rig):
    """In the midst of a checkpoint as often as not."""
    for kind, seed in (("anon", 1), ("shmem", 2), ("anon", 3), ("shmem", 4)):
        chance = random.Random(seed)
        with follow(rig, f"ram:{kind}:24", settings=("checkpoint-interval=20",), pattern="random", seed=seed) as move:
            move.connect()
            complete(move, 2)
            time.sleep(chance.uniform(0, 0.3))
            move.source.kill()
            _, verdict = goes_on_alone(move)
            states = [e["name"] for e in move.destination.find("state")]
            note(f"{kind}: {len(move.destination.find('running'))} checkpoints, killed in {states[-1]}, "
                 f"{verdict['unwritten']} of {verdict['pages']} pages right by hash")


@deadline(120)
def test_the_helper_of_the_destination_dies(rig):
    """The second copy goes with it. The guest that runs has all of its memory."""
    with follow(rig, "ram:anon:32") as move:
        move.connect()
        checkpoints(move, 1, 2)
        for pid in rig.b.helpers():
            os.kill(pid, signal.SIGKILL)
        goes_on_alone(move)
        move.source.ended("failed", timeout=60)
        move.source.verify()


@deadline(120)
def test_a_guest_is_given_up_on_purpose(rig):
    """The last checkpoint, and the other host's guest is the only one from there on."""
    with follow(rig, "ram:anon:32") as move:
        move.connect()
        checkpoints(move, 1, 2)
        move.source.do("stop")
        move.source.do("failover")
        move.source.ended("completed")
        goes_on_alone(move)
        assert len(move.source.find("resumed")) == 2
        for side, counted in move.counted().items():
            assert counted["checkpoints"] == "2", (side, counted)
        assert int(counted["diverged-pages"]) > 0, counted


@deadline(120)
def test_a_destination_that_did_not_ask_for_checkpoints_says_so(rig):
    with Move(rig, "ram:anon:16", settings=BOTH) as move:
        move.connect()
        for workload in (move.source, move.destination):
            assert "has not asked for them" in workload.ended("failed")["error"]
        move.source.verify()


@deadline(60)
def test_no_failover_before_the_first_checkpoint(rig):
    with follow(rig, "ram:anon:64", settings=("max-bandwidth=5000000",)) as move:
        move.connect()
        move.source.state("active")
        move.destination.do("failover")
        ended = move.destination.ended("failed")
        assert "failover" in ended["error"], ended
        move.source.ended("failed")
        move.source.verify()
