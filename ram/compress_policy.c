/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/compress_policy.h"

/* Saving less than this part of the bytes, or of the time, is not worth the processor's. */
#define WORTHWHILE 1.05

void compress_policy_init(CompressPolicy *policy)
{
    *policy = (CompressPolicy){ 0 };
}

void compress_policy_on_empty(CompressPolicy *policy)
{
    policy->ran_empty = TRUE;
}

void compress_policy_on_result(CompressPolicy *policy, gsize plain, gsize encoded)
{
    policy->plain_bytes += plain;
    policy->encoded_bytes += encoded;
}

static void begin_period(CompressPolicy *policy, guint64 plain_total, gint64 now_us)
{
    policy->period_began_us = now_us;
    policy->plain_at_begin = plain_total;
    policy->ran_empty = FALSE;
    policy->plain_bytes = policy->encoded_bytes = 0;
}

static void switch_on(CompressPolicy *policy, gint64 now_us)
{
    policy->on = TRUE;
    policy->changed_us = now_us;
    policy->rate_on = 0;
}

static void switch_off(CompressPolicy *policy, gint64 retry_us, gint64 now_us)
{
    policy->on = FALSE;
    policy->changed_us = now_us;
    policy->retry_us = retry_us;
}

static gboolean paid(const CompressPolicy *policy)
{
    return policy->encoded_bytes * WORTHWHILE < policy->plain_bytes &&
           (policy->ran_empty || policy->rate_on > policy->rate_off * WORTHWHILE);
}

static void end_period_on(CompressPolicy *policy, double rate, gint64 now_us)
{
    policy->rate_on = policy->rate_on > 0 ? (policy->rate_on * 3 + rate) / 4 : rate;
    if (!paid(policy)) {
        gint64 longer = MIN(policy->retry_us * 2, COMPRESS_RETRY_MAX_US);

        switch_off(policy, MAX(longer, COMPRESS_RETRY_MIN_US), now_us);
        return;
    }
    policy->retry_us = 0;
    if (now_us - policy->changed_us >= COMPRESS_COMPARE_US)
        switch_off(policy, 0, now_us);
}

static void end_period_off(CompressPolicy *policy, double rate, gint64 now_us)
{
    /* Something else than the link is what limits. */
    if (policy->ran_empty)
        return;
    policy->rate_off = rate;
    if (now_us - policy->changed_us >= policy->retry_us)
        switch_on(policy, now_us);
}

gboolean compress_policy_decide(CompressPolicy *policy, guint64 plain_total, gint64 now_us)
{
    gint64 elapsed = now_us - policy->period_began_us;

    if (!policy->period_began_us) {
        begin_period(policy, plain_total, now_us);
    } else if (elapsed >= COMPRESS_PERIOD_US) {
        double rate = (double)(plain_total - policy->plain_at_begin) / elapsed;

        if (policy->on)
            end_period_on(policy, rate, now_us);
        else
            end_period_off(policy, rate, now_us);
        begin_period(policy, plain_total, now_us);
    }
    return policy->on;
}
