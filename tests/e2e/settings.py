# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of the whole machine that the rig changes, and their way back.

QEMU run by an ordinary user may handle page faults only with
vm.unprivileged_userfaultfd=1. The first of several rigs sets it, the last one
restores what was there. Who is left is told by locks, which the kernel takes from a
process that is killed. Huge pages are set aside by number: each rig adds what it needs.
"""
import contextlib
import fcntl
import os
import pathlib

SETTING = pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd")
RECORD = pathlib.Path("/run/virt-postcopy-rig.before")
HUGEPAGE_BYTES = 2 << 20
HUGEPAGE_POOL = pathlib.Path(f"/sys/kernel/mm/hugepages/hugepages-{HUGEPAGE_BYTES >> 10}kB/nr_hugepages")
HUGEPAGE_RECORD = pathlib.Path("/run/virt-postcopy-rig.hugepages")


def started(pid):
    """When a process started, in clock ticks since boot, or None: tells a reused pid apart."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


class SharedSetting:
    """A file that holds one value, changed by some processes for as long as any needs it.

    The record keeps the value that was there before; each process that needs the new
    one holds a shared lock on it. A record without locks is of processes that were killed."""

    def __init__(self, setting, record):
        self.setting, self.record = pathlib.Path(setting), pathlib.Path(record)

    @contextlib.contextmanager
    def _alone(self):
        """On the record's directory, so that there is no lock file to be left behind."""
        directory = os.open(self.record.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def hold(self, value):
        """Sets the value; returns what release() wants, or None where it may not be set."""
        with self._alone():
            try:
                before = self.setting.read_text()
            except OSError:
                return None
            fd = os.open(self.record, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if not os.pread(fd, 1, 0):  # else `before` is what another one of us has set
                os.pwrite(fd, before.encode(), 0)
            try:
                if before.strip() != value:
                    self.setting.write_text(value)
            except OSError:
                self._restore(fd)
                return None
        return fd

    def release(self, fd):
        with self._alone():
            self._restore(fd)

    @contextlib.contextmanager
    def withdrawn(self, value):
        """While entered, the setting has another value although there are rigs; none comes or goes."""
        with self._alone():
            before = self.setting.read_text()
            self.setting.write_text(value)
            try:
                yield
            finally:
                self.setting.write_text(before)

    def restore_if_unused(self):
        """Puts the value back that was left changed by processes that were killed.
        Returns whether somebody still needs it."""
        with self._alone():
            if not self.record.exists():
                return False
            return not self._restore(os.open(self.record, os.O_RDWR | os.O_CLOEXEC))

    def _restore(self, fd):
        """Gives up what is held with fd; restores the value if that was the last. Returns that."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = os.pread(fd, 100, 0).decode()
            if before and self.setting.read_text() != before:
                self.setting.write_text(before)
            self.record.unlink()
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(fd)


class SharedPool(SharedSetting):
    """The same for the number of huge pages that are set aside: each process adds its own number,
    and takes it away again. Numbers of processes that were killed go with the last one."""

    def _count(self):
        """Without those that were given back while in use, and are still there for their user alone."""
        surplus = self.setting.with_name("surplus_hugepages")
        return int(self.setting.read_text()) - int(surplus.read_text())

    def hold(self, value):
        """Sets that many more aside; returns what release() wants, or None where they cannot be had."""
        with self._alone():
            try:
                before = self._count()
            except OSError:
                return None
            fd = os.open(self.record, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if not os.pread(fd, 1, 0):
                os.pwrite(fd, f"{before}\n".encode(), 0)
            with contextlib.suppress(OSError):
                self.setting.write_text(str(before + value))
            got = self._count() - before                # as many as there was memory for
            if got < value:
                self._give_back((fd, got))
                return None
        return fd, value

    def release(self, held):
        with self._alone():
            self._give_back(held)

    def _give_back(self, held):
        fd, value = held
        if not self._restore(fd):
            self.setting.write_text(str(max(self._count() - value, 0)))


USERFAULTFD = SharedSetting(SETTING, RECORD)
HUGEPAGES = SharedPool(HUGEPAGE_POOL, HUGEPAGE_RECORD)
