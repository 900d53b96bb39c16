/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When compressing pays: tried for a period now and then, and kept on while the pages go out faster with
 * it than without.
 *
 * That is so where the link is what limits and the pages do get smaller; where the processor limits,
 * they do not go faster. Pure; time is an argument. */
#pragma once

#include <glib.h>

#define COMPRESS_PERIOD_US (50 * 1000)
/* How long it stays off after it did not pay: twice as long each time, but again the first as soon as it
 * has paid. */
#define COMPRESS_RETRY_MIN_US (200 * 1000)
#define COMPRESS_RETRY_MAX_US (4 * 1000 * 1000)
/* How long it stays on before a period without shows whether the link is the same. */
#define COMPRESS_COMPARE_US (2 * 1000 * 1000)

typedef struct {
    gboolean on;
    gint64 period_began_us; /* 0: none yet */
    gint64 changed_us;      /* when it was switched last */
    gint64 retry_us;        /* how long it stays off this time */
    guint64 plain_at_begin;
    gboolean ran_empty;     /* in the period: it says nothing of how fast pages can go */
    double rate_off;        /* bytes of pages per microsecond; 0: not measured */
    double rate_on;         /* the same, smoothed: one bad period proves nothing */
    guint64 plain_bytes;    /* of what was compressed in the period */
    guint64 encoded_bytes;
} CompressPolicy;

void compress_policy_init(CompressPolicy *policy);
/* There was room on the link, and nothing to send. */
void compress_policy_on_empty(CompressPolicy *policy);
void compress_policy_on_result(CompressPolicy *policy, gsize plain, gsize encoded);
/* plain_total: bytes of pages sent since the beginning, before compression. Ends the period if it is time
 * to; returns whether to compress what comes next. */
gboolean compress_policy_decide(CompressPolicy *policy, guint64 plain_total, gint64 now_us);
