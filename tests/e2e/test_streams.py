# SPDX-License-Identifier: LGPL-2.1-or-later
"""The readers of QEMU's migration streams, held against what real QEMUs say to each other: each
stream is understood to its last byte, and the pages that post-copy sends are just those it had
declared missing."""
import contextlib
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

from guest import Guest
from harness import deadline, note
from loopback import Place
from stream_relay import StreamRelay
from wait import Timeout, wait_for

RIG = {"daemon": False}                 # QEMU runs outside of it, as root: it may handle page faults
MEMORY = 64                             # MiB
HOT = 8
DUMP = "tests/support/stream-dump"
MANGLED = 5
HUGE_PAGE = 2 << 20


class Streams:
    """Two QEMUs with a guest on the first, and the relay between them."""

    def __init__(self, rig, directory, capabilities=(), memory=(), hot=HOT):
        self.builddir, self.directory = rig.builddir, pathlib.Path(directory)
        self.source, self.target = self.hosts = [Place(directory, name) for name in ("source", "destination")]
        self.relays = []
        self.guest = Guest(self, MEMORY, name="streams", hot=hot, rate=4000)
        for place, options in ((self.target, ["-incoming", "defer"]), (self.source, [])):
            qmp = place.start_qemu(self.guest, *memory, *options)
            qmp.execute("migrate-set-capabilities", capabilities=[
                {"capability": name, "state": True} for name in ("events", *capabilities)])
        self.target.qemu.qmp.execute("migrate-incoming", uri=f"unix:{self.directory / 'incoming.sock'}")
        self.qmp = self.source.qemu.qmp
        wait_for(lambda: self.guest.reports(self.source), "the guest running", 30)

    def close(self):
        for place in self.hosts:
            if place.qemu:
                place.qemu.close()
        for relay in self.relays:
            relay.close()

    def relay_to(self, target):
        self.relays.append(StreamRelay(self.directory, f"relay{len(self.relays)}", self.directory / target))
        return f"unix:{self.relays[-1].path}"

    def limit(self, **parameters):
        self.qmp.execute("migrate-set-parameters", **parameters)

    def migrate(self, target="incoming.sock", **options):
        self.qmp.execute("migrate", uri=self.relay_to(target), **options)

    def wait_status(self, status, timeout=30):
        """Until both QEMUs have said so."""
        end = time.monotonic() + timeout
        while not all(place.statuses()[-1:] == [status] for place in self.hosts):
            seen = [place.statuses() for place in self.hosts]
            if any("failed" in one for one in seen) or time.monotonic() > end:
                raise Timeout(f"not {status}: {seen}; {[place.qemu.complaints() for place in self.hosts]}")
            for place in self.hosts:
                place.qemu.qmp.read_events(0.02)

    def job(self):
        return self.qmp.execute("query-migrate")

    def switch_to_postcopy(self, rate=100 << 20):
        """Migrates, and switches over in the midst of the first pass. rate: after that."""
        self.limit(max_bandwidth=30 << 20, max_postcopy_bandwidth=rate, downtime_limit=1)
        self.migrate()
        wait_for(lambda: self.job().get("ram", {}).get("transferred", 0) >= MEMORY << 18, "a quarter sent", 30, 0.01)
        self.qmp.execute("migrate-start-postcopy")

    def dump(self):
        """What the readers make of it: stream-dump's JSON."""
        connections = [relay.finished() for relay in self.relays]
        argv = [self.builddir / DUMP, "--mangle", str(MANGLED), "--strict",
                *(f"--preempt={one.sent}" for made in connections for one in made[1:]),
                *(f"--return={made[0].returned}" for made in connections), *(made[0].sent for made in connections)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"status {done.returncode}: {done.stderr}{done.stdout}"
        found = json.loads(done.stdout)
        for kind in ("main", "preempt", "return"):
            for number, one in enumerate(found[kind]):
                assert one["held"] == 0 or len(found["main"]) > 1, f"{kind} {number} ends within an element: {one}"
        return found


@contextlib.contextmanager
def streams(rig, *capabilities, **options):
    directory = tempfile.mkdtemp(prefix="postcopy-streams-")
    made = None
    try:
        made = Streams(rig, directory, capabilities, **options)
        yield made
    finally:
        if made:
            made.close()
        shutil.rmtree(directory, ignore_errors=True)


def check_precopy(found):
    """Nothing but the devices' states and what comes after them is passed on unread."""
    main, = found["main"]
    events = main["events"]
    assert main["machine"].startswith("pc-q35"), main
    assert [block["name"] for block in found["blocks"]][0] == "pc.ram", found["blocks"]
    assert found["blocks"][0]["length"] == MEMORY << 20, found["blocks"]
    assert events["OPAQUE"] and not main["package_bytes"], main
    assert main["opaque_from"] + main["opaque"] == main["bytes"], main
    assert main["opaque"] < 1 << 20, main           # a q35 without disks
    assert events["EOS"] == events["FOOTER"] == events["SECTION"], main
    assert sum(main["pages"].values()) == events["PAGE"] >= MEMORY << 8, main
    note(f"{main['bytes']} bytes, {main['opaque']} of them device state; pages {main['pages']}")


def check_postcopy(found, mains=1, stray=0):
    """Everything is read, and the pages sent after LISTEN are those discarded before it."""
    for main in found["main"]:
        assert main["opaque"] == 0 and "OPAQUE" not in main["events"], main
    assert len(found["main"]) == mains, found
    first, last = found["main"][0], found["main"][-1]
    assert first["commands"]["POSTCOPY_ADVISE"] == first["commands"]["PACKAGED"] == 1, first
    assert first["commands"]["POSTCOPY_RAM_DISCARD"] >= 1 and first["package_bytes"] > 1000, first
    assert last["events"]["EOF"] == 1, last
    assert found["discarded"] >= 4 << 20, found
    assert found["missing"] == 0, found
    assert found["stray"] == stray, found
    for path in found["return"]:
        assert path["opaque"] == 0 and path["strange_requests"] == 0, path
    assert found["return"][-1]["shut"] == 0, found["return"]
    assert sum(path["distinct_requests"] for path in found["return"]) > 0, found["return"]
    note(f"{sum(main['bytes'] for main in found['main'])} bytes; {found['discarded'] >> 12} pages were missing, "
         f"{[path['distinct_requests'] for path in found['return']]} asked for; "
         f"package {first['package_bytes']} bytes")


@deadline(60)
def test_precopy_is_read_up_to_the_devices(rig):
    with streams(rig, "return-path") as made:
        made.migrate()
        made.wait_status("completed")
        found = made.dump()
    check_precopy(found)
    assert found["return"][0]["events"] == {"PONG": 1, "SHUT": 1}, found["return"]


@deadline(60)
def test_precopy_with_xbzrle_is_read_up_to_the_devices(rig):
    with streams(rig, "xbzrle") as made:
        made.limit(max_bandwidth=40 << 20, downtime_limit=1)
        made.migrate()
        wait_for(lambda: made.job()["status"] == "completed" or
                 made.job().get("xbzrle-cache", {}).get("pages", 0) > 100, "pages sent as what has changed in them", 30)
        made.limit(downtime_limit=10000)
        made.wait_status("completed")
        found = made.dump()
    check_precopy(found)
    assert found["main"][0]["pages"]["xbzrle"] > 0, found


@deadline(60)
def test_postcopy_is_read_to_the_last_byte(rig):
    with streams(rig, "postcopy-ram") as made:
        made.switch_to_postcopy()
        made.wait_status("completed")
        check_postcopy(made.dump())


@deadline(60)
def test_postcopy_with_preempt_is_read_to_the_last_byte(rig):
    with streams(rig, "postcopy-ram", "postcopy-preempt") as made:
        made.switch_to_postcopy()
        made.wait_status("completed")
        found = made.dump()
    check_postcopy(found)
    preempt, = found["preempt"]
    assert preempt["opaque"] == 0 and preempt["events"]["PAGE"] > 0, preempt
    note(f"{preempt['events']['PAGE']} pages on the preempt connection")


@deadline(60)
def test_postcopy_of_huge_pages_is_read_to_the_last_byte(rig):
    memory = ["-object", f"memory-backend-memfd,id=pc.ram,size={MEMORY}M,hugetlb=on,hugetlbsize=2M,share=on",
              "-machine", "memory-backend=pc.ram"]
    with rig.hugepages(2 * MEMORY), streams(rig, "postcopy-ram", memory=memory) as made:
        made.switch_to_postcopy()
        made.wait_status("completed")
        found = made.dump()
    check_postcopy(found)
    sizes = {block["name"]: block["page_size"] for block in found["blocks"]}
    assert sizes.pop("pc.ram") == HUGE_PAGE and HUGE_PAGE not in sizes.values(), sizes


@deadline(60)
def test_recovered_postcopy_is_read_to_the_last_byte(rig):
    with streams(rig, "postcopy-ram") as made:
        made.switch_to_postcopy(8 << 20)
        made.wait_status("postcopy-active")
        first = made.relays[0].connections[0]
        first.swallow.set()                             # from here on nothing arrives
        length = first.sent.stat().st_size
        wait_for(lambda: first.sent.stat().st_size > length + (2 << 20), "2 MiB swallowed", 30, 0.02)
        first.cut()
        made.wait_status("postcopy-paused")
        made.target.qemu.qmp.execute("migrate-recover", uri=f"unix:{made.directory / 'recover.sock'}")
        made.limit(max_postcopy_bandwidth=1 << 40)
        made.migrate("recover.sock", resume=True)
        made.wait_status("completed")
        found = made.dump()
    lost = found["stray"]                               # and so sent twice
    assert lost >= 100, found
    check_postcopy(found, mains=2, stray=lost)
    first, second = found["main"]
    assert second["resumed"] and not first["resumed"], found["main"]
    assert second["commands"]["RECV_BITMAP"] == len(found["blocks"]), second
    assert second["commands"]["POSTCOPY_RESUME"] == 1, second
    maps = {one["name"]: one["bytes"] for one in found["return"][1]["bitmaps"]}
    assert maps["pc.ram"] == MEMORY << 5 and len(maps) == len(found["blocks"]), maps
    assert found["return"][1]["events"]["RESUME_ACK"] == 1, found["return"]
    note(f"{lost} pages were lost with the first connection")
