/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When compressing pays: while the link is what limits, not the processor, and the pages do get smaller.
 *
 * Looks at what happened in periods of COMPRESS_PERIOD_US: how often the sender stood still for the link
 * and how often for the compressor, and by how much the pages shrank. Pure; time is an argument. */
#pragma once

#include <glib.h>

#define COMPRESS_PERIOD_US (50 * 1000)
/* How long it stays off after it did not pay. */
#define COMPRESS_RETRY_US (1000 * 1000)

typedef struct {
    gboolean on;
    gint64 period_began_us; /* 0: none yet */
    gint64 off_until_us;
    guint waits_for_link;
    guint waits_for_cpu;
    guint64 plain_bytes;
    guint64 encoded_bytes;
} CompressPolicy;

void compress_policy_init(CompressPolicy *policy);
/* There were pages to send, and the limit of what may be in flight was reached. */
void compress_policy_on_link_wait(CompressPolicy *policy);
/* There was room, and nothing but jobs that the compressor has not done yet. */
void compress_policy_on_cpu_wait(CompressPolicy *policy);
void compress_policy_on_result(CompressPolicy *policy, gsize plain, gsize encoded);
/* Ends the period if it is time to; returns whether to compress what comes next. */
gboolean compress_policy_decide(CompressPolicy *policy, gint64 now_us);
