# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of a process, of each kind and with each pattern, moved to another host: every byte is right there, compared
with what the source's process knew of each page, and by hash with what it had at the switch-over."""
import contextlib
import pathlib
import random
import re

from harness import deadline, note, soak
from wait import wait_for
from workload import Move

MIB = 1 << 20

PATTERNS = ("sequential", "random", "hot", "zero", "text", "herd")
KINDS = ("anon", "shmem", "huge")
SLOW_SETTINGS = ("max-bandwidth=20000000",)         # so that most of it is left for the post-copy


def tell(what, move, verdict):
    stats = move.destination.stats()
    note(f"{what}: {verdict['pages']} pages right, {verdict['unwritten']} of them by hash; post-copy "
         f"{move.postcopy_s:.2f} s, downtime {move.downtime_s * 1000:.0f} ms; {stats['stalls']} stalls, p50 "
         f"{stats['stall-p50-ns'] / 1e6:.2f} p99 {stats['stall-p99-ns'] / 1e6:.2f} ms")


def by_postcopy(rig, what, *regions, settings=SLOW_SETTINGS, **options):
    with Move(rig, *regions, hashes=True, settings=settings, **options) as move:
        move.connect()
        move.postcopy()
        verdict = move.completed()
        assert verdict["unwritten"] > 0
        tell(what, move, verdict)
    return move


def by_precopy(rig, what, *regions, settings=("downtime-limit=2000",), **options):
    with Move(rig, *regions, hashes=True, settings=settings, **options) as move:
        move.connect()
        verdict = move.completed()
        assert not move.source.find("state", name="postcopy-active")
        tell(what, move, verdict)


def every_pattern(rig, move_it, kind, mib):
    for number, pattern in enumerate(PATTERNS):
        move_it(rig, f"{kind}, {pattern}", f"ram:{kind}:{mib}", pattern=pattern, seed=100 + number)


@deadline(180)
def test_private_memory_by_postcopy(rig):
    every_pattern(rig, by_postcopy, "anon", 48)


@deadline(180)
def test_shared_memory_by_postcopy(rig):
    every_pattern(rig, by_postcopy, "shmem", 48)


@deadline(180)
def test_huge_pages_by_postcopy(rig):
    with rig.hugepages(2 * 48):
        every_pattern(rig, by_postcopy, "huge", 48)


@deadline(180)
def test_private_memory_by_precopy(rig):
    every_pattern(rig, by_precopy, "anon", 32)


@deadline(180)
def test_shared_memory_by_precopy(rig):
    every_pattern(rig, by_precopy, "shmem", 32)


@deadline(180)
def test_huge_pages_by_precopy(rig):
    with rig.hugepages(2 * 32):
        every_pattern(rig, by_precopy, "huge", 32)


def assert_waits_are_counted(counted, threads):
    """Each thread's and those of all at once; who waited is one of the threads that the process told."""
    each, everybody, longest = (int(counted[f"blocked-{what}us"]) for what in ("threads-", "all-", ""))
    assert int(counted["blocked-threads"]) == threads, counted
    assert everybody <= longest <= each and each > 0, counted
    by_thread = [int(pair.partition(":")[2]) for pair in counted["blocked-by-thread-us"].split(",")]
    assert len(by_thread) == threads and sum(by_thread) == each, counted
    note(f"{threads} threads waited {each / 1000:.0f} ms together, any of them {longest / 1000:.0f} ms, all at once "
         f"{everybody / 1000:.0f} ms")


@deadline(120)
def test_regions_of_every_kind_together(rig):
    with rig.hugepages(2 * 16):
        regions = ("low:anon:16", "high:shmem:24", "large:huge:16", "other:anon:8")
        move = by_postcopy(rig, "all kinds", *regions, threads=16)
        assert_waits_are_counted(move.counted()["destination"], 16)
        by_precopy(rig, "all kinds, pre-copy", *regions, threads=16)


@deadline(120)
def test_its_own_log_of_writes(rig):
    """The process knows what it has written; nothing is asked of the kernel."""
    by_postcopy(rig, "own log", "a:anon:32", "b:shmem:16", own_log=True)
    by_precopy(rig, "own log, pre-copy", "a:anon:32", "b:shmem:16", own_log=True)


