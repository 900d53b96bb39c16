# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults of many threads at once, and what breaks while they wait: the memory is right, or both sides say clearly why
there is none; nobody hangs."""
from harness import deadline, note
from wait import wait_for
from workload import Move, Workload

MIB = 1 << 20
SLOW = ("max-bandwidth=5000000",)
# once the guest runs over there, so that the tests are faster than the background
CRAWL = (*SLOW, "max-postcopy-bandwidth=4000000")


def faults_of_64_threads(rig, *regions, pattern):
    with Move(rig, *regions, threads=64, rate=0, pattern=pattern, settings=SLOW) as move:
        move.connect()
        move.postcopy()
        verdict = move.completed()
        stats = move.destination.stats()
        assert stats["stalls"] > 64
        note(f"{pattern}: {verdict['pages']} pages right; {stats['stalls']} stalls, "
             f"p50 {stats['stall-p50-ns'] / 1e6:.2f} p99 {stats['stall-p99-ns'] / 1e6:.2f} "
             f"max {stats['stall-max-ns'] / 1e6:.1f} ms")


@deadline(120)
def test_faults_of_64_threads(rig):
    faults_of_64_threads(rig, "ram:anon:64", pattern="random")


@deadline(120)
def test_faults_of_64_threads_on_the_same_pages(rig):
    """Each page is faulted on again while it is on its way."""
    faults_of_64_threads(rig, "ram:anon:64", pattern="herd")


@deadline(120)
def test_faults_of_64_threads_in_huge_pages(rig):
    with rig.hugepages(2 * 64):
        faults_of_64_threads(rig, "ram:huge:64", pattern="herd")


@deadline(60)
def test_a_second_fault_on_a_page_in_flight(rig):
    """Two threads that are not the guest's wait for the same pages."""
    with Move(rig, "ram:anon:64", threads=2, rate=100, settings=CRAWL) as move:
        move.connect()
        move.postcopy()
        last = f"0 {60 * MIB} {2 * MIB}"
        after = move.destination.send(f"touch {last}")
        move.destination.send(f"touch {last}")
        move.source.do("set max-postcopy-bandwidth=0")
        first = move.destination.wait("touched", after=after)
        second = move.destination.wait("touched", after=move.destination.events.index(first) + 1)
        assert first["pages"] == second["pages"] == 512
        move.completed()


# -- a process that dies ----------------------------------------------------------------------


@deadline(60)
def test_the_source_dies_before_the_switch(rig):
    with Move(rig, "ram:anon:64", settings=SLOW) as move:
        move.connect()
        move.source.state("active")
        move.source.kill()
        ended = move.destination.ended()
        assert ended["outcome"] in ("failed", "cancelled") and ended["error"], ended
        note(ended["error"])


@deadline(60)
def test_the_destination_dies_before_the_switch(rig):
    """The guest runs on at the source, and all of its memory is right."""
    with Move(rig, "ram:anon:64", settings=SLOW) as move:
        move.connect()
        move.source.state("active")
        move.destination.kill()
        ended = move.source.ended("failed")
        assert ended["error"]
        note(ended["error"])
        before = move.source.stats()["touches"]
        wait_for(lambda: move.source.stats()["touches"] > before, "the guest at work")
        move.source.verify()


@deadline(60)
def test_the_destination_dies_in_postcopy(rig):
    """The guest is lost, as a guest of QEMU's would be: the source says so and does not go on as a second one."""
    with Move(rig, "ram:anon:64", settings=CRAWL) as move:
        move.connect()
        move.postcopy()
        move.destination.kill()
        ended = move.source.ended()
        assert ended["outcome"] in ("paused", "failed") and ended["error"], ended
        assert not move.source.find("resumed")
        note(f"{ended['outcome']}: {ended['error']}")


@deadline(60)
def test_the_source_dies_in_postcopy(rig):
    """The destination keeps what it has, and says that it is paused."""
    with Move(rig, "ram:anon:64", threads=64, rate=0, settings=CRAWL) as move:
        move.connect()
        move.postcopy()
        move.source.kill()
        ended = move.destination.ended()
        assert ended["outcome"] == "paused" and ended["error"], ended
        note(ended["error"])


