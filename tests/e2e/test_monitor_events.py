# SPDX-License-Identifier: LGPL-2.1-or-later
"""This driver's own events reach who has asked for them, and nobody else, with the details of
virt-postcopy-events(7)."""
import json
import re
import signal
import subprocess
import time

from course import LogWatch
from cuts import cut
from guest import Guest
from harness import deadline, note, own_rig
from migrating import arrived, begin_in_postcopy
from wait import wait_for

RIG = {"daemon_conf": {"reconnect_timeout": 20}}

REGISTERED = r"monitor events: callback \d+, for 0x"
HEAD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: event (\S+) for domain '(\S+)': ", re.M)
LINK = ("POSTCOPY_LINK_LOST", "POSTCOPY_LINK_RESTORED")


class Virsh:
    """`virsh qemu-monitor-event --loop --pretty --timestamp` with more options, in a host."""

    def __init__(self, host, *options, fits=True):
        log = LogWatch(host)
        self.host = host
        self.file = host.path(f"/tmp/virsh-{host.next_number()}.out")
        with open(self.file, "wb") as out:
            self.process = host.popen(["stdbuf", "-oL", "virsh", "-c", host.uri(), "qemu-monitor-event", "--loop",
                                       "--pretty", "--timestamp", *options],
                                      stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        # What fits none of ours is libvirtd's alone, and not seen here.
        if fits:
            log.wait(REGISTERED)

    def names(self):
        """Of the events so far."""
        return [name for name, _ in HEAD.findall(self.file.read_text())]

    def has(self, name, times=1):
        wait_for(lambda: self.names().count(name) >= times, lambda: f"{times} {name}: {self.names()}", 60)

    def stop(self):
        """Has it end. Those of its events that are ours: [(event, domain, details), ...]"""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        text, end, _ = self.file.read_text().partition("\nevents received: ")
        assert end, text
        pieces = HEAD.split(text.removesuffix("\nevent loop interrupted"))[1:]
        return [(name, domain, json.loads(details))
                for name, domain, details in zip(pieces[::3], pieces[1::3], pieces[2::3])
                if name.startswith("POSTCOPY_")]


def names(events):
    return [name for name, _, _ in events]


def cut_and_back(rig, *watched):
    """The connections are reset, and made again; both sides have told of it."""
    with cut(rig, "reset"):
        for virsh in watched:
            virsh.has(LINK[1], 2)


def check_details(side, guest, events):
    """The events of a session whose two channels were lost once. Returns its session id."""
    opened = [details for name, _, details in events if name == "POSTCOPY_CHANNEL_OPENED"]
    lost = [details for name, _, details in events if name == LINK[0]]
    restored = [details for name, _, details in events if name == LINK[1]]
    assert {domain for _, domain, _ in events} == {guest.name}, events
    assert [details["channel"] for details in opened] == ["main", "preempt"], opened
    for details in opened:
        assert details["tls"] == "TLS1.3" and details["cipher"] and "CN=host" in details["peer"], details
        assert set(details) == {"side", "session", "channel", "tls", "cipher", "peer"}, details
    for details in lost:
        assert set(details) == {"side", "session", "channel", "reason"} and details["reason"], details
    for details in restored:
        assert set(details) == {"side", "session", "channel", "lost-ms"} and details["lost-ms"] >= 0, details
    for channels in (lost, restored):
        assert sorted(details["channel"] for details in channels) == ["main", "preempt"], channels
    session, = {details["session"] for _, _, details in events}
    assert {details["side"] for _, _, details in events} == {side}, events
    return session


def test_virsh_shows_a_cut_and_filters_count(rig):
    guest, other = Guest(rig, 128, rate=0).start(rig.a), Guest(rig, 16).start(rig.a)
    everything, target = Virsh(rig.a), Virsh(rig.b)
    fitting = {
        "regex": (Virsh(rig.a, "--regex", "--event", "^POSTCOPY_LINK_"), LINK),
        "regex, nocase": (Virsh(rig.a, "--regex", "--no-case", "--event", "link_(lost|restored)"), LINK),
        "name": (Virsh(rig.a, "--event", LINK[1]), LINK[1:]),
        "name, nocase": (Virsh(rig.a, "--no-case", "--event", "postcopy_link_lost"), LINK[:1]),
        "domain": (Virsh(rig.a, guest.name, "--event", LINK[0]), LINK[:1]),
    }
    others = {
        "another domain": Virsh(rig.a, other.name),
        "another event": Virsh(rig.a, "--event", "MIGRATION", fits=False),
        "part of a name": Virsh(rig.a, "--event", "POSTCOPY_LINK", fits=False),
        "regex that is not nocase": Virsh(rig.a, "--regex", "--event", "postcopy", fits=False),
    }
    migration, _, _ = begin_in_postcopy(rig, guest)
    cut_and_back(rig, everything, target)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    all_of_it = everything.stop()
    session = check_details("source", guest, all_of_it)
    assert session == check_details("destination", guest, target.stop())
    assert f"migration={session}" in rig.a.log("virtpostcopyd.out"), session
    for what, (virsh, expected) in fitting.items():
        assert virsh.stop() == [event for event in all_of_it if event[0] in expected], what
    for what, virsh in others.items():
        assert not virsh.stop(), what
    assert "MIGRATION" in others["another event"].names()       # it was there to hear
    note("; ".join(f"{name} {details}" for name, _, details in all_of_it))


def test_read_only_clients_are_refused_by_libvirt(rig):
    done = rig.a.run(["virsh", "-r", "-c", rig.a.uri(), "qemu-monitor-event", "--timeout", "1"], check=False)
    assert done.returncode != 0 and "read only" in done.stderr, done


# A line for each event; ends the second of its two registrations when told to, and stays connected.
TWO = """
import json, sys, threading
import libvirt, libvirt_qemu
libvirt.virEventRegisterDefaultImpl()
conns = [libvirt.open(sys.argv[1]) for _ in range(2)]

def on_event(_conn, domain, event, seconds, micros, details, which):
    print(json.dumps([which, event, domain.name(), domain.UUIDString(), domain.ID(), seconds + micros / 1e6,
                      details and json.loads(details)]), flush=True)

numbers = [libvirt_qemu.qemuMonitorEventRegister(conn, None, None, on_event, which, 0)
           for which, conn in zip(("one", "two"), conns)]
print(json.dumps(["ready"]), flush=True)

def loop():
    while True:
        libvirt.virEventRunDefaultImpl()

threading.Thread(target=loop, daemon=True).start()
sys.stdin.readline()
libvirt_qemu.qemuMonitorEventDeregister(conns[1], numbers[1])
print(json.dumps(["off"]), flush=True)
sys.stdin.read()
"""


def test_deregistered_callback_gets_none(rig):
    """And each event has the domain that it is of, and the time at which it happened."""
    guest = Guest(rig, 128, rate=0).start(rig.a)
    file = rig.a.path("/tmp/two.json")
    began = time.time()
    with open(file, "wb") as out:
        client = rig.a.popen(["/usr/bin/python3", "-c", TWO, rig.a.uri()], stdin=subprocess.PIPE, stdout=out)

    def lines(*head):
        return [line for line in map(json.loads, file.read_text().splitlines()) if tuple(line[:len(head)]) == head]

    wait_for(lambda: lines("ready"), "both are registered", 20)
    number = int(rig.a.virsh("domid", guest.name).stdout)
    migration, _, _ = begin_in_postcopy(rig, guest)
    for which in ("one", "two"):
        wait_for(lambda w=which: len(lines(w, "POSTCOPY_CHANNEL_OPENED")) == 2,
                 lambda w=which: f"both channels in {lines(w)}", 20)
    client.stdin.write(b"off\n")
    client.stdin.flush()
    wait_for(lambda: lines("off"), "one is deregistered", 20)
    with cut(rig, "reset"):
        wait_for(lambda: len(lines("one", LINK[1])) == 2, "both channels back", 30)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    client.stdin.close()
    client.wait(20)
    assert not lines("two", LINK[0]) and not lines("two", LINK[1]), lines("two")
    for _, event, name, uuid, ident, at, _ in lines("one"):
        if event.startswith("POSTCOPY_"):
            assert (name, uuid, ident) == (guest.name, guest.uuid, number), (event, name, uuid, ident)
            assert began - 1 < at < time.time() + 1, at


@deadline(180)
def test_daemon_that_was_restarted_tells_of_what_it_has_found_again(rig):
    guest = Guest(rig, 128, rate=0).start(rig.a)
    migration, _, _ = begin_in_postcopy(rig, guest)
    for host in rig.hosts:
        host.kill_daemon()
        host.start_daemon()
    watched = [Virsh(host) for host in rig.hosts]
    cut_and_back(rig, *watched)
    rig.unshape()
    migration.finish(check=False)           # its connections went with the daemons
    arrived(rig, guest)
    for virsh in watched:
        events = virsh.stop()
        assert sorted(names(events)) == sorted(LINK * 2), events
        assert all(domain == guest.name for _, domain, _ in events), events


@own_rig
@deadline(180)
def test_recovery_is_told_with_its_attempts(rig):
    for host in rig.hosts:
        host.restart_daemon(reconnect_timeout=1)
    guest = Guest(rig, 64, rate=0).start(rig.a)
    watched = [Virsh(host) for host in rig.hosts]
    migration, _, _ = begin_in_postcopy(rig, guest)
    with cut(rig, "refused"):
        watched[0].has("POSTCOPY_RECOVERY_FAILED", 2)       # attempts in vain
    rig.unshape()
    for virsh in watched:
        virsh.has("POSTCOPY_RECOVERY_DONE")
    migration.finish(check=False)
    arrived(rig, guest)
    source, target = ([(name.removeprefix("POSTCOPY_RECOVERY_"), details) for name, _, details in virsh.stop()
                       if "RECOVERY" in name] for virsh in watched)
    session = source[0][1]["session"]
    attempts = len(source) // 2
    expected = []
    for attempt in range(1, attempts + 1):
        common = {"side": "source", "session": session, "attempt": attempt}
        expected += [("STARTED", common), ("FAILED" if attempt < attempts else "DONE", common)]
    assert [(name, {k: v for k, v in details.items() if k not in ("reason", "will-retry")})
            for name, details in source] == expected, source
    for name, details in source:
        assert (name == "FAILED") == ("reason" in details), details
        assert details.get("will-retry", True) is True, details
    assert target == [(name, {"side": "destination", "session": session}) for name in ("STARTED", "DONE")], target
    note(f"{attempts} attempts: {source}")
