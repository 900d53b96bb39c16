# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every kind of guest memory, switched to post-copy while most of it has yet to be sent: the guest
finds all of it right on the other host."""
import pathlib
import re

from direct import SLOW, Direct
from guest import ABOVE_4G, HUGEPAGES, Guest
from harness import deadline, note
from migrating import arrived, begin_in_postcopy, went_through_helpers

BUSY = {"rate": 0}                      # touches as many pages as it can


def stall_words(guest, host):
    """What the guest has felt, in short."""
    report = guest.report(host)
    return f"{report['stalls']} stalls, the longest {report['max_us'] / 1000:.1f} ms"


def in_huge_pages(host):
    """MiB of huge pages that the host's QEMU has."""
    status = pathlib.Path(f"/proc/{host.pids('qemu-system-x86_64')[0]}/status").read_text()
    return int(re.search(r"HugetlbPages:\s*(\d+) kB", status).group(1)) >> 10


def moves_in_postcopy(rig, guest, *options, rate="200mbit"):
    """A migration from a to b in post-copy from early on; the link has that rate until it has begun.
    Returns the guest's verdict.

    With huge pages QEMU sends 64 of them before it looks whether it is to switch."""
    migration, _, _ = begin_in_postcopy(rig, guest, *options, rate=rate)
    before = rig.b.wire_bytes()[0]
    rig.shape("1gbit")
    migration.finish()
    came = rig.b.wire_bytes()[0] - before
    verdict = arrived(rig, guest)
    note(f"{migration.seconds:.1f} s; {came >> 20} MiB came in post-copy; {stall_words(guest, rig.b)}")
    went_through_helpers(rig, guest)
    return verdict


@deadline(60)
def test_one_processor(rig):
    moves_in_postcopy(rig, Guest(rig, 128, **BUSY).start(rig.a))


@deadline(60)
def test_one_processor_peer_to_peer(rig):
    moves_in_postcopy(rig, Guest(rig, 64, **BUSY).start(rig.a), "--p2p")


@deadline(60)
def test_four_processors(rig):
    """Four of them wait for pages at the same time."""
    moves_in_postcopy(rig, Guest(rig, 128, vcpus=4, **BUSY).start(rig.a))


@deadline(60)
def test_huge_pages(rig):
    """Host pages of 2 MiB: 512 of the guest's pages each, which must come as one."""
    with rig.hugepages(2 * 128):
        guest = Guest(rig, 128, memory_backing=HUGEPAGES, **BUSY).start(rig.a)
        moves_in_postcopy(rig, guest, rate="1gbit")
        assert in_huge_pages(rig.b) == 128
        guest.destroy(rig.b)


@deadline(60)
def test_huge_pages_and_four_processors(rig):
    """Two processors wait for the same host page more often than not."""
    with rig.hugepages(2 * 64):
        guest = Guest(rig, 64, vcpus=4, memory_backing=HUGEPAGES, **BUSY).start(rig.a)
        moves_in_postcopy(rig, guest, rate="500mbit")
        guest.destroy(rig.b)


@deadline(60)
def test_balloon(rig):
    """Half of the memory has been given back to the host, and stays away."""
    guest = Guest(rig, 192, balloon=96, **BUSY).start(rig.a)
    actual = f"actual {96 << 10}\n"
    assert actual in rig.a.virsh("dommemstat", guest.name).stdout
    verdict = moves_in_postcopy(rig, guest)
    assert verdict["pages"] << 12 < 96 << 20
    assert actual in rig.b.virsh("dommemstat", guest.name).stdout


@deadline(60)
def test_memory_plugged_in(rig):
    """A dimm that was not there when the guest began is a block of its own."""
    guest = Guest(rig, 64, extra=(ABOVE_4G, 64), room=256, **BUSY).start(rig.a)
    assert guest.plug(rig.a, 64) == ABOVE_4G
    guest.wait_extra(rig.a)
    verdict = moves_in_postcopy(rig, guest)
    assert verdict["pages"] << 12 > 120 << 20
    assert "<memory model='dimm'>" in rig.b.virsh("dumpxml", guest.name).stdout


@deadline(60)
def test_a_very_small_guest(rig):
    moves_in_postcopy(rig, Guest(rig, 16, **BUSY).start(rig.a), rate="50mbit")


@deadline(90)
def test_more_than_four_gibibytes(rig):
    """Memory on both sides of the gap below 4 GiB, and of 4 GiB within its block; most pages have
    never been written."""
    extra = 128
    memory = 4096 + extra // 2
    end = ABOVE_4G + (memory - 3072 << 20)              # 3 GiB are below
    guest = Guest(rig, memory, ram=48, extra=(end - (extra << 20), extra), **BUSY).start(rig.a)
    guest.wait_extra(rig.a)
    verdict = moves_in_postcopy(rig, guest)
    assert verdict["pages"] << 12 == 48 + extra << 20


# -- what libvirt does not ask of QEMU ------------------------------------------------------

PREEMPT = "postcopy-preempt"


def goes_directly(rig, *capabilities, speed=SLOW, **options):
    """The same between two QEMUs without libvirt."""
    with Direct(rig, *capabilities, **options) as direct:
        job = direct.migrate(speed=speed)
        ram = job["ram"]
        note(f"{job['total-time']} ms, {ram['postcopy-bytes'] >> 20} MiB of them in post-copy, "
             f"{ram['postcopy-requests']} requests")
        assert ram["postcopy-requests"] > 0
        verdict = direct.arrived()
        note(f"{verdict['pages']} pages verified, {verdict['bad']} wrong, {verdict['touches']} touches; "
             f"{stall_words(direct.guest, direct.target)}")


@deadline(60)
def test_qemus_without_libvirt(rig):
    goes_directly(rig, memory=128, **BUSY)


@deadline(60)
def test_connections_that_are_cut_all_the_time(rig):
    """And new keys all the time as well."""
    options = ("--cuts", "40", "--cut-interval", "60", "--rekey-records", "100")
    with Direct(rig, memory=256, vcpus=2, pair=options, **BUSY) as direct:
        direct.migrate()
        verdict = direct.arrived()
        source = direct.pair.result("source")
        note(f"{direct.pair.cuts()} cuts, {source['resumes']} resumes, {source['bytes-sent-again'] >> 10} KiB sent again, "
             f"{source['key-updates']} new keys; {verdict['pages']} pages verified, {verdict['bad']} wrong")
        assert direct.pair.cuts() > 10 and source["resumes"] > 10 and source["key-updates"] > 0


@deadline(60)
def test_preempt_channel_of_both_qemus(rig):
    """QEMU 7.2 opens it right after the main one, and its destination reads nothing before."""
    goes_directly(rig, PREEMPT, memory=128, vcpus=2, **BUSY)


@deadline(60)
def test_preempt_channel_of_both_qemus_and_huge_pages(rig):
    """A host page that QEMU begins on one channel and goes on with on the other is still one."""
    with rig.hugepages(2 * 128):
        goes_directly(rig, PREEMPT, memory=128, vcpus=2, hugepages=True, speed=4 * SLOW, **BUSY)
