# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two QEMUs driven over QMP and two helpers between them, for what libvirt does not ask of QEMU."""
import contextlib
import pathlib
import shutil
import tempfile
import time

from guest import Guest
from loopback import Pair, Place, certificates
from wait import Timeout, wait_for

SLOW = 25_000_000                       # bytes a second, while a migration must not end
COMMON_MACHINE = "pc-q35-7.2"           # that any QEMU here knows
STOPPED = {"failed", "cancelled", "postcopy-paused"}


class Direct:
    """One guest and one migration of it, from the place `source` to the place `target`.

    rig           says where the programs were built, and which QEMUs are newer ones
    capabilities  of both QEMUs, beside postcopy-ram
    helpers       False: one QEMU speaks to the other
    hugepages     the guest's memory is in pages of 2 MiB, which must be there
    pair          options for the program that stands in for the daemons
    guest         the arguments of a Guest

    builddir and hosts are what a Guest asks of a rig."""

    def __init__(self, rig, *capabilities, helpers=True, hugepages=False, pair=(), **guest):
        self.builddir, self.capabilities, self.helpers = rig.builddir, capabilities, helpers
        self.pair_options = pair
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="postcopy-direct-"))
        self.source, self.target = self.hosts = [Place(self.directory, name) for name in ("source", "destination")]
        self.source.newer, self.target.newer = map(rig.newer.get, "ab")
        self.guest = Guest(self, **guest)
        if bool(self.source.newer) != bool(self.target.newer):
            self.guest.machine = COMMON_MACHINE
        self.incoming = self.outgoing = self.directory / "in.sock"
        self.pair = None
        self.options = ["-smp", self.guest.vcpus]
        if hugepages:
            self.options += ["-machine", "memory-backend=memory", "-object", "memory-backend-memfd,id=memory,"
                             f"hugetlb=on,hugetlbsize=2M,prealloc=on,size={self.guest.memory}M"]

    def __enter__(self):
        try:
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        for place in self.hosts:
            if place.qemu:
                place.qemu.close()
        if self.pair:
            self.pair.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _prepare(self):
        target = self.target.start_qemu(self.guest, *self.options, "-incoming", "defer")
        self.target.allow_postcopy(*self.capabilities)
        target.execute("migrate-incoming", uri=f"unix:{self.incoming}")
        self.source.start_qemu(self.guest, *self.options)
        self.source.allow_postcopy(*self.capabilities)
        wait_for(lambda: self.guest.reports(self.source), "the guest running", 30)
        if self.helpers:
            self.outgoing = self.directory / "out.sock"
            self.pair = Pair(self.builddir, self.directory, self.outgoing, self.incoming, certificates(*self.hosts),
                             *self.pair_options)
            wait_for(lambda: self.pair.find("ready") or self.pair.process.poll() is not None, "the helpers ready", 20)
            assert self.pair.process.poll() is None, self.pair.complaints()

    def migrate(self, megabytes=8, timeout=60, speed=SLOW):
        """Pre-copy, so slow that it cannot end, of that much; then post-copy to the end. Returns
        what the source QEMU says of it."""
        qmp = self.source.qemu.qmp
        qmp.execute("migrate-set-parameters", max_bandwidth=speed)
        qmp.execute("migrate", uri=f"unix:{self.outgoing}")
        self._wait(lambda: qmp.execute("query-migrate").get("ram", {}).get("transferred", 0) > megabytes << 20,
                   f"{megabytes} MiB sent", timeout)
        qmp.execute("migrate-start-postcopy")
        self._wait(lambda: all("completed" in place.statuses() for place in self.hosts), "completed", timeout)
        assert all("postcopy-active" in place.statuses() for place in self.hosts), "there was no post-copy"
        return qmp.execute("query-migrate")

    def _wait(self, predicate, what, timeout):
        """Waits for it while the QEMUs' events are taken in."""
        deadline = time.monotonic() + timeout
        while not predicate():
            if time.monotonic() > deadline:
                raise Timeout(f"after {timeout} s still not: {what}; {self._situation()}")
            for place in self.hosts:
                place.qemu.qmp.read_events(0.02)
            stopped = [place.name for place in self.hosts if not STOPPED.isdisjoint(place.statuses())]
            assert not stopped, f"stopped at {stopped}: {self._situation()}"

    def _situation(self):
        text = "; ".join(f"the {place.name} QEMU: {place.statuses()} {place.qemu.complaints()}" for place in self.hosts)
        return f"{text}; the helpers: {self.pair.complaints() if self.pair else 'none'}"

    def arrived(self):
        """The guest's verdict on the target; then the end of the helpers, if there are any."""
        verdict = self.guest.verdict(self.target)
        if self.pair:
            with contextlib.suppress(Timeout):
                wait_for(lambda: self.pair.process.poll() is not None, "the helpers' end", 10)
            for place in self.hosts:
                result = self.pair.result(place.name)
                assert result.get("state") == "completed", f"{place.name}: {result}; {self.pair.complaints()}"
        return verdict
