/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/words.h"

#include <glib/gi18n.h>
#include <string.h>

#define NOT_KNOWN "-"

const char *words_side(JobSide side)
{
    switch (side) {
    case JOB_SIDE_SOURCE:
        return _("source");
    case JOB_SIDE_DESTINATION:
        return _("destination");
    case JOB_SIDE_UNKNOWN:
        break;
    }
    return NOT_KNOWN;
}

/* QEMU's words for a phase are the same in every language. */
char *words_phase(const Job *job)
{
    switch (job->type) {
    case VIR_DOMAIN_JOB_COMPLETED:
        return g_strdup(_("completed"));
    case VIR_DOMAIN_JOB_FAILED:
        return g_strdup(_("failed"));
    case VIR_DOMAIN_JOB_CANCELLED:
        return g_strdup(_("cancelled"));
    default:
        return words_or_none(job_text(job, "postcopy.phase"));
    }
}

char *words_percent(double fraction)
{
    guint percent = (guint)(fraction * 100);

    return g_strdup_printf("%u%%", MIN(percent, 100));
}

/* "O=Example,CN=hostb.example.com": the last part is what people call it. */
char *words_peer(const Job *job)
{
    const char *peer = job_text(job, "postcopy.peer");
    const char *name = peer ? g_strrstr(peer, "CN=") : NULL;

    if (!name || (name > peer && name[-1] != ','))
        return words_or_none(peer);
    name += strlen("CN=");
    return strcspn(name, ",\\") > 0 ? g_strndup(name, strcspn(name, ",\\")) : words_or_none(peer);
}

char *words_link(const Job *job)
{
    const char *link = job_text(job, "postcopy.link");

    if (g_strcmp0(link, "up") == 0)
        return g_strdup(_("up"));
    if (g_strcmp0(link, "lost") == 0)
        return g_strdup(_("lost"));
    return words_or_none(link);
}

char *words_if(guint64 number, char *(*format)(guint64 number))
{
    return number > 0 ? format(number) : g_strdup(NOT_KNOWN);
}

char *words_or_none(const char *text)
{
    return g_strdup(text && *text ? text : NOT_KNOWN);
}
