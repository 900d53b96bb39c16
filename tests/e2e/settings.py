# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one setting of the whole machine that the rig changes, and its way back.

QEMU run by an ordinary user may handle page faults only with
vm.unprivileged_userfaultfd=1. The first of several rigs sets it, the last one
restores what was there; a record of who uses it survives a rig that was killed.
"""
import contextlib
import fcntl
import json
import os
import pathlib

SETTING = pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd")
RECORD = pathlib.Path("/run/virt-postcopy-rig.json")


def started(pid):
    """When a process started, in clock ticks since boot, or None: tells a reused pid apart."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


@contextlib.contextmanager
def _record():
    """The record, read and written back under a lock; gone when nobody is left in it.

    The lock is on the directory, so that there is no lock file to be left behind."""
    directory = os.open(RECORD.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        try:
            record = json.loads(RECORD.read_text())
        except (OSError, ValueError):
            record = {"before": None, "users": []}
        record["users"] = [u for u in record["users"] if started(u["pid"]) == u["started"]]
        yield record
        if record["users"]:
            RECORD.write_text(json.dumps(record))
        else:
            if record["before"] is not None:
                SETTING.write_text(record["before"])
            RECORD.unlink(missing_ok=True)
    finally:
        os.close(directory)


def allow_userfaultfd():
    """Returns whether page faults may be handled by ordinary users from now on."""
    with _record() as record:
        try:
            now = SETTING.read_text().strip()
            if now != "1":
                SETTING.write_text("1")
                record["before"] = now
        except OSError:
            return False
        record["users"].append({"pid": os.getpid(), "started": started(os.getpid())})
    return True


def release_userfaultfd():
    """Takes back one allow_userfaultfd() of this process."""
    with _record() as record:
        for user in record["users"]:
            if user["pid"] == os.getpid():
                record["users"].remove(user)
                break


def cleanup():
    """Restores the setting if the rigs that needed it have ended without doing so."""
    with _record() as record:
        return len(record["users"])
