# SPDX-License-Identifier: LGPL-2.1-or-later
"""A manager that migrates guests with python3-libvirt and looks at their job statistics ten times a second,
on both sides, as long as it takes."""
import contextlib
import os
import signal
import subprocess

import libvirt

from course import halted
from cuts import cut
from guest import Guest
from harness import deadline, note
from managing import Manager
from migrating import arrived, nothing_left, stayed
from wait import wait_for

RIG = {"daemon_conf": {"keepalive_interval": 1, "keepalive_count": 2, "reconnect_timeout": 30, "auto_recover": 1}}
FLAGS = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_POSTCOPY
COMPLETED = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED
KEEP = COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
MEMORY = 96                             # MiB
LIMIT_MS = 50                           # within which an answer is due

BOTH = {"postcopy.state", "postcopy.phase", "postcopy.session", "postcopy.peer", "postcopy.tls", "postcopy.features",
        "postcopy.channels", "postcopy.main.bytes_sent", "postcopy.main.bytes_received",
        "postcopy.preempt.bytes_sent", "postcopy.preempt.bytes_received",
        "postcopy.bulk.bytes_sent", "postcopy.bulk.bytes_received", "postcopy.requests",
        "postcopy.recoveries", "postcopy.resumes", "postcopy.link", "postcopy.link_lost_time", "postcopy.rate",
        "postcopy.rtt"}
DESTINATION = BOTH | {"postcopy.requests_outstanding", "postcopy.latency_avg", "postcopy.latency_p50",
                      "postcopy.latency_p99", "postcopy.latency_max", "postcopy.latency_histogram",
                      "postcopy.block_time"}
# What can only grow, whatever happens to the sessions.
GROWING = ("time_elapsed", "memory_processed", "postcopy.main.bytes_sent", "postcopy.main.bytes_received",
           "postcopy.preempt.bytes_sent", "postcopy.preempt.bytes_received", "postcopy.requests",
           "postcopy.recoveries", "postcopy.resumes", "postcopy.link_lost_time", "postcopy.block_time",
           "postcopy.latency_max")


@contextlib.contextmanager
def managers(rig, guest):
    """On a, where the guest is, and on b."""
    with Manager(rig.a, guest.name) as source, Manager(rig.b, guest.name) as target:
        yield source, target


def begin(rig, guest, source, how="migrate", rate="100mbit"):
    """Starts it on a link so slow that pre-copy never ends."""
    rig.shape(rate)
    source.tell(how, to=rig.b.uri("tls"), flags=FLAGS, params={"bandwidth": 8})
    source.wait_answer(lambda p: p["memory_processed"] > 8 << 20, "8 MiB sent")


def switch(source, target):
    source.tell("postcopy")
    target.wait_answer(lambda p: p["postcopy.phase"] == "running", "the guest running on the destination")


def finish(rig, source):
    rig.unshape()
    migrated = source.wait("migrated", 90)
    assert migrated["error"] is None, migrated


def is_monotonic(manager):
    answers = [e["params"] for e in manager.answers() if "postcopy.state" in e["params"]]
    assert answers, f"no statistics on {manager.host.name}"
    for name in GROWING:
        values = [a[name] for a in answers if name in a]
        falls = [(x, y) for x, y in zip(values, values[1:]) if y < x]
        assert not falls, f"{name} on {manager.host.name} went back: {falls}"
    return answers


def measured(manager):
    """Prints how long answers took: a machine that is busy may be late."""
    times = sorted(e["ms"] for e in manager.all("answer"))
    late = sum(t > LIMIT_MS for t in times)
    note(f"{manager.host.name}: {len(times)} answers, median {times[len(times) // 2]:.1f} ms, "
         f"99 % {times[len(times) * 99 // 100]:.1f} ms, longest {times[-1]:.1f} ms, {late} above {LIMIT_MS} ms")


def told_in_the_end(source, target):
    """Completed statistics of both sides: kept as long as they are asked to be."""
    for manager, expected, operation in ((source, BOTH, 5), (target, DESTINATION, 4)):
        for flags in (KEEP, COMPLETED):
            answer = manager.completed(flags)
            assert answer.get("type") == libvirt.VIR_DOMAIN_JOB_COMPLETED, answer
            params = answer["params"]
            assert expected <= set(params), f"missing: {sorted(expected - set(params))}"
            assert params["operation"] == operation and params["postcopy.state"] == "completed", params
            assert params["memory_remaining"] == 0 and params["time_elapsed"] > 0, params
        again = manager.completed(COMPLETED)
        assert not any(name.startswith("postcopy.") for name in again.get("params", {})), again


