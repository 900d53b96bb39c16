/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/compress_policy.h"

/* Saving less than this part of the bytes is not worth the processor's time. */
#define WORTHWHILE 0.95

void compress_policy_init(CompressPolicy *policy)
{
    *policy = (CompressPolicy){ 0 };
}

void compress_policy_on_link_wait(CompressPolicy *policy)
{
    policy->waits_for_link++;
}

void compress_policy_on_cpu_wait(CompressPolicy *policy)
{
    policy->waits_for_cpu++;
}

void compress_policy_on_result(CompressPolicy *policy, gsize plain, gsize encoded)
{
    policy->plain_bytes += plain;
    policy->encoded_bytes += encoded;
}

static gboolean did_not_pay(const CompressPolicy *policy)
{
    if (policy->waits_for_cpu > policy->waits_for_link)
        return TRUE;
    return policy->plain_bytes > 0 && policy->encoded_bytes >= policy->plain_bytes * WORTHWHILE;
}

static void begin_period(CompressPolicy *policy, gint64 now_us)
{
    policy->period_began_us = now_us;
    policy->waits_for_link = policy->waits_for_cpu = 0;
    policy->plain_bytes = policy->encoded_bytes = 0;
}

gboolean compress_policy_decide(CompressPolicy *policy, gint64 now_us)
{
    if (!policy->period_began_us)
        begin_period(policy, now_us);
    if (now_us - policy->period_began_us < COMPRESS_PERIOD_US)
        return policy->on;
    if (policy->on && did_not_pay(policy)) {
        policy->on = FALSE;
        policy->off_until_us = now_us + COMPRESS_RETRY_US;
    } else if (!policy->on && policy->waits_for_link > 0 && now_us >= policy->off_until_us) {
        policy->on = TRUE;
    }
    begin_period(policy, now_us);
    return policy->on;
}
