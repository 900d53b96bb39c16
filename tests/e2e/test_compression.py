# SPDX-License-Identifier: LGPL-2.1-or-later
"""What virsh's --compressed asks for: differences that the source QEMU makes of pages it sends again
(XBZRLE), and memory that the session compresses."""
from guest import Guest
from harness import deadline, note
from migrating import POSTCOPY, arrived, begin_in_postcopy, begun_postcopy, summaries, went_through_helpers
from wait import wait_for

# So slow that the guest always has written to pages again when a round is through.
XBZRLE = ("--compressed", "--comp-methods", "xbzrle", "--comp-xbzrle-cache", str(64 << 20), "--bandwidth", "4")
ROUNDS = 3
DELTAS = 1000                           # pages


def pages_sent_as_differences(host, guest):
    return int(host.job(guest.name).get("Compressed pages", "0"))


def rewritten_in_many_rounds(rig, guest, *options):
    """A pre-copy that goes on until the same pages were sent several times, as differences; then the switch.
    Returns how many were."""
    events = rig.b.events()
    rig.shape("100mbit")
    migration = guest.start_migration(rig.a, rig.b, *POSTCOPY, *XBZRLE, *options)
    migration.wait_processed(1)
    rig.a.virsh("migrate-setmaxdowntime", guest.name, "1")      # or it would soon be through

    def many():
        assert migration.running, migration.finish(check=False).stderr
        job = rig.a.job(guest.name)
        return int(job.get("Iteration", 0)) >= ROUNDS and \
            pages_sent_as_differences(rig.a, guest) >= DELTAS

    wait_for(many, lambda: f"{DELTAS} pages sent as differences; {rig.a.job(guest.name)}", 60)
    deltas = pages_sent_as_differences(rig.a, guest)
    rig.a.virsh("migrate-postcopy", guest.name, uri=rig.a.uri())
    begun_postcopy(events, guest)
    migration.finish()
    return deltas


@deadline(120)
def test_differences_before_the_switch_leave_no_page_wrong(rig):
    """What the destination has of a page must be what the next difference was made from, and what was
    staged after the switch must not come before one."""
    for options in ((), ("--p2p",)):
        guest = Guest(rig, 64, hot=16, zero=80, rate=0, pattern="text").start(rig.a)
        deltas = rewritten_in_many_rounds(rig, guest, *options)
        arrived(rig, guest)
        went_through_helpers(rig, guest)
        note(f"{deltas} pages sent as differences")
        guest.destroy(rig.b)


def compressed_by(rig, guest, *options):
    """The method that both ends have used in post-copy, and the source's summary."""
    migration, _, _ = begin_in_postcopy(rig, guest, *options)
    migration.finish()
    arrived(rig, guest)
    went_through_helpers(rig, guest)
    source, destination = ([s for s in summaries(host) if s["domain"] == guest.name][-1] for host in rig.hosts)
    for field in ("features", "compression-method", "compressed-frames", "plain-bytes", "encoded-bytes"):
        assert source[field] == destination[field], (field, source, destination)
    return source["compression-method"], source


@deadline(120)
def test_session_compresses_with_what_is_asked_for(rig):
    """zlib, and zstd before it if both are named; several threads; only what was asked for is agreed on."""
    for options, method, features in (
            (("--comp-methods", "zlib"), "zlib", "ram,resume,zlib"),
            (("--comp-methods", "mt", "--comp-mt-threads", "3", "--comp-mt-level", "1"), "zlib", "ram,resume,zlib"),
            (("--p2p", "--comp-methods", "zlib,zstd"), "zstd", "ram,zstd,resume,zlib")):
        guest = Guest(rig, 96, rate=0, pattern="text").start(rig.a)
        used, summary = compressed_by(rig, guest, "--compressed", *options)
        ratio = int(summary["plain-bytes"]) / int(summary["encoded-bytes"])
        note(f"{' '.join(options)}: {used}, {ratio:.1f} times smaller, {summary['compressed-frames']} frames")
        assert used == method, summary
        assert set(features.split(",")) <= set(summary["features"].split(",")), summary
        assert ("zstd" in summary["features"]) == ("zstd" in features), summary
        assert ratio > 2, summary
        guest.destroy(rig.b)
