/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/versions.h"

#include <glib/gi18n.h>

#define LIBVIRT_NUMBER(major, minor) ((major) * 1000000ul + (minor) * 1000ul)

/* Resuming a failed post-copy: VIR_MIGRATE_POSTCOPY_RESUME. */
#define LIBVIRT_MIN LIBVIRT_NUMBER(8, 5)

/* Its destination ends with a fault in Prepare of a resume. */
#define LIBVIRT_CRASHES LIBVIRT_NUMBER(11, 3)
#define LIBVIRT_CRASHES_NO_MORE LIBVIRT_NUMBER(11, 4)

/* The oldest whose stream is tested. */
#define QEMU_TRIED LIBVIRT_NUMBER(7, 2)

static char *version_text(gulong version)
{
    return g_strdup_printf("%lu.%lu.%lu", version / 1000000, version / 1000 % 1000,
                           version % 1000);
}

void versions_judge_libvirt(GPtrArray *findings, PreflightCheck check, gulong version)
{
    g_autofree char *text = version_text(version);

    if (version < LIBVIRT_MIN)
        preflight_problem(findings, check, PROBLEM_LIBVIRT_OLD,
                          g_strdup_printf(_("libvirt is %s, which cannot resume a post-copy "
                                            "migration"),
                                          text),
                          g_strdup(_("install libvirt 8.5 or newer")));
    else if (version >= LIBVIRT_CRASHES && version < LIBVIRT_CRASHES_NO_MORE)
        preflight_problem(findings, check, PROBLEM_LIBVIRT_RESUME_CRASH,
                          g_strdup_printf(_("libvirtd %s as a destination may crash when a broken "
                                            "migration is resumed"),
                                          text),
                          g_strdup(_("install libvirt 11.4 or newer")));
    else
        preflight_pass(findings, check, text);
}

void versions_judge_qemu(GPtrArray *findings, PreflightCheck check, gulong version)
{
    g_autofree char *text = version_text(version);

    if (version == 0)
        preflight_problem(findings, check, PROBLEM_QEMU_MISSING,
                          g_strdup(_("libvirt finds no QEMU on that host")),
                          g_strdup(_("install QEMU for the guests' architecture (Debian: "
                                     "qemu-system-x86) and restart libvirtd or virtqemud")));
    else if (version < QEMU_TRIED)
        preflight_problem(
            findings, check, PROBLEM_QEMU_UNTRIED,
            g_strdup_printf(_("QEMU is %s, with which this driver has not been tried"), text),
            g_strdup(_("install QEMU 7.2 or newer")));
    else
        preflight_pass(findings, check, text);
}
