# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event consumer sees of a migration by this driver what it sees of libvirt's own, in the same order, and
this driver's own events beside that. Each run is made twice, once with libvirt alone, and recorded alike."""
import itertools

from cuts import cut
from guest import Guest
from harness import deadline, note, own_rig
from host import CommandFailed
from losses import kill_qemu
from migrating import POSTCOPY
from wait import wait_for

# The daemons' own recoveries have no counterpart in libvirt alone, but for the last test.
RIG = {"daemon_conf": {"auto_recover": 0, "reconnect_timeout": 2}}

OURS = "POSTCOPY_"
QMP = {"MIGRATION", "MIGRATION_PASS", "STOP", "RESUME", "SHUTDOWN"}     # the others are the guest's


class Way:
    """How a guest is migrated: by libvirt alone, or through the daemons."""

    def __init__(self, rig, native):
        self.rig, self.native = rig, native
        scheme = "qemu" if native else "postcopy"
        self.uri = f"{scheme}:///system"
        self.target_uri = rig.b.uri("tcp", "qemu") if native else rig.b.uri("tls")
        self.guest = self.migration = None
        self.recorders = {}

    def __str__(self):
        return "libvirt alone" if self.native else "this driver"

    # -- what a scenario is made of --------------------------------------------------------

    def start(self, *options, rate="100mbit"):
        """Records, and begins a migration on a link of that rate."""
        self.rig.unshape()
        self.guest = Guest(self.rig, 64, rate=0).start(self.rig.a)
        self.recorders = {host: host.events(self.uri) for host in self.rig.hosts}
        self.rig.shape(rate)
        self.migrate(*options)

    def migrate(self, *options):
        self.migration = self.guest.start_migration(self.rig.a, self.rig.b, *POSTCOPY, *options, uri=self.uri,
                                                    target_uri=self.target_uri)

    def virsh(self, *args):
        self.rig.a.virsh(*args, uri=self.uri)

    def in_precopy(self):
        sent = self.rig.a.wire_bytes()[1]
        wait_for(lambda: not self.migration.running or self.rig.a.wire_bytes()[1] - sent > 8 << 20, "8 MiB sent", 30)
        assert self.migration.running, self.migration.finish(check=False).stderr

    def in_postcopy(self):
        self.in_precopy()
        self.virsh("migrate-postcopy", self.guest.name)
        self.recorders[self.rig.b].wait("lifecycle", self.guest.name, type="resumed", detail="postcopy")

    def fails(self):
        self.migration.finish(check=False)
        assert self.migration.status != 0

    def wait_state(self, host, words):
        wait_for(lambda: words in host.state(self.guest.name), lambda: f"{words}: {host.state(self.guest.name)}", 30)

    def wait_gone(self, host):
        wait_for(lambda: self.guest.name not in host.domains(), f"no guest on {host.name}", 30)

    def wait_recovered(self):
        for recorder in self.recorders.values():
            recorder.wait("qmp", self.guest.name, type="POSTCOPY_RECOVERY_DONE")

    def arrived(self):
        self.migration.finish()
        self.wait_gone(self.rig.a)
        wait_for(lambda: "post-copy" not in self.rig.b.state(self.guest.name), "the guest out of post-copy", 30)

    # -- what was recorded -----------------------------------------------------------------

    def end(self):
        """Waits for all that is on its way; destroys the guest. Returns (libvirt's, ours), a list for
        each host."""
        for host, recorder in self.recorders.items():
            flush(host, recorder)
            recorder.stop()
        for host in self.rig.hosts:
            if self.guest.name in host.domains():
                self.guest.destroy(host)
        recorded = [[e for e in recorder.all() if e.get("domain") == self.guest.name]
                    for recorder in self.recorders.values()]
        return [libvirts(events) for events in recorded], [ours(events) for events in recorded]


MARK = """<domain type='qemu'><name>end-of-events</name><memory>4096</memory>
<os><type arch='x86_64'>hvm</type></os></domain>"""


def flush(host, recorder):
    """libvirt's events come in their order: after these of another domain all are there."""
    host.path("/tmp/end-of-events.xml").write_text(MARK)
    host.virsh("define", "/tmp/end-of-events.xml")
    host.virsh("undefine", "end-of-events")
    recorder.wait("lifecycle", "end-of-events", type="undefined")


def words(event):
    if event["event"] == "lifecycle":
        return f"{event['type']}/{event['detail']}"
    if event["event"] != "qmp":
        return event["event"]
    return " ".join(["qmp", event["type"], *filter(None, [(event["details"] or {}).get("status")])])


def is_ours(event):
    return event["event"] == "qmp" and event["type"].startswith(OURS)


def libvirts(events):
    return [words(e) for e in events if e["event"] != "qmp" or e["type"] in QMP]


def ours(events):
    """["CHANNEL_OPENED main", ...]; the details are in test_monitor_events."""
    events = [e for e in events if is_ours(e)]
    times = [e["at"] for e in events]
    assert times == sorted(times), times
    return [" ".join([e["type"].removeprefix(OURS), *filter(None, [e["details"].get("channel")])])
            for e in events]


def comparable(events):
    """Without what differs from one run of libvirt's own to the next."""
    same = []
    for event in events:
        # Pre-copy makes as many passes as the machine's speed has it: the first tells where they are.
        if event in ("qmp MIGRATION_PASS", "migration-iteration") and event in same:
            continue
        # QEMU's cancellation closes the stream before it notes that it cancels. Its migration thread may see
        # the one before the other, and then it has failed.
        if event == "qmp MIGRATION cancelling":
            continue
        # A destination QEMU whose stream has ended is killed by libvirt, which may be before it has said a word.
        if event == "qmp MIGRATION failed" and "started/migrated" in same:
            continue
        same.append(event.replace("MIGRATION cancelled", "MIGRATION failed"))
    return same


