/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verdict: pure. What there is to look at: ram/uffd/support_look.c. */
#include "config.h"

#include "ram/uffd/support.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>

static void fail(GPtrArray *findings, const char *id, const char *what, const char *detail,
                 const char *remedy)
{
    findings_add(findings, FINDING_FAIL, id, what, detail, remedy);
}

static void judge_kernel(const UffdSupport *support, GPtrArray *findings)
{
    const char *what = _("userfaultfd");

    if (support->features == 0)
        fail(findings, "userfaultfd", what, _("this process cannot open a userfaultfd"),
             _("allow it with vm.unprivileged_userfaultfd=1, or give access to /dev/userfaultfd"));
    else if (!support->works[UFFD_ANON])
        fail(findings, "userfaultfd", what, _("a missing page could not be placed"),
             _("use a kernel whose userfaultfd works"));
    else if (support->user_mode_only)
        findings_add(findings, FINDING_WARN, "userfaultfd", what,
                     _("system calls of this process cannot wait for pages: they fail instead"),
                     _("allow it with vm.unprivileged_userfaultfd=1, or give access to "
                       "/dev/userfaultfd"));
    else if (!support->thread_ids)
        findings_add(findings, FINDING_WARN, "userfaultfd", what,
                     _("the kernel does not say which thread waits for a page"),
                     _("use Linux 4.14 or newer for block times of single vCPUs"));
    else
        findings_add(findings, FINDING_PASS, "userfaultfd", what, NULL, NULL);
}

static void judge_backing(const UffdSupport *support, UffdBacking backing, GPtrArray *findings)
{
    static const struct {
        const char *id;
        guint64 feature;
        const char *what;
        const char *remedy;
    } rows[UFFD_BACKING_MAX] = {
        [UFFD_SHMEM] = { "userfaultfd-shmem", UFFD_FEATURE_MISSING_SHMEM,
                         N_("userfaultfd on shared memory"), N_("use Linux 4.11 or newer") },
        [UFFD_HUGETLB] = { "userfaultfd-hugetlb", UFFD_FEATURE_MISSING_HUGETLBFS,
                           N_("userfaultfd on huge pages"),
                           N_("use Linux 4.11 or newer, and reserve huge pages (vm.nr_hugepages)") },
    };

    if (!rows[backing].id || support->features == 0)
        return;
    if (!(support->features & rows[backing].feature))
        fail(findings, rows[backing].id, _(rows[backing].what),
             _("the kernel cannot tell of missing pages there"), _(rows[backing].remedy));
    else if (!support->works[backing])
        fail(findings, rows[backing].id, _(rows[backing].what),
             _("a missing page could not be placed"), _(rows[backing].remedy));
    else
        findings_add(findings, FINDING_PASS, rows[backing].id, _(rows[backing].what), NULL, NULL);
}

static void judge_region(const UffdRegionFacts *region, GPtrArray *findings)
{
    guint64 page = region->page_size;
    g_autofree char *what = g_strdup_printf(_("memory region %s"), region->name);
    g_autofree char *detail = NULL;

    if (page == 0 || (page & (page - 1)) != 0 || region->length % page != 0) {
        detail = g_strdup_printf(_("%" PRIu64 " bytes are no multiple of its pages of %" PRIu64),
                                 region->length, page);
        fail(findings, "userfaultfd-region", what, detail, _("make it a multiple of its pages"));
    } else if (region->is_file) {
        fail(findings, "userfaultfd-region", what,
             _("it is a file on a disk, whose pages are never missing"),
             _("use a memfd, or a file of tmpfs or hugetlbfs"));
    } else if (region->locked) {
        findings_add(findings, FINDING_WARN, "userfaultfd-region", what,
                     _("it is locked: locked memory has no missing pages"),
                     _("unlock it until the migration has ended"));
    }
}

gboolean uffd_support_judge(const UffdSupport *support, const UffdRegionFacts *regions, guint n,
                            GPtrArray *findings)
{
    g_autoptr(GPtrArray) own = findings_new();
    gboolean asked[UFFD_BACKING_MAX] = { FALSE };
    gboolean good;

    for (guint i = 0; i < n; i++)
        asked[regions[i].backing] = TRUE;
    judge_kernel(support, own);
    for (guint i = 0; i < UFFD_BACKING_MAX; i++) {
        if (asked[i])
            judge_backing(support, i, own);
    }
    for (guint i = 0; i < n; i++)
        judge_region(&regions[i], own);
    good = findings_verdict(own) != FINDING_FAIL;
    findings_take(findings, g_steal_pointer(&own));
    return good;
}
