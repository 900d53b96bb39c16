# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domains that post-copy would fail for, or lose, are refused while nothing has happened yet; those that
look like them and are none migrate."""
import contextlib
import os

from backing import (FILE, FILE_SHARED, MEMFD, MEMFD_SHARED, MEMORY, NVDIMM, PLACE, SHARED, disk, place,
                     shared_cell)
from guest import Guest
from harness import Skip, deadline, note, own_rig
from host import CommandFailed
from losses import kill_helpers
from migrating import POSTCOPY, arrived, begin_in_postcopy, stayed
from wait import wait_for

AFTER = (*POSTCOPY, "--postcopy-after-precopy")
HOWS = ((), ("--p2p",))

SHMEM = "<shmem name='shared' role='{}'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
DISK = """
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2' cache='none'/>
  <source file='/var/lib/libvirt/images/{}.qcow2'/>
  <target dev='vda' bus='virtio'/>{}
</disk>
"""
TRANSIENT = "<transient/>"
USB_SOUND = "<controller type='usb' index='1' model='qemu-xhci'/><sound model='usb'/>"
PLAN9 = "<filesystem type='mount' accessmode='mapped'><source dir='/tmp'/><target dir='share'/></filesystem>"
VIRTIOFS = """
<filesystem type='mount' accessmode='passthrough'>
  <driver type='virtiofs'/><source dir='/var/lib/libvirt/images'/><target dir='share'/>
</filesystem>
"""
NO_USB = "<controller type='usb' model='none'/>"


# virsh does not let these go together.
OFFLINE = """
import sys, libvirt
source, target, name = sys.argv[1:]
flags = (libvirt.VIR_MIGRATE_OFFLINE | libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_LIVE |
         libvirt.VIR_MIGRATE_POSTCOPY)
libvirt.open(source).lookupByName(name).migrate3(libvirt.open(target), {}, flags)
"""


def daemon_says(host, since, *words):
    """A line of the host's daemon since then has all of these."""
    lines = host.log("virtpostcopyd.out")[since:].splitlines()
    return any(all(word in line for word in words) for line in lines)


def refused(rig, guest, *words, by, phase, options=POSTCOPY):
    """Neither direct nor peer-to-peer: libvirt's code and our words, from that host in that phase, and
    no job is left on the source."""
    for how in HOWS:
        where = {host: len(host.log("virtpostcopyd.out")) for host in rig.hosts}
        migration = guest.migrate(rig.a, rig.b, *options, *how, check=False)
        assert migration.status != 0, f"{how}: it was migrated"
        for word in words:
            assert word in migration.stderr, (how, word, migration.stderr)
        expected = "perform" if how and phase == "begin" else phase
        assert daemon_says(by, where[by], f"phase={expected} ", "refused: "), (how, by.name, expected)
        rig.a.virsh("suspend", guest.name)          # a job that was left behind would refuse this
        rig.a.virsh("resume", guest.name)
        assert guest.name not in rig.b.domains()
    note(migration.stderr.strip())


def refused_and_stayed(rig, guest, *words, **where):
    guest.start(rig.a)
    refused(rig, guest, *words, **where)
    stayed(rig, guest)
    guest.destroy(rig.a)


def migrates(rig, guest, *options):
    """With memory that arrives after the guest does."""
    guest.start(rig.a)
    migration, *_ = begin_in_postcopy(rig, guest, *options)
    rig.unshape()
    migration.finish()
    arrived(rig, guest)
    guest.destroy(rig.b)


# -- memory in files -----------------------------------------------------------------------------

