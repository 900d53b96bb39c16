# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of a process, of each kind and with each pattern, moved to another host: every byte is right there, compared with
what the source's process knew of each page, and by hash with what it had at the switch-over."""
from harness import deadline, note
from workload import Move

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


@deadline(120)
def test_regions_of_every_kind_together(rig):
    with rig.hugepages(2 * 16):
        regions = ("low:anon:16", "high:shmem:24", "large:huge:16", "other:anon:8")
        by_postcopy(rig, "all kinds", *regions, threads=16)
        by_precopy(rig, "all kinds, pre-copy", *regions, threads=16)


@deadline(120)
def test_its_own_log_of_writes(rig):
    """The process knows what it has written; nothing is asked of the kernel."""
    by_postcopy(rig, "own log", "a:anon:32", "b:shmem:16", own_log=True)
    by_precopy(rig, "own log, pre-copy", "a:anon:32", "b:shmem:16", own_log=True)


@deadline(120)
def test_differences(rig):
    """XBZRLE: pages that change a little, again and again, until the guest moves."""
    with Move(rig, "ram:anon:32", hashes=True, pattern="hot", rate=100000,
              settings=("xbzrle-cache=67108864", "max-bandwidth=30000000", "downtime-limit=5")) as move:
        move.connect()
        move.source.state("active")
        touched = move.source.stats()["writes"]
        while move.source.stats()["writes"] < touched + 100000:
            move.source.wait("state", name="active")
        move.postcopy()
        tell("differences", move, move.completed())


@deadline(120)
def test_bulk_channels(rig):
    by_postcopy(rig, "four bulk channels", "ram:anon:64", settings=(*SLOW_SETTINGS, "bulk-channels=4"))


@deadline(120)
def test_compression(rig):
    by_postcopy(rig, "compressed", "ram:shmem:64", pattern="text", settings=(*SLOW_SETTINGS, "compress=1"))


@deadline(120)
def test_release_ram(rig):
    by_postcopy(rig, "released at the source", "ram:shmem:32", settings=(*SLOW_SETTINGS, "release-ram=1"))
    by_postcopy(rig, "released, private", "ram:anon:32", settings=(*SLOW_SETTINGS, "release-ram=1"))
