# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's own migration over TCP: two QEMUs, one in each host, driven over QMP. libvirt starts QEMU
with the same arguments, but cannot yet turn on the preempt channel."""
import shlex
import socket
import subprocess
import time

from measured import SOURCE_SPEED_MIB, TIMEOUT, RunFailed, Timeline, Wire, guest_side, ready
from processes import Watch
from qmp import Qmp, QmpClosed, QmpError

PORT = 4444


def arguments(rig, guest):
    """What libvirt would start QEMU with, but for its monitor and its secrets."""
    rig.a.path(f"/tmp/{guest.name}.xml").write_text(guest.xml())
    words = shlex.split(rig.a.virsh("domxml-to-native", "qemu-argv", f"/tmp/{guest.name}.xml").stdout)
    while "=" in words[0]:              # the environment
        words.pop(0)
    options, kept = words[1:], []
    while options:
        option = [options.pop(0)]
        if options and not options[0].startswith("-"):
            option.append(options.pop(0))
        text = " ".join(option)
        if text == "-S" or option[0] == "-mon" or "charmonitor" in text or "masterKey0" in text:
            continue
        kept += option
    return [words[0], *kept]


class HostQemu:
    """A QEMU in a host of the rig, and its monitor as qmp."""

    def __init__(self, host, argv):
        self.host = host
        self.log = f"/var/log/libvirt/bench-{host.next_number()}.out"
        ours, theirs = socket.socketpair()
        with theirs, open(host.path(self.log), "wb") as out:
            self.process = host.popen(
                [*argv, "-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control"],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            self.qmp = Qmp(ours, f"QEMU on {host.name}")
        except BaseException as error:
            ours.close()
            self._end()
            if isinstance(error, QmpClosed):
                raise RunFailed(f"QEMU on {host.name} did not start: {self.complaints()}") from None
            raise

    def complaints(self):
        return " ".join(self.host.path(self.log).read_text(errors="replace").split())

    def capabilities(self, *names):
        self.qmp.execute("migrate-set-capabilities",
                         capabilities=[{"capability": name, "state": True} for name in names])

    def times(self, name, details):
        return [e["t"] for e in self.qmp.find(name, **details)]

    def statuses(self):
        return [e["details"]["status"] for e in self.qmp.find("MIGRATION")]

    def _end(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.qmp.close()
        self._end()


def _wait(qemus, done, what):
    """Takes in events until done(); a migration that fails ends it."""
    deadline = time.monotonic() + TIMEOUT
    while not done():
        for qemu in qemus:
            qemu.qmp.read_events(0.005)
            bad = {"failed", "cancelled", "postcopy-paused"}.intersection(qemu.statuses())
            if bad:
                info = qemu.qmp.execute("query-migrate")
                raise RunFailed(f"{bad.pop()} on {qemu.host.name}: {info.get('error-desc', qemu.complaints())}")
        if time.monotonic() > deadline:
            raise RunFailed(f"after {TIMEOUT} s still not {what}")


def migrate(source, target, uri_out, uri_in, preempt=False, tls=None):
    """Switches to post-copy as soon as the source has begun; returns when both have completed.

    tls: (id of both QEMUs' credentials, the destination's name); None: in clear."""
    qemus = (source, target)
    for qemu in qemus:
        qemu.capabilities("events", "postcopy-ram", *["postcopy-preempt"] * preempt)
        if tls:
            qemu.qmp.execute("migrate-set-parameters", **{"tls-creds": tls[0], "tls-hostname": tls[1]})
    target.qmp.execute("migrate-incoming", uri=uri_in)
    source.qmp.execute("migrate-set-parameters", max_bandwidth=SOURCE_SPEED_MIB << 20, max_postcopy_bandwidth=0)
    source.qmp.execute("migrate", uri=uri_out)
    _wait(qemus, lambda: "active" in source.statuses(), "begun")
    source.qmp.execute("migrate-start-postcopy")
    _wait(qemus, lambda: all("completed" in q.statuses() for q in qemus), "completed")


def run(rig, case, preempt=False):
    """One migration from a to b; returns its figures."""
    guest, qemus = case.guest(rig), []
    argv = arguments(rig, guest)
    try:
        qemus.append(HostQemu(rig.a, argv))
        ready(rig, guest)
        qemus.append(HostQemu(rig.b, [*argv, "-incoming", "defer"]))
        source, target = qemus
        wire = Wire(rig.a)
        with Watch({"qemu-source": source.process.pid, "qemu-destination": target.process.pid}) as watch:
            migrate(source, target, f"tcp:{rig.b.ip}:{PORT}", f"tcp:{rig.b.ip}:{PORT}", preempt)
        times = Timeline(source.times, target.times).result()
        job = source.qmp.execute("query-migrate")
        return {**times, **wire.result(), **watch.summary(), "requests": job["ram"]["postcopy-requests"],
                **guest_side(rig, guest, times)}
    except (QmpError, QmpClosed) as error:
        said = "; ".join(f"{q.host.name}: {q.complaints()}" for q in qemus)
        raise RunFailed(f"{error}; {said}") from error
    finally:
        for qemu in qemus:
            qemu.close()