@own_rig
@deadline(300)
def test_memory_in_files_on_a_disk_is_refused_at_prepare(rig):
    """Where QEMU's destination would die at the switch-over, and the guest with it."""
    at_prepare = {"by": rig.b, "phase": "prepare"}
    file = (f"{rig.b.name}: <memory>", PLACE, "because of", "<source type='memfd'/>")
    with disk() as path, place(rig.a, path), place(rig.b, path):
        refused_and_stayed(rig, Guest(rig, MEMORY, memory_backing=FILE), *file, "<source type='file'/>", **at_prepare)
        refused_and_stayed(rig, Guest(rig, MEMORY, memory_backing=SHARED), *file, "<access mode='shared'/>",
                           **at_prepare)
        refused_and_stayed(rig, shared_cell(rig), "<cell id='0'>", "memAccess='shared'", **at_prepare)
        refused_and_stayed(rig, Guest(rig, MEMORY, room=64, devices=NVDIMM),
                           f"<memory model='nvdimm'> number 1 ({PLACE}/nvdimm)", **at_prepare)


@own_rig
@deadline(300)
def test_a_destination_that_has_files_on_a_disk_refuses(rig):
    """The source's are on a tmpfs, and it cannot know."""
    at_prepare = {"by": rig.b, "phase": "prepare"}
    with disk() as path, place(rig.a), place(rig.b, path):
        refused_and_stayed(rig, Guest(rig, MEMORY, memory_backing=FILE), f"{rig.b.name}: <memory>", PLACE, **at_prepare)
        refused_and_stayed(rig, Guest(rig, MEMORY, room=64, devices=NVDIMM),
                           f"{rig.b.name}: <memory model='nvdimm'> number 1 ({PLACE}/nvdimm)", **at_prepare)


@own_rig
@deadline(300)
def test_memory_in_files_on_a_tmpfs_migrates(rig):
    with place(rig.a), place(rig.b):
        for backing in (FILE, FILE_SHARED, SHARED):
            migrates(rig, Guest(rig, MEMORY, rate=0, memory_backing=backing))
        migrates(rig, shared_cell(rig, rate=0), "--p2p")
        migrates(rig, Guest(rig, MEMORY, rate=0, room=64, devices=NVDIMM))


@own_rig
@deadline(300)
def test_a_sources_files_may_be_on_a_disk(rig):
    """It is the destination that waits for memory; the source says that it may be no better there."""
    with disk() as path, place(rig.a, path), place(rig.b):
        since = len(rig.a.log("virtpostcopyd.out"))
        migrates(rig, Guest(rig, MEMORY, rate=0, memory_backing=FILE))
        assert daemon_says(rig.a, since, "warning", "phase=begin", "memory-file-backed: <memory>")
        migrates(rig, Guest(rig, MEMORY, rate=0, room=64, devices=NVDIMM), "--p2p")


@deadline(180)
def test_memory_in_a_memfd_migrates(rig):
    for backing in (MEMFD, MEMFD_SHARED):
        migrates(rig, Guest(rig, MEMORY, rate=0, memory_backing=backing))


@own_rig
@deadline(180)
def test_a_recovery_is_never_held_up(rig):
    """Half of a running guest is on the other host: whatever the XML says now, there is no other way."""
    with disk() as path, place(rig.a), place(rig.b):
        guest = Guest(rig, 128, memory_backing=FILE, rate=0).start(rig.a)
        migration, *_ = begin_in_postcopy(rig, guest)
        for host in rig.hosts:                      # now a new guest's files would be on a disk
            conf = host.path("/etc/libvirt/qemu.conf")
            conf.write_text(conf.read_text().replace(f'"{PLACE}"', f'"{path}"'))
        kill_helpers(*rig.hosts)
        wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from the source", 60)
        migration.finish(check=False)
        rig.unshape()
        arrived(rig, guest)
        # and a guest that begins now is refused by the new qemu.conf
        other = Guest(rig, MEMORY, memory_backing=FILE).start(rig.a)
        refused(rig, other, f"{rig.b.name}: <memory>", path, by=rig.b, phase="prepare")


@own_rig
@deadline(180)
def test_a_look_that_hangs_does_not_hold_a_migration_up(rig):
    """As on a file system whose server is gone: a guest that has no memory in files goes on without it."""
    conf = rig.b.path("/etc/libvirt/qemu.conf")
    conf.unlink()
    os.mkfifo(conf)                                 # nobody ever writes
    since = len(rig.b.log("virtpostcopyd.out"))
    migrates(rig, Guest(rig, MEMORY, rate=0))
    assert daemon_says(rig.b, since, "warning", "phase=prepare", "the domain was not looked at: a file system")
    with place(rig.a):
        refused_and_stayed(rig, Guest(rig, MEMORY, memory_backing=FILE), "the domain was not looked at",
                           by=rig.b, phase="prepare")


