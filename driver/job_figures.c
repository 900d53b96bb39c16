/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/job_figures.h"

/* ---- a helper's counters ---- */

typedef enum {
    COUNT_SUM,    /* of all sessions */
    COUNT_NEWEST, /* as it is now */
    COUNT_MOST,
} CountKind;

static const struct {
    const char *name;
    gsize offset;
    CountKind kind;
} counters_table[] = {
    { "stream-bytes", G_STRUCT_OFFSET(JobCounters, stream_bytes), COUNT_SUM },
    { "wire-bytes-sent", G_STRUCT_OFFSET(JobCounters, main_sent), COUNT_SUM },
    { "wire-bytes-received", G_STRUCT_OFFSET(JobCounters, main_received), COUNT_SUM },
    { "wire-preempt-bytes-sent", G_STRUCT_OFFSET(JobCounters, preempt_sent), COUNT_SUM },
    { "wire-preempt-bytes-received", G_STRUCT_OFFSET(JobCounters, preempt_received), COUNT_SUM },
    { "wire-bulk-bytes-sent", G_STRUCT_OFFSET(JobCounters, bulk_sent), COUNT_SUM },
    { "wire-bulk-bytes-received", G_STRUCT_OFFSET(JobCounters, bulk_received), COUNT_SUM },
    { "wire-disks-bytes-sent", G_STRUCT_OFFSET(JobCounters, disks_sent), COUNT_SUM },
    { "wire-disks-bytes-received", G_STRUCT_OFFSET(JobCounters, disks_received), COUNT_SUM },
    { "resumes", G_STRUCT_OFFSET(JobCounters, resumes), COUNT_SUM },
    { "requests", G_STRUCT_OFFSET(JobCounters, requests), COUNT_SUM },
    { "requests-outstanding", G_STRUCT_OFFSET(JobCounters, requests_outstanding), COUNT_NEWEST },
    { "blocked-us", G_STRUCT_OFFSET(JobCounters, blocked_us), COUNT_SUM },
    { "pages-normal", G_STRUCT_OFFSET(JobCounters, pages_normal), COUNT_SUM },
    { "pages-zero", G_STRUCT_OFFSET(JobCounters, pages_zero), COUNT_SUM },
    { "ram-bytes", G_STRUCT_OFFSET(JobCounters, ram_bytes), COUNT_MOST },
    { "ram-remaining-bytes", G_STRUCT_OFFSET(JobCounters, ram_remaining_bytes), COUNT_NEWEST },
    { "plain-bytes", G_STRUCT_OFFSET(JobCounters, plain_bytes), COUNT_SUM },
    { "encoded-bytes", G_STRUCT_OFFSET(JobCounters, encoded_bytes), COUNT_SUM },
    { "rate", G_STRUCT_OFFSET(JobCounters, rate), COUNT_NEWEST },
    { "rtt-us", G_STRUCT_OFFSET(JobCounters, rtt_us), COUNT_NEWEST },
    { "request-latency-count", G_STRUCT_OFFSET(JobCounters, latency_count), COUNT_SUM },
    { "request-latency-sum-us", G_STRUCT_OFFSET(JobCounters, latency_sum_us), COUNT_SUM },
    { "request-latency-max-us", G_STRUCT_OFFSET(JobCounters, latency_max_us), COUNT_MOST },
};

static guint64 *counter_at(JobCounters *counters, gsize i)
{
    return G_STRUCT_MEMBER_P(counters, counters_table[i].offset);
}

static void read_buckets(JobCounters *ret, GVariant *statistics)
{
    g_autoptr(GVariant) list =
        g_variant_lookup_value(statistics, "request-latency-us", G_VARIANT_TYPE("at"));
    gsize n = list ? g_variant_n_children(list) : 0;

    for (gsize i = 0; i < n; i++) {
        guint64 count;

        g_variant_get_child(list, i, "t", &count);
        ret->latency_buckets[MIN(i, JOB_LATENCY_BUCKETS - 1)] += count;
    }
}

void job_counters_read(JobCounters *ret, GVariant *statistics)
{
    *ret = (JobCounters){ 0 };
    if (!statistics || !g_variant_is_of_type(statistics, G_VARIANT_TYPE_VARDICT))
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(counters_table); i++)
        g_variant_lookup(statistics, counters_table[i].name, "t", counter_at(ret, i));
    read_buckets(ret, statistics);
}

void job_counters_add(JobCounters *counters, const JobCounters *later)
{
    /* Until the blocks are known again, what remained then remains. */
    guint64 remaining =
        later->ram_bytes > 0 ? later->ram_remaining_bytes : counters->ram_remaining_bytes;
    JobCounters copy = *later;

    for (gsize i = 0; i < G_N_ELEMENTS(counters_table); i++) {
        guint64 *sum = counter_at(counters, i), value = *counter_at(&copy, i);

        if (counters_table[i].kind == COUNT_SUM)
            *sum += value;
        else if (counters_table[i].kind == COUNT_NEWEST || value > *sum)
            *sum = value;
    }
    counters->ram_remaining_bytes = remaining;
    for (gsize i = 0; i < JOB_LATENCY_BUCKETS; i++)
        counters->latency_buckets[i] += later->latency_buckets[i];
}

guint64 job_latency_bucket_end(const JobCounters *counters, guint i)
{
    return i == JOB_LATENCY_BUCKETS - 1 ? MAX(counters->latency_max_us, (guint64)1 << (i - 1))
                                        : (guint64)1 << i;
}

guint64 job_latency_percentile(const JobCounters *counters, double fraction)
{
    guint64 all = 0, seen = 0;

    for (guint i = 0; i < JOB_LATENCY_BUCKETS; i++)
        all += counters->latency_buckets[i];
    for (guint i = 0; i < JOB_LATENCY_BUCKETS; i++) {
        seen += counters->latency_buckets[i];
        if (seen > 0 && (double)seen >= fraction * (double)all)
            return MIN(job_latency_bucket_end(counters, i), counters->latency_max_us);
    }
    return 0;
}

/* ---- figures ---- */

void job_figures_clear(JobFigures *f)
{
    g_clear_pointer(&f->state, g_free);
    g_clear_pointer(&f->phase, g_free);
    g_clear_pointer(&f->session, g_free);
    g_clear_pointer(&f->peer, g_free);
    g_clear_pointer(&f->tls, g_free);
    g_clear_pointer(&f->features, g_free);
}

/* Before the switch-over the destination can only guess what is still to come. */
JobAmounts job_figures_amounts(const JobFigures *f)
{
    const JobCounters *c = &f->counters;
    JobAmounts amounts = { .total = c->ram_bytes ? c->ram_bytes : f->expected_ram,
                           .processed = c->stream_bytes };
    gboolean moved = c->pages_normal + c->pages_zero > 0 || c->ram_remaining_bytes > 0;

    if (moved || f->outcome == JOB_OUTCOME_COMPLETED)
        amounts.remaining = c->ram_remaining_bytes;
    else if (amounts.total > amounts.processed)
        amounts.remaining = amounts.total - amounts.processed;
    /* A memory client has no stream. */
    if (moved && c->stream_bytes == 0 && amounts.total > amounts.remaining)
        amounts.processed = amounts.total - amounts.remaining;
    return amounts;
}

/* How large they are is known to libvirt and QEMU alone. */
guint64 job_figures_disks(const JobFigures *f)
{
    return f->side == MIGRATION_SIDE_SOURCE ? f->counters.disks_sent : f->counters.disks_received;
}
