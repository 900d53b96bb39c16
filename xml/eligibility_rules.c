/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A row fails what the versions of libvirt and QEMU that it was written for (libvirt 8.5 to 10,
 * QEMU 6.2 to 8) refuse, whatever the guest does, and what would lose the guest: others may have
 * learned to migrate some of it since. It warns where that depends on the version, on the guest's state or
 * on somebody else's program. */
#include "config.h"

#include "xml/eligibility_rules.h"

#include <glib/gi18n.h>

#define DEVICES "/domain/devices/"
#define PCI_ADDRESS \
    "concat(source/address/@domain, ' ', source/address/@bus, ' ', source/address/@slot, ' ', " \
    "source/address/@function)"
#define FAILOVER "teaming/@type='transient'"
#define QEMU_NAMESPACE "'http://libvirt.org/schemas/domain/qemu/1.0'"

#define DETACH \
    N_("detach it from the guest first (virsh detach-device), or migrate with the guest shut down")
#define OFFLINE \
    N_("take it out of the domain and start the guest anew, or migrate with the guest shut down")
#define BACKEND \
    N_("make sure that its backend can do it (the vhost-user protocol feature \"page fault\"), " \
       "or migrate without --postcopy")

static const EligibilityRule rules[] = {
    /* ---- devices of the host ---- */
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "hostdev-pci",
      DEVICES "hostdev[@type='pci' and not(" FAILOVER ")]", PCI_ADDRESS,
      N_("PCI devices of the host"),
      N_("the device reads and writes the guest's memory, which has to stay in its place for that"),
      DETACH },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "hostdev-mdev", DEVICES "hostdev[@type='mdev']",
      "source/address/@uuid", N_("mediated devices of the host"),
      N_("the device reads and writes the guest's memory, which has to stay in its place for that"),
      DETACH },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "hostdev-scsi",
      DEVICES "hostdev[@type='scsi' or @type='scsi_host']",
      "concat(source/adapter/@name, source/@wwpn)", N_("SCSI devices of the host"),
      N_("libvirt does not migrate devices of the host's SCSI adapters"), DETACH },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "hostdev-usb", DEVICES "hostdev[@type='usb']",
      "concat(source/vendor/@id, ' ', source/product/@id)", N_("USB devices of the host"),
      N_("the guest will see it unplugged, and the destination has to have such a device as well"),
      N_("detach it from the guest first, if the destination has none (virsh detach-device)") },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "hostdev-failover",
      DEVICES "*[self::hostdev or self::interface][" FAILOVER "]", "alias/@name",
      N_("devices that are unplugged for a migration"),
      N_("QEMU waits for the guest to let go of it before it sends anything"),
      N_("make sure that the guest's driver does (virtio-net failover), or detach it first") },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "interface-hostdev",
      DEVICES "interface[@type='hostdev' and not(" FAILOVER ")]", "mac/@address",
      N_("network cards of the host"),
      N_("the card reads and writes the guest's memory, which has to stay in its place for that"),
      N_("detach it from the guest first (virsh detach-interface), or give it a <teaming> pair") },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "interface-vdpa", DEVICES "interface[@type='vdpa']",
      "source/@dev", N_("vDPA network devices"),
      N_("the card reads and writes the guest's memory, which has to stay in its place for that"),
      N_("detach it from the guest first (virsh detach-interface)") },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "disk-nvme", DEVICES "disk[@type='nvme']", "target/@dev",
      N_("NVMe controllers of the host as disks"),
      N_("the controller reads and writes the guest's memory, which has to stay in its place for "
         "that"),
      N_("detach it from the guest first (virsh detach-disk)") },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "disk-vhost-vdpa", DEVICES "disk[@type='vhostvdpa']",
      "target/@dev", N_("vDPA disks"),
      N_("the device reads and writes the guest's memory, which has to stay in its place for that"),
      N_("detach it from the guest first (virsh detach-disk)") },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "input-passthrough", DEVICES "input[@type='passthrough']",
      "source/@evdev", N_("input devices of the host"),
      N_("QEMU does not migrate virtio-input-host devices"),
      N_("detach it from the guest first (virsh detach-device), or use <input type='evdev'>") },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "tpm-passthrough",
      DEVICES "tpm[backend/@type='passthrough']", "backend/device/@path", N_("TPMs of the host"),
      N_("what the guest keeps in the host's TPM does not come along"),
      N_("use <backend type='emulator'>, whose state is migrated") },

    /* ---- memory that others have a part in ---- */
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "shmem",
      DEVICES "shmem[not(@role='master') or model/@type='ivshmem']", "@name",
      N_("shared memory devices"),
      N_("libvirt migrates such memory only with the guest whose role is 'master', and not with "
         "the old model 'ivshmem'"),
      N_("detach it from the guest first (virsh detach-device)") },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "shmem-master",
      DEVICES "shmem[@role='master' and not(model/@type='ivshmem')]", "@name",
      N_("shared memory devices"),
      N_("the others who share that memory on the destination see holes in it until it has all "
         "arrived"),
      N_("see that nobody reads it there before the migration has ended, or detach it from the "
         "guest first (virsh detach-device)") },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "filesystem-virtiofs",
      DEVICES "filesystem[driver/@type='virtiofs']", "target/@dir", N_("virtiofs file systems"),
      N_("libvirt and virtiofsd do not migrate with post-copy: virtiofsd cannot wait for memory "
         "that has not arrived"),
      N_("unmount it in the guest and detach it first (virsh detach-device)") },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "filesystem-9p",
      DEVICES "filesystem[not(driver/@type='virtiofs') and (not(@type) or @type='mount')]",
      "target/@dir", N_("9p file systems"),
      N_("QEMU refuses to migrate while the guest has it mounted"),
      N_("unmount it in the guest first") },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "interface-vhost-user",
      DEVICES "interface[@type='vhostuser']", "source/@path", N_("vhost-user network devices"),
      N_("QEMU refuses post-copy unless the backend can wait for memory that has not arrived"),
      BACKEND },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "disk-vhost-user", DEVICES "disk[@type='vhostuser']",
      "target/@dev", N_("vhost-user disks"),
      N_("QEMU refuses post-copy unless the backend can wait for memory that has not arrived"),
      BACKEND },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "video-vhost-user",
      DEVICES "video[driver/@name='vhostuser']", NULL, N_("vhost-user video cards"),
      N_("QEMU refuses post-copy unless the backend can wait for memory that has not arrived"),
      BACKEND },

    /* ---- state that stays behind ---- */
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "disk-transient", DEVICES "disk[transient]", "target/@dev",
      N_("transient disks"),
      N_("what the guest has written to it is in a file of this host's, and libvirt does not "
         "migrate it"),
      N_("detach it from the guest first (virsh detach-disk), or migrate with the guest shut "
         "down") },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "disk-block-job", DEVICES "disk[mirror]", "target/@dev",
      N_("disks with a block job"), N_("libvirt does not migrate while a disk is being copied"),
      N_("wait for the job, or end it (virsh blockjob --abort)") },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "interface-user", DEVICES "interface[@type='user']",
      "mac/@address", N_("networks in user space"),
      N_("the guest's connections through it do not come along, and some of its helpers cannot be "
         "migrated"),
      N_("use a bridge or a network, if the guest's connections have to last") },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "video-3d",
      DEVICES "video[not(driver/@name='vhostuser')]"
              "[model[@type='virtio']/acceleration[@accel3d='yes']]",
      NULL, N_("video cards with 3D acceleration"),
      N_("QEMU does not migrate what virgl keeps in the host's graphics card"), OFFLINE },
    { ELIGIBILITY_DEVICES, FINDING_FAIL, "sound-usb", DEVICES "sound[@model='usb']", "alias/@name",
      N_("USB sound cards"), N_("QEMU does not migrate this device"), OFFLINE },
    { ELIGIBILITY_DEVICES, FINDING_WARN, "channel-vdagent",
      DEVICES "*[self::channel or self::console or self::serial or self::parallel]"
              "[@type='qemu-vdagent']",
      "alias/@name", N_("clipboards that QEMU shares"),
      N_("most versions of QEMU do not migrate the agent's connection, and refuse"),
      N_("detach it from the guest first (virsh detach-device)") },

    /* ---- the whole guest ---- */
    { ELIGIBILITY_DOMAIN, FINDING_FAIL, "launch-security",
      "/domain/launchSecurity[not(@type='s390-pv')]", NULL,
      N_("memory encrypted by the processor"),
      N_("neither QEMU nor this driver can read the guest's memory in order to move it"),
      N_("migrate with the guest shut down") },
    { ELIGIBILITY_DOMAIN, FINDING_WARN, "launch-security-s390",
      "/domain/launchSecurity[@type='s390-pv']", NULL,
      N_("memory that the guest may have the processor protect"),
      N_("QEMU refuses once the guest has switched to protected execution"),
      N_("migrate with the guest shut down, if it has") },
    { ELIGIBILITY_DOMAIN, FINDING_FAIL, "cpu-invtsc",
      "/domain/cpu/feature[@name='invtsc' and not(@policy='disable' or @policy='forbid' or "
      "@policy='optional')]"
      "[not(/domain/clock/timer[@name='tsc' and @frequency])]",
      NULL, N_("an invariant time stamp counter"),
      N_("the destination's counter has another rate unless the domain says which"),
      N_("add <timer name='tsc' frequency='…'/> to <clock> and start the guest anew") },
    { ELIGIBILITY_DOMAIN, FINDING_WARN, "cpu-not-migratable",
      "/domain/cpu[@mode='host-passthrough' or @mode='maximum'][@migratable='off']", NULL,
      N_("a processor that is not to be migrated"),
      N_("features like the invariant time stamp counter, which QEMU does not migrate, are on if "
         "the host has them"),
      N_("set migratable='on' and start the guest anew") },
    { ELIGIBILITY_DOMAIN, FINDING_WARN, "qemu-commandline",
      "/domain/*[(local-name()='commandline' or local-name()='override') and "
      "namespace-uri()=" QEMU_NAMESPACE "]",
      NULL, N_("arguments for QEMU alone"),
      N_("what they do to memory and devices is not known here, nor to libvirt"),
      N_("see that the destination's QEMU understands them, and try it with a guest that may be "
         "lost") },
};

const EligibilityRule *eligibility_rules(gsize *ret_n)
{
    *ret_n = G_N_ELEMENTS(rules);
    return rules;
}
