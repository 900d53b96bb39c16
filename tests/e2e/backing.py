# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests whose memory is in files, and the file systems of those."""
import contextlib
import os
import shutil
import subprocess
import tempfile

from guest import Guest
from harness import Skip

# The same name on both hosts, with a different file system below it.
PLACE = "/run/guest-files"
MEMORY = 64                             # MiB

FILE = "<memoryBacking><source type='file'/></memoryBacking>"
FILE_SHARED = "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>"
SHARED = "<memoryBacking><access mode='shared'/></memoryBacking>"
MEMFD = "<memoryBacking><source type='memfd'/></memoryBacking>"
MEMFD_SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"

NVDIMM = f"""
<memory model='nvdimm'>
  <source><path>{PLACE}/nvdimm</path></source>
  <target><size unit='MiB'>64</size><node>0</node></target>
</memory>
"""


@contextlib.contextmanager
def disk(layered=True):
    """A directory of this machine's that is on no tmpfs, outside of the hosts. Not layered: nor on an
    overlay, below which there may be one."""
    path = tempfile.mkdtemp(prefix="postcopy-test-", dir="/var/tmp")
    try:
        done = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True)
        if done.stdout.strip() in ("tmpfs", "ramfs", "" if layered else "overlayfs"):
            raise Skip(f"/var/tmp is on {done.stdout.strip()}")
        os.chmod(path, 0o777)
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def place(host, on=None):
    """While entered, libvirt makes guests' files at PLACE: on a tmpfs of the host's, or a directory on a
    disk. libvirtd is started anew for that."""
    host.path(PLACE).mkdir(exist_ok=True)
    host.run(["mount", "--bind", on, PLACE] if on else ["mount", "-t", "tmpfs", "none", PLACE])
    host.path(PLACE).chmod(0o777)
    with host.path(f"{PLACE}/nvdimm").open("wb") as file:
        file.truncate(64 << 20)
    conf = host.path("/etc/libvirt/qemu.conf")
    before = conf.read_text()
    conf.write_text(f'{before}\nmemory_backing_dir = "{PLACE}"\n')
    host.stop_libvirtd()
    host.start_libvirtd()
    try:
        yield
    finally:
        for name in host.domains():
            host.virsh("destroy", name)
        conf.write_text(before)
        host.run(["umount", "-l", PLACE])


def shared_cell(rig, **options):
    """A guest with one NUMA cell, which is shared by itself."""
    guest = Guest(rig, MEMORY, room=64, **options)
    guest.numa = guest.numa.replace("/></numa>", " memAccess='shared'/></numa>")
    return guest