def managed(rig, how):
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    with managers(rig, guest) as (source, target):
        begin(rig, guest, source, how)
        early = target.wait_answer(lambda p: p["postcopy.state"] == "active", "the destination active")
        assert early["type"] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED and early["params"]["operation"] == 4, early
        assert early["params"]["memory_total"] >= MEMORY << 20, early
        switch(source, target)
        target.wait_answer(lambda p: p["postcopy.requests"] > 0 and p["memory_remaining"] > 0, "requests")
        finish(rig, source)
        arrived(rig, guest)
        event = source.wait("job-completed")
        assert BOTH <= set(event["params"]), f"missing in the event: {sorted(BOTH - set(event['params']))}"
        assert event["params"]["postcopy.state"] == "completed", event
        assert not target.all("job-completed"), "an event at the destination, where libvirt has none"
        told_in_the_end(source, target)
        for manager in (source, target):
            answers = is_monotonic(manager)
            assert all(len(a) <= 64 for a in answers)
            assert {a["postcopy.link"] for a in answers} == {"up"}, manager.host.name
            measured(manager)
        last = [a for a in is_monotonic(target) if a["postcopy.requests"]][-1]
        note("destination: " + ", ".join(f"{k.removeprefix('postcopy.')} {last[k]}" for k in sorted(last)
                                         if k.startswith("postcopy.") and k in DESTINATION - BOTH))
    guest.destroy(rig.b)


@deadline(120)
def test_peer_to_peer(rig):
    managed(rig, "migrate")


@deadline(120)
def test_direct(rig):
    managed(rig, "migrate-direct")


@deadline(90)
def test_an_abort_leaves_nothing_completed(rig):
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    with managers(rig, guest) as (source, target):
        begin(rig, guest, source)
        target.wait_answer(lambda p: p["postcopy.state"] == "active", "the destination active")
        rig.a.virsh("domjobabort", guest.name, uri=rig.a.uri())
        migrated = source.wait("migrated")
        assert migrated["error"], migrated
        stayed(rig, guest)
        wait_for(lambda: source.all("answer")[-1].get("type") == libvirt.VIR_DOMAIN_JOB_NONE, "no job any more")
        answer = source.completed(KEEP)
        assert not any(name.startswith("postcopy.") for name in answer["params"]), answer
        wait_for(lambda: target.all("answer")[-1].get("code") == libvirt.VIR_ERR_NO_DOMAIN,
                 "the domain gone from the destination")


# -- libvirtd does not answer --------------------------------------------------------------------

