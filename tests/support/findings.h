/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tests expect of lists of findings. Include cmocka first. */
#pragma once

#include <string.h>

#include "preflight/problem.h"

static inline guint findings_count(const GPtrArray *findings, const char *id)
{
    guint count = 0;

    for (guint i = 0; i < findings->len; i++)
        count += strcmp(((const Finding *)g_ptr_array_index(findings, i))->id, id) == 0;
    return count;
}

static inline const Finding *findings_find(const GPtrArray *findings, const char *id)
{
    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        if (strcmp(finding->id, id) == 0)
            return finding;
    }
    return NULL;
}

static inline guint findings_problems(const GPtrArray *findings)
{
    guint count = 0;

    for (guint i = 0; i < findings->len; i++)
        count += ((const Finding *)g_ptr_array_index(findings, i))->verdict != FINDING_PASS;
    return count;
}

/* That problem and no other, with a detail and a remedy that hold these words. */
static inline void assert_problem(const GPtrArray *findings, PreflightProblem problem,
                                  const char *detail, const char *remedy)
{
    const char *id = preflight_problem_id(problem);
    const Finding *finding = findings_find(findings, id);

    if (!finding || findings_problems(findings) != 1) {
        for (guint i = 0; i < findings->len; i++) {
            const Finding *other = g_ptr_array_index(findings, i);

            print_message("found %s: %s\n", other->id, other->detail ? other->detail : "");
        }
        fail_msg("%s is not what was found", id);
        return;
    }
    assert_int_equal(finding->verdict, preflight_problem_verdict(problem));
    if (!finding->detail || !strstr(finding->detail, detail))
        fail_msg("\"%s\" is not in: %s", detail, finding->detail);
    if (!finding->remedy || !strstr(finding->remedy, remedy))
        fail_msg("\"%s\" is not in: %s", remedy, finding->remedy);
}

static inline void assert_passes(const GPtrArray *findings, PreflightCheck check)
{
    const char *id = preflight_check_id(check);

    if (findings_problems(findings) > 0 || findings_count(findings, id) != 1)
        fail_msg("%s does not pass", id);
}
