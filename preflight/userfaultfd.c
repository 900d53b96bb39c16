/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/userfaultfd.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <linux/userfaultfd.h>

#include "preflight/qemu_conf.h"

#define SYSCTL "/proc/sys/vm/unprivileged_userfaultfd"
#define DEVICE "/dev/userfaultfd"

/* From this version on QEMU opens the device before it tries the system call. */
#define QEMU_WITH_DEVICE 8000000

#define FEATURES_WANTED (UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MISSING_SHMEM)

#define SYSCTL_REMEDY                                                                              \
    "echo vm.unprivileged_userfaultfd=1 > /etc/sysctl.d/60-postcopy.conf && sysctl --system"

static gboolean uses_device(const UserfaultfdFacts *facts)
{
    return facts->device != ACCESS_NO &&
           (facts->qemu_version == 0 || facts->qemu_version >= QEMU_WITH_DEVICE);
}

static gboolean is_allowed(const UserfaultfdFacts *facts)
{
    return facts->owner.uid == 0 || facts->sysctl != 0 || uses_device(facts);
}

/* Root without capabilities is an ordinary user to the kernel. That libvirt is to take them away
 * does not say that it does: on some hosts a QEMU of root's has them all the same. */
static gboolean is_doubtful(const UserfaultfdFacts *facts)
{
    return facts->owner.uid == 0 && !facts->capable && facts->sysctl == 0 && !uses_device(facts);
}

static void forbidden(GPtrArray *findings, const UserfaultfdFacts *facts)
{
    gboolean device_too = facts->qemu_version == 0 || facts->qemu_version >= QEMU_WITH_DEVICE;

    preflight_problem(
        findings, CHECK_USERFAULTFD, PROBLEM_USERFAULTFD_FORBIDDEN,
        g_strdup_printf(_("QEMU runs as uid %u here, which may not handle page faults in post-copy "
                          "(vm.unprivileged_userfaultfd is 0)"),
                        (guint)facts->owner.uid),
        device_too
            ? g_strdup_printf(_("run \"%s\", or (QEMU 8.0 and newer) give that user read and "
                                "write access to /dev/userfaultfd"),
                              SYSCTL_REMEDY)
            : g_strdup_printf(_("run \"%s\""), SYSCTL_REMEDY));
}

static void doubtful(GPtrArray *findings)
{
    preflight_problem(
        findings, CHECK_USERFAULTFD, PROBLEM_USERFAULTFD_ROOT,
        g_strdup(_("QEMU runs as root here; if libvirt starts it without root's capabilities "
                   "(clear_emulator_capabilities in qemu.conf), it may not handle page faults in "
                   "post-copy (vm.unprivileged_userfaultfd is 0)")),
        g_strdup_printf(_("run \"%s\""), SYSCTL_REMEDY));
}

static void filtered(GPtrArray *findings, const UserfaultfdFacts *facts)
{
    preflight_problem(
        findings, CHECK_USERFAULTFD, PROBLEM_USERFAULTFD_FILTERED,
        g_strdup_printf(_("userfaultfd is refused to uid %u, although the kernel's settings allow "
                          "it: %s"),
                        (guint)facts->owner.uid, g_strerror(facts->probe)),
        g_strdup(_("lift what forbids it: a container's seccomp profile must allow the system call "
                   "userfaultfd, and root in a container needs CAP_SYS_PTRACE")));
}

static gboolean judge_probe(GPtrArray *findings, const UserfaultfdFacts *facts)
{
    if (facts->probe == 0 || facts->probe == USERFAULTFD_NOT_PROBED)
        return TRUE;
    if (facts->probe == EPERM || facts->probe == EACCES)
        filtered(findings, facts);
    else
        preflight_problem(
            findings, CHECK_USERFAULTFD, PROBLEM_USERFAULTFD_KERNEL,
            g_strdup_printf(_("this kernel has no userfaultfd: %s"), g_strerror(facts->probe)),
            g_strdup(_("boot a kernel with CONFIG_USERFAULTFD=y; without it this host can be no "
                       "destination of a post-copy migration")));
    return FALSE;
}

void userfaultfd_judge(GPtrArray *findings, const UserfaultfdFacts *facts)
{
    /* Before the probe: whoever is refused has a setting to change. */
    if (!is_allowed(facts)) {
        forbidden(findings, facts);
        return;
    }
    if (!judge_probe(findings, facts))
        return;
    if (is_doubtful(facts)) {
        doubtful(findings);
        return;
    }
    if (facts->probe == 0 && (facts->features & FEATURES_WANTED) != FEATURES_WANTED) {
        preflight_problem(
            findings, CHECK_USERFAULTFD, PROBLEM_USERFAULTFD_FEATURES,
            g_strdup(_("this kernel handles page faults of ordinary memory only")),
            g_strdup(_("boot Linux 4.11 or newer before guests with huge pages or shared memory "
                       "migrate to this host")));
        return;
    }
    preflight_pass(findings, CHECK_USERFAULTFD,
                   facts->probe == 0 ? _("tried, as QEMU's user") : NULL);
}

void userfaultfd_look(const char *root, const QemuOwner *owner, gulong qemu_version,
                      UserfaultfdFacts *ret_facts)
{
    g_autofree char *text = NULL;
    gsize len;

    *ret_facts = (UserfaultfdFacts){
        .owner = *owner,
        .qemu_version = qemu_version,
        .sysctl = -1,
        .device = preflight_access_file(root, DEVICE, owner->uid, owner->gid, 4 | 2),
        .probe = USERFAULTFD_NOT_PROBED,
        .capable = !qemu_conf_clears_capabilities(root),
    };
    if (preflight_read(root, SYSCTL, 64, &text, &len, NULL, NULL))
        ret_facts->sysctl = g_ascii_strtoll(text, NULL, 10) != 0;
}