@deadline(120)
def test_differences(rig):
    """XBZRLE: pages that change a little, again and again; with a cache that becomes smaller and larger meanwhile."""
    with Move(rig, "ram:anon:32", hashes=True, pattern="hot", rate=20000,
              settings=("xbzrle-cache=67108864", "max-bandwidth=20000000", "downtime-limit=50")) as move:
        move.connect()
        move.source.state("active")
        for size in (32 << 20, 64 << 20):
            move.source.do(f"set xbzrle-cache={size}")
        tell("differences", move, move.completed())
        counted = move.counted()["source"]
        assert int(counted["xbzrle-cache-bytes"]) == 64 << 20, counted
        pages, sent = int(counted["xbzrle-pages"]), int(counted["xbzrle-bytes"])
        assert pages > 200 and sent < pages * 4096 // 4, counted
        note(f"{pages} pages as differences of {sent / pages:.0f} bytes, {counted['xbzrle-misses']} misses, "
             f"{counted['xbzrle-overflow']} overflows")


@deadline(120)
def test_bulk_channels(rig):
    with Move(rig, "ram:anon:64", hashes=True, settings=(*SLOW_SETTINGS, "bulk-channels=4")) as move:
        move.connect()
        move.postcopy()
        tell("four bulk channels", move, move.completed())
        for side, counted in move.counted().items():
            assert counted["bulk-channels"] == "4", (side, counted)
        assert int(counted["wire-bulk-bytes-received"]) > 16 * MIB, counted


@deadline(120)
def test_compression(rig):
    with Move(rig, "ram:shmem:64", hashes=True, pattern="text", settings=(*SLOW_SETTINGS, "compress=1")) as move:
        move.connect()
        move.postcopy()
        tell("compressed", move, move.completed())
        counted = move.counted()["source"]
        assert int(counted["compressed-frames"]) > 100, counted
        assert int(counted["encoded-bytes"]) < int(counted["plain-bytes"]) / 2, counted


def mib_of(workload, name):
    status = pathlib.Path(f"/proc/{workload.process.pid}/status").read_text()
    return int(re.search(name + r":\s*(\d+)", status).group(1)) >> 10


def resident_mib(workload):
    return mib_of(workload, "VmRSS")


@deadline(60)
def test_locked_memory(rig):
    """Of both processes (mlock): the source's is given back all the same, the destination's is locked once it is all
    there."""
    with Move(rig, "ram:anon:32:locked", "shm:shmem:16:locked", "rest:anon:8", hashes=True,
              settings=(*SLOW_SETTINGS, "release-ram=1")) as move:
        locked = [mib_of(side, "VmLck") for side in (move.source, move.destination)]
        assert locked == [48, 48], locked
        move.connect()
        move.postcopy()
        tell("locked", move, move.completed())
        assert mib_of(move.destination, "VmLck") == 48
        assert move.destination.ended()["error"] == ""


@deadline(120)
def test_release_ram(rig):
    """The source has its memory back as soon as it is over there."""
    for kind in ("anon", "shmem"):
        with Move(rig, f"ram:{kind}:64", hashes=True, settings=(*SLOW_SETTINGS, "release-ram=1")) as move:
            move.connect()
            before = resident_mib(move.source)
            move.postcopy()
            tell(f"released, {kind}", move, move.completed())
            counted = int(move.counted()["source"]["released-bytes"])
            assert before - resident_mib(move.source) > 40 and counted > 40 * MIB, (before, counted)


# -- what the source decides ------------------------------------------------------------------


@deadline(120)
def test_free_pages_are_not_sent(rig):
    with Move(rig, "ram:anon:64", settings=("max-bandwidth=10000000", "downtime-limit=1000")) as move:
        move.source.do("stop")
        move.connect()
        move.source.state("active")
        move.source.do(f"hint 0 {16 * MIB} {32 * MIB}")
        move.source.do("set max-bandwidth=0")
        verdict = move.completed()
        counted = move.counted()["source"]
        assert verdict["pages"] == 32 * 256 and int(counted["hinted-pages"]) > 0, counted
        assert int(counted["wire-bytes-sent"]) < 50 * MIB, counted
        note(f"{counted['hinted-pages']} pages hinted free, {int(counted['wire-bytes-sent']) / MIB:.0f} MiB sent of 64")


