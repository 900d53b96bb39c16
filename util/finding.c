/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "util/finding.h"

static void finding_free(gpointer data)
{
    Finding *finding = data;

    g_free(finding->id);
    g_free(finding->what);
    g_free(finding->detail);
    g_free(finding->remedy);
    g_free(finding);
}

GPtrArray *findings_new(void)
{
    return g_ptr_array_new_with_free_func(finding_free);
}

void findings_add(GPtrArray *findings, FindingVerdict verdict, const char *id, const char *what,
                  const char *detail, const char *remedy)
{
    Finding *finding = g_new(Finding, 1);

    *finding = (Finding){ verdict, g_strdup(id), g_strdup(what), g_strdup(detail),
                          g_strdup(remedy) };
    g_ptr_array_add(findings, finding);
}

void findings_take(GPtrArray *findings, GPtrArray *more)
{
    while (more->len > 0)
        g_ptr_array_add(findings, g_ptr_array_steal_index(more, 0));
    g_ptr_array_unref(more);
}

void findings_take_as_warnings(GPtrArray *findings, GPtrArray *more)
{
    for (guint i = 0; i < more->len; i++) {
        Finding *finding = g_ptr_array_index(more, i);

        finding->verdict = MIN(finding->verdict, FINDING_WARN);
    }
    findings_take(findings, more);
}

FindingVerdict findings_verdict(const GPtrArray *findings)
{
    FindingVerdict worst = FINDING_PASS;

    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        worst = MAX(worst, finding->verdict);
    }
    return worst;
}

char *findings_error(const GPtrArray *findings)
{
    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        if (finding->verdict != FINDING_FAIL)
            continue;
        if (!finding->remedy)
            return g_strdup(finding->detail ? finding->detail : finding->what);
        return g_strdup_printf("%s: %s", finding->detail ? finding->detail : finding->what,
                               finding->remedy);
    }
    return NULL;
}

const char *finding_verdict_name(FindingVerdict verdict)
{
    static const char *const names[] = { "pass", "warn", "fail" };

    return names[verdict];
}
