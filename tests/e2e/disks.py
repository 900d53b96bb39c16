# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks of a guest that are not shared by the hosts: made, written by the guest's device, compared."""
import os
import random

from guest import Guest

DIR = "/var/lib/libvirt/images"
MIB = 1 << 20
MARKER = b"PostcopyDiskBlock"           # at the beginning of every block that has data

XML = """
<disk type='file' device='disk'>
  <driver name='qemu' type='{format}' cache='none' discard='unmap'/>
  <source file='{file}'/>
  {backing}
  <target dev='{target}' bus='virtio'/>
  {shareable}
  <alias name='ua-{target}'/>
</disk>
"""


class Disk:
    """One disk of a guest, with a file of the same name on both hosts; the destination's is empty.

    data            MiB of it that are filled, each of its blocks beginning with MARKER
    base            MiB of data in a backing file that both hosts have (qcow2)
    shareable       others may have it open, too: libvirt does not copy it"""

    def __init__(self, rig, target, megabytes=64, data=32, form="raw", base=0, shareable=False):
        self.rig, self.target, self.form, self.size = rig, target, form, megabytes * MIB
        self.shareable = "<shareable/>" if shareable else ""
        number = rig.a.next_number()
        self.file = f"{DIR}/disk-{number}.{form}"
        self.base = f"{DIR}/disk-{number}.base" if base else None
        for host in rig.hosts:
            if base:
                self._fill(host, self.base, "raw", base, 0)
            self._create(host, self.file)
        self._fill(rig.a, self.file, form, data, base * MIB)

    def _create(self, host, file):
        more = ["-F", "raw", "-b", self.base] if self.base else []
        host.run(["qemu-img", "create", "-q", "-f", self.form, *more, file, str(self.size)])

    def _fill(self, host, file, form, megabytes, offset):
        """Writes that much from offset on: for each block the marker, then what nobody can compress."""
        source = random.Random(file + form)
        raw = host.path(file + ".raw")
        with open(raw, "wb") as out:
            out.truncate(self.size)
            out.seek(offset)
            for _ in range(megabytes * MIB // 65536):
                out.write(MARKER + source.randbytes(65536 - len(MARKER)))
        if form == "raw":
            os.rename(raw, host.path(file))
        else:
            host.run(["qemu-io", "-f", form, "-c", f"write -q -s {file}.raw {offset} {megabytes}M", file])
            raw.unlink()

    def xml(self):
        backing = f"<backingStore type='file'><format type='raw'/><source file='{self.base}'/></backingStore>" \
            if self.base else ""
        return XML.format(format=self.form, file=self.file, target=self.target, backing=backing,
                          shareable=self.shareable)

    def write(self, host, guest, pattern, offset, length):
        """As the guest's device does, while it runs. (What QEMU says about it goes to its log.)"""
        complaint = host.virsh("qemu-monitor-command", guest.name, "--hmp",
                               f"qemu-io -d /machine/peripheral/ua-{self.target}/virtio-backend "
                               f"\"write -P {pattern} {offset} {length}\"").stdout.strip()
        assert not complaint, complaint

    def content(self, host):
        """What a guest reads on it, as bytes; with no QEMU that has it open for writing."""
        raw = f"{self.file}.{host.name}.out"
        host.run(["qemu-img", "convert", "-U", "-f", self.form, "-O", "raw", self.file, raw])
        data = host.path(raw).read_bytes()
        host.path(raw).unlink()
        return data

    def remove(self):
        for host in self.rig.hosts:
            for file in filter(None, (self.file, self.base)):
                host.path(file).unlink(missing_ok=True)


def guest_with(rig, *disks, memory=64, **options):
    options = {"hot": 2, "rate": 500, **options}
    return Guest(rig, memory, devices="".join(d.xml() for d in disks), **options).start(rig.a)
