/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Buckets: eight for each power of two. */
#include "config.h"

#include "tests/workload/stalls.h"

static guint bucket_of(guint64 ns)
{
    guint power = ns < 8 ? 3 : (guint)(63 - __builtin_clzll(ns));

    return (power - 3) * 8 + (guint)(ns >> (power - 3) & 7);
}

static guint64 upper_end(guint bucket)
{
    return (guint64)(8 + bucket % 8 + 1) << (bucket / 8);
}

void stalls_add(Stalls *stalls, guint64 ns)
{
    if (ns < STALL_MIN_NS)
        return;
    stalls->counts[bucket_of(ns)]++;
    stalls->count++;
    stalls->sum_ns += ns;
    stalls->max_ns = MAX(stalls->max_ns, ns);
}

void stalls_merge(Stalls *stalls, const Stalls *other)
{
    for (guint i = 0; i < STALL_BUCKETS; i++)
        stalls->counts[i] += other->counts[i];
    stalls->count += other->count;
    stalls->sum_ns += other->sum_ns;
    stalls->max_ns = MAX(stalls->max_ns, other->max_ns);
}

guint64 stalls_percentile(const Stalls *stalls, double fraction)
{
    guint64 wanted = (guint64)((double)stalls->count * fraction);
    guint64 seen = 0;

    for (guint i = 0; i < STALL_BUCKETS; i++) {
        seen += stalls->counts[i];
        if (seen > 0 && seen >= wanted)
            return MIN(upper_end(i), stalls->max_ns);
    }
    return 0;
}
