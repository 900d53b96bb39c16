# SPDX-License-Identifier: LGPL-2.1-or-later
"""A migration that stock virsh asks for: of this project's daemons and helpers, or of libvirt alone."""
import demo_hosts
from host import CommandFailed
from measured import SOURCE_SPEED_MIB, TIMEOUT, RunFailed, Timeline, Wire, guest_side, only, ready
from processes import Watch
from wait import wait_for

OPTIONS = ("--live", "--postcopy", "--bandwidth", str(SOURCE_SPEED_MIB))


def _times(recorder, guest):
    """A function as Timeline wants it."""
    def times(name, details):
        return [e["at"] for e in recorder.find("qmp", guest.name, type=name)
                if all((e["details"] or {}).get(key) == value for key, value in details.items())]
    return times


def _processes(rig, with_daemon):
    """What there is to watch: (running, coming), see Watch."""
    source, target = rig.hosts
    running = {"qemu-source": only(source.pids("qemu-system-x86_64")),
               "libvirtd-source": source.libvirtd.pid, "libvirtd-destination": target.libvirtd.pid}
    coming = {"qemu-destination": lambda: only(target.pids("qemu-system-x86_64"))}
    if with_daemon:
        running |= {"daemon-source": source.daemon.pid, "daemon-destination": target.daemon.pid}
        coming |= {"helper-source": lambda: only(source.helpers()),
                   "helper-destination": lambda: only(target.helpers())}
    return running, coming


def _migrate(rig, guest, recorders, with_daemon):
    """Switches to post-copy as soon as the source has begun; returns when virsh has ended."""
    uri = rig.a.uri(scheme="postcopy" if with_daemon else "qemu")
    start = guest.start_migration if with_daemon else guest.start_native_migration
    migration = start(rig.a, rig.b, *OPTIONS)
    try:
        begun = _times(recorders[0], guest)
        wait_for(lambda: begun("MIGRATION", {"status": "active"}) or not migration.running,
                 "the migration begun", 30, 0.01)
        if migration.running:
            rig.a.virsh("migrate-postcopy", guest.name, uri=uri)
        migration.finish(timeout=TIMEOUT)
    finally:
        if migration.running:
            migration.kill()
    return migration


def _summaries(rig):
    wait_for(lambda: all(map(demo_hosts.Summary.of, rig.hosts)), "a summary in both daemons' logs")
    source, target = map(demo_hosts.Summary.of, rig.hosts)
    for summary in (source, target):
        if summary["state"] != "completed":
            raise RunFailed(f"a daemon says: {summary}")
    return {"source": source, "destination": target}


def run(rig, case, with_daemon=True):
    """One migration from a to b; returns its figures."""
    guest, recorders = case.guest(rig), []
    try:
        recorders += [host.events() for host in rig.hosts]
        guest.start(rig.a)
        ready(rig, guest)
        wire = Wire(rig.a)
        with Watch(*_processes(rig, with_daemon)) as watch:
            migration = _migrate(rig, guest, recorders, with_daemon)
            recorders[1].wait("qmp", guest.name, type="MIGRATION", details={"status": "completed"})
        times = Timeline(*(_times(recorder, guest) for recorder in recorders)).result()
        job = recorders[0].wait("job-completed", guest.name)["params"]
        result = {**times, **wire.result(), **watch.summary(), "virsh_s": migration.seconds,
                  "requests": job.get("memory_postcopy_requests"), **guest_side(rig, guest, times)}
        return result | ({"statistics": _summaries(rig)} if with_daemon else {})
    except CommandFailed as error:
        raise RunFailed(str(error)) from error
    finally:
        for recorder in recorders:
            recorder.stop()
        _clean(rig, guest)


def _clean(rig, guest):
    """Neither guest nor helper is left for the next run."""
    for host in rig.hosts:
        if guest.name in host.domains():
            guest.destroy(host)
    for host in rig.hosts:
        wait_for(lambda h=host: not h.pids("qemu-system-x86_64") and not h.helpers(),
                 f"no QEMU and no helper left in {host.name}", 20)
