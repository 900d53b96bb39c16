# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of whole migrations share: how they begin, and what must be true in the end."""
import re

from harness import note
from wait import wait_for

RUN_DIR = "/run/libvirt/virtpostcopy"
MEMORY_SOCK = "virtpostcopyd-memory-sock"
POSTCOPY = ("--live", "--postcopy")


def begun_postcopy(events, guest, timeout=60):
    """Waits until the guest runs on the destination with its memory still coming."""
    return events.wait("lifecycle", guest.name, timeout, type="resumed", detail="postcopy")


def precopy_under_way(rig, guest, *options, rate="100mbit", **where):
    """A pre-copy on a link too slow for it ever to end (the guest should touch all it can).
    Returns the Migration."""
    rig.shape(rate)
    migration = guest.start_migration(rig.a, rig.b, *POSTCOPY, *options, **where)
    sent = rig.a.wire_bytes()[1]
    wait_for(lambda: not migration.running or rig.a.wire_bytes()[1] - sent > 8 << 20, "8 MiB sent", 30)
    assert migration.running, migration.finish(check=False).stderr
    return migration


def switch(rig, guest):
    """Switches it to post-copy, as soon as QEMU lets that be: of a guest with disks to copy they come first."""
    def switched():
        done = rig.a.virsh("migrate-postcopy", guest.name, uri=rig.a.uri(), check=False)
        assert done.returncode == 0 or "must be started after migration" in done.stderr, done.stderr
        return done.returncode == 0
    wait_for(switched, "QEMU's migration to begin", 30)


def begin_in_postcopy(rig, guest, *options, rate="200mbit", **where):
    """Starts a migration from a to b on a slow link and switches it to post-copy while most of the
    memory is still to come. Returns (Migration, events of a, events of b)."""
    events = rig.a.events(), rig.b.events()
    migration = precopy_under_way(rig, guest, *options, rate=rate, **where)
    switch(rig, guest)
    begun_postcopy(events[1], guest)
    return migration, *events


def what_is_left(path):
    return [p.name for p in path.iterdir() if p.name != MEMORY_SOCK] if path.exists() else []


def nothing_left(rig, timeout=5):
    """No helper, no socket, no directory, no record of a migration on either host; where memory clients call
    is there all the time."""
    for host in rig.hosts:
        wait_for(lambda h=host: not h.helpers(), lambda h=host: f"no helper left on {h.name}", 20)
        left = host.path(RUN_DIR)
        wait_for(lambda p=left: not what_is_left(p), lambda p=left: f"an empty {p}; there is {what_is_left(p)}",
                 timeout)


def arrived(rig, guest, source=None, target=None):
    """The guest runs on target alone, with all of its memory right; nothing else is left."""
    source, target = source or rig.a, target or rig.b
    verdict = guest.verdict(target)
    assert guest.name not in source.domains(), "the guest is on both hosts"
    assert target.state(guest.name).startswith("running"), target.state(guest.name)
    assert "post-copy" not in target.state(guest.name), target.state(guest.name)
    nothing_left(rig)
    note(f"{verdict['pages']} pages verified, {verdict['bad']} wrong, {verdict['touches']} touches")
    return verdict


def stayed(rig, guest):
    """The guest still runs on a with all of its memory right; nothing is left on b."""
    verdict = guest.verdict(rig.a)
    wait_for(lambda: guest.name not in rig.b.domains(), "no guest on b", 15)
    nothing_left(rig)
    note(f"stayed: {verdict['pages']} pages verified, {verdict['bad']} wrong")
    return verdict


def summaries(host):
    """The daemon's last word on each migration: a list of {field: text}."""
    return [dict(re.findall(r'([\w-]+)=("[^"]*"|\S*)', line))
            for line in host.log("virtpostcopyd.out").splitlines() if " summary domain=" in line]


def went_through_helpers(rig, guest):
    """Both daemons saw this guest's stream complete, over TLS 1.3."""
    for host in rig.hosts:
        wait_for(lambda h=host: [s for s in summaries(h) if s["domain"] == guest.name],
                 f"a summary on {host.name}", 10)
        last = [s for s in summaries(host) if s["domain"] == guest.name][-1]
        assert last["state"] == "completed", last
        assert last["tls"] == "TLS1.3", last
    return last