@own_rig
def test_offline_is_libvirts_own(rig):
    with disk() as path, place(rig.a, path), place(rig.b, path):
        guest = Guest(rig, MEMORY, memory_backing=FILE, persistent=True).start(rig.a)
        guest.destroy(rig.a)
        rig.a.run(["/usr/bin/python3", "-c", OFFLINE, rig.a.uri(), rig.b.uri("tls"), guest.name])
        assert guest.name in rig.b.virsh("list", "--all", "--name").stdout.split()


@own_rig
@deadline(240)
def test_without_this_driver_memory_in_files_on_a_disk_does_not_arrive(rig):
    """What is refused above is refused for a reason: QEMU alone finds out at the switch-over (7.2), or refuses
    (later ones)."""
    with disk(layered=False) as path, place(rig.a, path), disk() as other, place(rig.b, other):
        guest = Guest(rig, MEMORY, rate=0, memory_backing=FILE).start(rig.a)
        rig.shape("100mbit")                        # so that it cannot end before the switch-over
        migration = guest.start_native_migration(rig.a, rig.b, *POSTCOPY)
        wait_for(lambda: not migration.running or rig.a.job(guest.name).get("Memory processed", 0) > 4 << 20,
                 "the migration in the midst of it", 60)
        rig.a.virsh("migrate-postcopy", guest.name, check=False)
        migration.finish(check=False)
        assert migration.status != 0
        where = [host.state(guest.name) if guest.name in host.domains() else "gone" for host in rig.hosts]
        note(f"{migration.stderr.strip()}; then it was on a: {where[0]}, on b: {where[1]}")
        assert where[1] == "gone" or "post-copy failed" in where[1], where


# -- devices -------------------------------------------------------------------------------------

def make_disk(rig, name):
    """An image on both hosts, whose file systems are their own."""
    for host in rig.hosts:
        host.run(["qemu-img", "create", "-q", "-f", "qcow2", f"/var/lib/libvirt/images/{name}.qcow2", "16M"])


@deadline(240)
def test_devices_that_others_have_a_part_in_are_refused(rig):
    make_disk(rig, "transient")
    for devices, words in (
            (SHMEM.format("peer"), ("<shmem name='shared'> number 1 (shared)", "virsh detach-device")),
            (DISK.format("transient", TRANSIENT), ("<disk type='file'> number 1 (vda)", "virsh detach-disk"))):
        refused_and_stayed(rig, Guest(rig, MEMORY, devices=devices), *words, by=rig.a, phase="begin",
                           options=(*POSTCOPY, "--unsafe"))


@deadline(240)
def test_libvirt_and_qemu_do_not_migrate_those_either(rig):
    """The table is right about what it calls certain, with this machine's libvirt and QEMU."""
    make_disk(rig, "transient")
    for devices in (SHMEM.format("peer"), DISK.format("transient", TRANSIENT), USB_SOUND):
        guest = Guest(rig, MEMORY, devices=devices)
        guest.xml = lambda g=guest: Guest.xml(g).replace(NO_USB, "") if USB_SOUND in g.devices else Guest.xml(g)
        guest.start(rig.a)
        migration = guest.start_native_migration(rig.a, rig.b, *AFTER, "--unsafe").finish(check=False)
        assert migration.status != 0, devices
        note(migration.stderr.strip())
        guest.verdict(rig.a)
        guest.destroy(rig.a)


@contextlib.contextmanager
def vhost_user_disk(host):
    """A program on the host that serves a disk."""
    image, socket = "/var/lib/libvirt/images/vhost-user.raw", "/run/vhost-user-disk.sock"
    host.run(["truncate", "-s", "16M", image])
    process = host.popen(["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=disk,filename={image}",
                          "--export", f"type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,"
                          f"addr.path={socket}"])
    try:
        wait_for(lambda: host.path(socket).exists() or process.poll() is not None, "the disk's server")
        if process.poll() is not None:
            raise Skip("this machine has no server of vhost-user disks")
        host.path(socket).chmod(0o777)
        yield
    finally:
        process.kill()
        process.wait()