# -- the runs: what happens in them, and what there is of ours --------------------------------------

OPENED = ["CHANNEL_OPENED main", "CHANNEL_OPENED preempt"]


def good(way, *options):
    way.start(*options)
    way.in_postcopy()
    way.arrived()


def good_peer_to_peer(way):
    good(way, "--p2p")


def aborted(way):
    way.start()
    way.in_precopy()
    way.virsh("domjobabort", way.guest.name)
    way.fails()
    way.wait_gone(way.rig.b)


def lost_before_the_switch(way):
    way.start()
    way.in_precopy()
    kill_qemu(way.rig.b)
    way.fails()
    way.wait_gone(way.rig.b)


def lost_after_the_switch(way):
    way.start()
    way.in_postcopy()
    kill_qemu(way.rig.b)
    way.fails()
    way.wait_gone(way.rig.b)
    way.wait_state(way.rig.a, "post-copy failed")


def both_have_failed(way):
    for host in way.rig.hosts:
        way.wait_state(host, "post-copy failed")


def paused_and_resumed(way):
    way.start()
    way.in_postcopy()
    way.virsh("domjobabort", "--postcopy", way.guest.name)
    both_have_failed(way)
    way.fails()
    way.migrate("--postcopy-resume")
    way.arrived()
    if not way.native:
        way.wait_recovered()


def cut_and_recovered(way):
    """With libvirt alone somebody has to ask for it."""
    way.start()
    way.in_postcopy()
    if way.native:
        way.rig.a.run(["ss", "-K", "-Htn", "dst", way.rig.b.ip, "dport", "ge", ":49152"])
        both_have_failed(way)
        way.fails()
        way.migrate("--postcopy-resume")
        way.arrived()
        return
    with cut(way.rig, "refused"):
        both_have_failed(way)
        way.fails()
        # the first attempts are made in vain
        way.recorders[way.rig.a].wait("qmp", way.guest.name, type="POSTCOPY_RECOVERY_FAILED")
    way.wait_gone(way.rig.a)
    way.wait_recovered()


def with_libvirt_alone(rig, scenario):
    """The events of a run to compare with. A resume of libvirt's own fails at times, more often on a busy
    machine: its Finish comes to the destination before the destination's QEMU has seen the new connection. That
    is no run to compare with, so there is another one."""
    for last in (False, False, False, False, True):
        alone = Way(rig, native=True)
        try:
            scenario(alone)
            return alone.end()
        except CommandFailed as failure:
            if last or "failed in post-copy phase" not in str(failure):
                raise
            note(f"libvirt alone, once more: {failure}")
            alone.end()
    return None


def both_ways(rig, scenario):
    """Runs it with libvirt alone and with this driver: libvirt's events must be the same. Returns ours, a
    list for each host."""
    expected, none = with_libvirt_alone(rig, scenario)
    with_ours = Way(rig, native=False)
    scenario(with_ours)
    came, own = with_ours.end()
    assert none == [[], []], none
    for host, theirs, here in zip(rig.hosts, expected, came):
        assert comparable(here) == comparable(theirs), f"on {host.name} {here}, with libvirt alone {theirs}"
        note(f"{host.name}: {', '.join(comparable(here))}")
    return own


def test_good(rig):
    assert both_ways(rig, good) == [OPENED, OPENED]


def test_good_peer_to_peer(rig):
    assert both_ways(rig, good_peer_to_peer) == [OPENED, OPENED]


def test_aborted_in_precopy(rig):
    assert both_ways(rig, aborted) == [OPENED, OPENED]


def test_destination_qemu_lost_in_precopy(rig):
    assert both_ways(rig, lost_before_the_switch) == [OPENED, OPENED]


def test_destination_qemu_lost_in_postcopy(rig):
    assert both_ways(rig, lost_after_the_switch) == [OPENED, OPENED]


@deadline(180)
def test_paused_and_resumed(rig):
    resumed = [*OPENED, "RECOVERY_STARTED", *OPENED, "RECOVERY_DONE"]
    assert both_ways(rig, paused_and_resumed) == [resumed, resumed]


@own_rig
@deadline(180)
def test_cut_and_recovered(rig):
    """The daemons recover by themselves, and libvirt says of it what it says of a user's resume."""
    for host in rig.hosts:
        host.restart_daemon(auto_recover=1, reconnect_timeout=1)
    source, target = both_ways(rig, cut_and_recovered)
    assert source[:2] == target[:2] == OPENED
    for events in (source, target):
        lost = [event for event in events if event.startswith("LINK_LOST")]
        assert sorted(lost) == ["LINK_LOST main", "LINK_LOST preempt"], events
    recovery = [event for event, _ in itertools.groupby(source[4:], lambda e: e.split()[0])]
    assert recovery[-3:] == ["RECOVERY_STARTED", "CHANNEL_OPENED", "RECOVERY_DONE"], source
    assert recovery[:-3] == ["RECOVERY_STARTED", "RECOVERY_FAILED"] * (len(recovery[:-3]) // 2), source
    assert target[4:] == ["RECOVERY_STARTED", *OPENED, "RECOVERY_DONE"], target