@deadline(60)
def test_a_process_that_gives_up_says_why_on_both_sides(rig):
    with Move(rig, "ram:anon:64", settings=SLOW) as move:
        move.connect()
        move.source.state("active")
        move.source.do("fail the roof is on fire")
        for workload in (move.source, move.destination):
            assert "the roof is on fire" in workload.ended("failed")["error"]
        move.source.verify()


@deadline(60)
def test_a_cancelled_migration_leaves_the_guest_at_the_source(rig):
    with Move(rig, "ram:shmem:64", settings=SLOW) as move:
        move.connect()
        move.source.state("active")
        move.source.do("cancel")
        move.source.ended("cancelled")
        move.destination.ended()
        move.source.verify()


# -- memory that is not what it was ------------------------------------------------------------


def either(move, workload):
    """It ends, well or with words; what is left of the memory is right."""
    ended = workload.ended()
    if ended["outcome"] == "completed":
        workload.verify()
    else:
        assert ended["error"], ended
    note(f"{workload.side}: {ended['outcome']} {ended['error']}")
    return ended


@deadline(60)
def test_a_region_unmapped_under_the_helper(rig):
    """A part of the destination's memory is gone before its pages have come."""
    with Move(rig, "ram:anon:64", threads=8, rate=1000, settings=CRAWL) as move:
        move.connect()
        move.postcopy()
        move.destination.do(f"unmap 0 {56 * MIB} {4 * MIB}")
        move.source.do("set max-postcopy-bandwidth=0")
        outcomes = [either(move, workload)["outcome"] for workload in (move.source, move.destination)]
        assert outcomes[0] == outcomes[1] or "paused" in outcomes, outcomes


@deadline(60)
def test_a_region_of_the_sources_unmapped_under_the_helper(rig):
    """Before the switch: the guest stays, and the reason names the region."""
    with Move(rig, "ram:anon:64", threads=8, rate=1000, settings=SLOW) as move:
        move.connect()
        move.source.state("active")
        move.source.do(f"unmap 0 {56 * MIB} {4 * MIB}")
        move.source.do("set max-bandwidth=0")
        ended = move.source.ended("failed")
        assert '"ram"' in ended["error"], ended
        note(ended["error"])
        assert move.destination.ended()["outcome"] == "failed"
        move.source.verify()


@deadline(60)
def test_a_discard_racing_a_fault(rig):
    """Pages are given back to the kernel while threads wait for them and for others beside them: who asks again
    gets zeros or the page, and everything else is right."""
    for kind in ("anon", "shmem"):
        with Move(rig, f"ram:{kind}:64", threads=16, rate=0, settings=CRAWL) as move:
            move.connect()
            move.postcopy()
            after = len(move.destination.events)
            for start in range(40, 48):
                move.destination.send(f"touch 0 {start * MIB} {MIB}")
                move.destination.send(f"forget 0 {start * MIB} {MIB}")
                move.destination.send(f"touch 0 {start * MIB} {MIB}")
            move.source.do("set max-postcopy-bandwidth=0")
            touched = 0
            # The end may overtake a thread that has still to be given its turn.
            while touched < 16:
                event = move.destination.wait("touched", "ended", after=after)
                after = move.destination.events.index(event) + 1
                touched += event["event"] == "touched"
            verdict = move.completed()
            assert verdict["pages"] == 64 * 256 - 8 * 256
            note(f"{kind}: {verdict['pages']} other pages right")


@deadline(60)
def test_memory_that_does_not_match_is_named(rig):
    with Move(rig, "ram:anon:64") as move:
        other = Workload(rig.b, "destination", "--region", "ram:anon:32")
        try:
            other.wait("ready")
            move.source.connect(other.connect()["uri"])
            error = move.source.ended("failed")["error"]
            assert '"ram"' in error, error
            note(error)
            move.source.verify()
        finally:
            other.close()