VHOST_USER = """
<disk type='vhostuser' device='disk' model='virtio'>
  <driver name='qemu' type='raw'/>
  <source type='unix' path='/run/vhost-user-disk.sock'/>
  <target dev='vda' bus='virtio'/>
</disk>
"""


@deadline(180)
def test_what_a_backend_can_do_is_left_to_qemu(rig):
    """It is not in the XML: a warning. QEMU refuses before the switch-over what cannot wait for memory."""
    with vhost_user_disk(rig.a), vhost_user_disk(rig.b):
        guest = Guest(rig, MEMORY, memory_backing=MEMFD_SHARED, devices=VHOST_USER).start(rig.a)
        since = len(rig.a.log("virtpostcopyd.out"))
        migration = guest.migrate(rig.a, rig.b, *AFTER, check=False)
        assert daemon_says(rig.a, since, "warning", "disk-vhost-user: <disk type='vhostuser'> number 1 (vda)")
        if migration.status == 0:
            arrived(rig, guest)
        else:
            note(migration.stderr.strip())
            stayed(rig, guest)
        for host in rig.hosts:                      # QEMU before the program it talks to
            for name in host.domains():
                host.virsh("destroy", name)


@deadline(120)
def test_virtiofs_is_refused(rig):
    guest = Guest(rig, MEMORY, memory_backing=MEMFD_SHARED, devices=VIRTIOFS)
    try:
        guest.start(rig.a)
    except CommandFailed as failure:
        raise Skip(f"virtiofsd does not start here: {failure}") from failure
    refused(rig, guest, "<filesystem type='mount'> number 1 (share)", "virtiofsd", by=rig.a, phase="begin")
    stayed(rig, guest)


@deadline(120)
def test_a_device_that_qemu_does_not_migrate_is_refused(rig):
    guest = Guest(rig, MEMORY, devices=USB_SOUND)
    guest.xml = lambda: Guest.xml(guest).replace(NO_USB, "")
    refused_and_stayed(rig, guest, "<sound model='usb'> number 1", by=rig.a, phase="begin")


def test_what_is_doubtful_is_tried_and_said(rig):
    """A 9p file system that the guest has not mounted is no hindrance."""
    since = len(rig.a.log("virtpostcopyd.out")), len(rig.b.log("virtpostcopyd.out"))
    guest = Guest(rig, MEMORY, rate=0, devices=PLAN9)
    migrates(rig, guest)
    assert daemon_says(rig.a, since[0], "warning", "phase=begin", "filesystem-9p: <filesystem type='mount'> number 1")
    assert daemon_says(rig.b, since[1], "warning", "phase=prepare", "filesystem-9p: ")


def test_the_xml_for_the_destination_counts_as_well(rig):
    """What the user gives with --xml is looked at where it is given, before it is Prepare's."""
    make_disk(rig, "plain")
    guest = Guest(rig, MEMORY, devices=DISK.format("plain", "")).start(rig.a)
    xml = rig.a.virsh("dumpxml", "--migratable", guest.name).stdout
    assert "</disk>" in xml
    rig.a.path("/tmp/changed.xml").write_text(xml.replace("</disk>", f"{TRANSIENT}</disk>"))
    refused(rig, guest, "<disk type='file'> number 1 (vda)", by=rig.a, phase="begin",
            options=(*POSTCOPY, "--unsafe", "--xml", "/tmp/changed.xml"))
    stayed(rig, guest)


def test_a_domain_that_is_not_there_is_libvirts_affair(rig):
    done = rig.a.virsh("migrate", *POSTCOPY, "--p2p", "nobody", rig.b.uri("tls"), uri=rig.a.uri(), check=False)
    assert done.returncode != 0 and "nobody" in done.stderr, done.stderr