@deadline(120)
def test_a_busy_guest_is_throttled_until_it_converges(rig):
    """It writes more than the link takes: without post-copy it has to run less."""
    with Move(rig, "ram:anon:48", pattern="random", rate=0, threads=2, writes=100,
              settings=("auto-converge=1", "allowed=0", "max-bandwidth=80000000", "downtime-limit=300",
                        "throttle-initial=50", "throttle-increment=20")) as move:
        move.connect()
        percents = [move.source.wait("throttle", timeout=60)["percent"]]
        assert percents[0] == 50
        move.completed(timeout=100)
        percents = [e["percent"] for e in move.source.find("throttle")]
        assert percents == sorted(percents) or percents[-1] == 0, percents
        note(f"throttled to {percents} %")


@deadline(60)
def test_it_waits_before_the_switch_over(rig):
    for start in (True, False):
        with Move(rig, "ram:anon:32", hashes=True, settings=("pause-before-switchover=1", "downtime-limit=2000",
                                                            *SLOW_SETTINGS)) as move:
            move.connect()
            if start:
                move.source.do("start-postcopy")
            else:
                move.source.do("set max-bandwidth=0")
            move.source.state("pre-switchover")
            assert not move.destination.find("running")
            move.source.do("continue")
            tell("after the pause", move, move.completed())


@deadline(60)
def test_memory_that_cannot_be_moved_is_refused_by_name(rig):
    """Persistent memory by post-copy, and what must not leave its host; regions that are ignored stay out of it."""
    for flag, word in (("pmem", '"nv"'), ("stays", '"nv"')):
        with Move(rig, "ram:anon:16", f"nv:shmem:16:{flag}") as move:
            move.destination.connect()
            answer = move.source.do(f"connect {move.destination.find('connected')[0]['uri']}", "connected", "refused")
            error = answer["reason"] if answer["event"] == "refused" else move.source.ended("failed")["error"]
            assert word in error, error
            note(f"{flag}: {error}")
            move.source.verify()


@deadline(60)
def test_a_region_that_is_ignored_is_not_moved(rig):
    with Move(rig, "ram:anon:16", "card:shmem:16:ignored", settings=SLOW_SETTINGS, idle=True) as move:
        move.connect()
        move.postcopy()
        for workload in (move.source, move.destination):
            workload.ended("completed")
        verdict = move.destination.do("verify", "verified")
        assert verdict["bad"] == 16 * 256 and "is zeros" in verdict["first-bad"], verdict
        counted = move.counted()["source"]
        assert int(counted["wire-bytes-sent"]) < 24 * MIB, counted


# -- anything with anything -------------------------------------------------------------------


def a_random_run(rig, number):
    chosen = random.Random(number)
    kinds = chosen.choices(KINDS if chosen.random() < 0.3 else KINDS[:2], k=chosen.randint(1, 3))
    regions = [f"r{i}:{kind}:{chosen.choice((2, 8, 16))}" for i, kind in enumerate(kinds)]
    settings = [f"max-bandwidth={chosen.choice((5, 20, 100)) * 1000000}"]
    for name, values in (("xbzrle-cache", (1 << 20, 1 << 26)), ("bulk-channels", (1, 3)), ("compress", (1, 2)),
                         ("release-ram", (1,)), ("auto-converge", (1,))):
        if chosen.random() < 0.3:
            settings.append(f"{name}={chosen.choice(values)}")
    options = {"pattern": chosen.choice(PATTERNS), "threads": chosen.choice((1, 4, 16)), "seed": number,
               "rate": chosen.choice((1000, 20000, 100000))}
    if chosen.random() < 0.3:
        options["own_log"] = True
    what = f"run {number}: {' '.join(regions)}, {options}, {' '.join(settings)}"
    huge = sum(int(r.split(":")[2]) for r in regions if ":huge:" in r)
    with rig.hugepages(2 * huge) if huge else contextlib.nullcontext():
        with Move(rig, *regions, hashes=True, settings=settings, **options) as move:
            move.connect()
            move.source.state("active")
            for _ in range(chosen.randint(0, 3)):
                move.source.stats()
            try:
                move.source.do("start-postcopy", "done", "error", "ended")      # it may be through already
                move.completed()
            except AssertionError as error:
                raise AssertionError(f"{what}: {error}") from error


@deadline(120)
def test_random_runs(rig):
    for number in range(8):
        a_random_run(rig, number)


@soak
@deadline(1200)
def test_a_hundred_random_runs(rig):
    for number in range(100):
        a_random_run(rig, 1000 + number)