def asked_directly(host, guest):
    """libvirtd's own answer, waited for in a process."""
    return host.popen(["virsh", "-c", host.uri(scheme="qemu"), "domjobinfo", guest.name], stdin=subprocess.DEVNULL,
                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def answers_although(process, manager, what):
    """The manager is answered again and again, while that process waits for libvirtd."""
    more = manager.wait_more(25)
    assert process.poll() is None, f"{what}: libvirtd has answered: {process.communicate()[0]}"
    states = {e["params"]["postcopy.state"] for e in more}
    assert states == {"active"}, states
    times = sorted(e["ms"] for e in more)
    note(f"{what}: {len(more)} answers on {manager.host.name}, median {times[len(times) // 2]:.1f} ms, "
         f"longest {times[-1]:.1f} ms, none by libvirtd")
    return more


@deadline(120)
def test_answers_while_the_source_qemu_stands_still(rig):
    """libvirtd asks QEMU for each answer, and there is none."""
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    with managers(rig, guest) as (source, target):
        begin(rig, guest, source)
        qemu, = rig.a.pids("qemu-system-x86_64")
        with halted(qemu):
            process = asked_directly(rig.a, guest)
            more = answers_although(process, source, "source QEMU halted")
            assert all("memory_processed" in e["params"] and "memory_bps" in e["params"] for e in more), more[-1]
            target.wait_more(5)
        assert "Memory processed" in process.communicate(timeout=60)[0]
        switch(source, target)
        finish(rig, source)
        is_monotonic(source)
    arrived(rig, guest)


@deadline(120)
def test_answers_while_libvirtd_stands_still(rig):
    """Of either host, in post-copy."""
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    with managers(rig, guest) as (source, target):
        begin(rig, guest, source, rate="20mbit")
        switch(source, target)
        for host, manager in ((rig.a, source), (rig.b, target)):
            with halted(host.libvirtd.pid):
                process = asked_directly(host, guest)
                answers_although(process, manager, f"libvirtd of {host.name} halted")
            process.communicate(timeout=60)
        finish(rig, source)
        for manager in (source, target):
            is_monotonic(manager)
    arrived(rig, guest)


# -- the link ------------------------------------------------------------------------------------

@deadline(120)
def test_a_broken_link_shows(rig):
    """The session waits for the link and goes on."""
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    with managers(rig, guest) as (source, target):
        begin(rig, guest, source)
        switch(source, target)
        with cut(rig, "black hole"):
            for manager in (source, target):
                manager.wait_answer(lambda p: p["postcopy.link"] == "lost" and p["postcopy.link_lost_time"] > 0,
                                    "the link lost")
        for manager in (source, target):
            manager.wait_answer(lambda p: p["postcopy.link"] == "up" and p["postcopy.resumes"] > 0
                                and p["postcopy.link_lost_time"] > 0, "the link up again")
        finish(rig, source)
        told = [manager.completed(KEEP)["params"] for manager in (source, target)]
        for manager, params in zip((source, target), told):
            is_monotonic(manager)
            assert params["postcopy.recoveries"] == 0 and params["postcopy.link"] == "up", params
            note(f"{manager.host.name}: {params['postcopy.resumes']} connections replaced, "
                 f"{params['postcopy.link_lost_time']} ms without link")
    arrived(rig, guest)


@deadline(120)
def test_a_recovery_counts(rig):
    """The session breaks; the daemons begin another, and what was counted before still counts."""
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    with managers(rig, guest) as (source, target):
        begin(rig, guest, source)
        switch(source, target)
        target.wait_answer(lambda p: p["postcopy.requests"] > 0, "requests")
        helper, = rig.a.helpers()
        os.kill(helper, signal.SIGKILL)
        for manager in (source, target):
            manager.wait_answer(lambda p: p["postcopy.recoveries"] == 1 and p["postcopy.state"] == "active",
                                "the recovery")
        rig.unshape()
        source.wait("migrated", 90)
        wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from the source", 60)
        arrived(rig, guest)
        for manager in (source, target):
            answers = is_monotonic(manager)
            lost = [a for a in answers if a["postcopy.link"] == "lost"]
            note(f"{manager.host.name}: {len(lost)} answers while there was no session, "
                 f"{answers[-1]['postcopy.link_lost_time']} ms without link")
            params = manager.completed(KEEP)["params"]
            assert params["postcopy.recoveries"] == 1 and params["postcopy.link_lost_time"] > 0, params


@deadline(120)
def test_the_daemon_starts_anew(rig):
    """What it knew of the link and of the begin is in its records."""
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    with managers(rig, guest) as (source, target):
        begin(rig, guest, source)
        switch(source, target)
        with cut(rig, "reset"):
            pass
        before = target.wait_answer(lambda p: p["postcopy.resumes"] > 0 and p["postcopy.link"] == "up", "a resume")
        rig.b.kill_daemon()
        rig.b.start_daemon()
        with Manager(rig.b, guest.name) as later:
            after = later.wait_answer(lambda p: p.get("postcopy.state") == "active", "statistics again")
            for name in ("time_elapsed", "postcopy.resumes", "postcopy.requests", "postcopy.main.bytes_received",
                         "postcopy.link_lost_time"):
                assert after["params"][name] >= before["params"][name], name
    rig.unshape()
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from the source", 60)
    arrived(rig, guest)


# -- what virsh and others see -------------------------------------------------------------------

@deadline(120)
def test_virsh_shows_them_on_both_sides(rig):
    """domjobinfo has no words for fields that it does not know, and prints the rest."""
    guest = Guest(rig, MEMORY, rate=0).start(rig.a)
    with managers(rig, guest) as (source, target):
        begin(rig, guest, source)
        switch(source, target)
        for host, operation in ((rig.a, "Outgoing migration"), (rig.b, "Incoming migration")):
            for options in ((), ("--anystats",)):
                for more in ((), ("-r",)):
                    text = host.run(["virsh", *more, "-c", host.uri(), "domjobinfo", guest.name, *options]).stdout
                    assert operation in text and "Memory processed" in text and "Time elapsed" in text, text
        info = guest_info(rig.b, guest)
        assert info[0] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED and info[1] > 0 and info[7] > 0, info
        finish(rig, source)
        text = rig.b.virsh("domjobinfo", guest.name, "--completed", "--keep-completed", uri=rig.b.uri()).stdout
        assert "Completed" in text and "Incoming migration" in text and "Memory processed" in text, text
        text = rig.b.virsh("domjobinfo", guest.name, "--completed", uri=rig.b.uri()).stdout
        assert "Completed" in text, text
        text = rig.b.virsh("domjobinfo", guest.name, "--completed", uri=rig.b.uri()).stdout
        assert "Completed" not in text, text
    arrived(rig, guest)


JOB_INFO = "import sys, libvirt; print(*libvirt.openReadOnly(sys.argv[1]).lookupByName(sys.argv[2]).jobInfo())"


def guest_info(host, guest):
    """virDomainGetJobInfo(), which has a fixed set of numbers."""
    done = host.run(["/usr/bin/python3", "-c", JOB_INFO, host.uri(), guest.name])
    return [int(word) for word in done.stdout.split()]


@deadline(90)
def test_other_jobs_and_domains_are_libvirts_own(rig):
    """Without a migration of this driver's nothing is added, and nothing made up."""
    guest = Guest(rig, 64).start(rig.a)
    with Manager(rig.a, guest.name) as source:
        first = wait_for(lambda: source.all("answer"), "an answer")[0]
        assert first["type"] == libvirt.VIR_DOMAIN_JOB_NONE and not first["params"], first
        guest.migrate(rig.a, rig.b, "--live")
        event = source.wait("job-completed")
        assert not any(name.startswith("postcopy.") for name in event["params"]), event
    nothing_left(rig)
    with Manager(rig.b, guest.name) as target:
        answer = target.completed(KEEP)
        assert not any(name.startswith("postcopy.") for name in answer.get("params", {})), answer
