/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What there is to be told of one migration on one side: numbers and words from its helper and from
 * the daemon. Pure. */
#pragma once

#include "driver/migration.h"

/* As in the helper's statistics. */
#define JOB_LATENCY_BUCKETS 32

/* A helper's counters, and, added up, those of the sessions of a migration that was recovered. */
typedef struct {
    guint64 stream_bytes;
    guint64 main_sent;
    guint64 main_received;
    guint64 preempt_sent;
    guint64 preempt_received;
    guint64 bulk_sent;
    guint64 bulk_received;
    guint64 disks_sent;
    guint64 disks_received;
    guint64 resumes;
    guint64 requests;
    guint64 requests_outstanding;
    guint64 blocked_us;
    guint64 pages_normal;
    guint64 pages_zero;
    guint64 ram_bytes;
    guint64 ram_remaining_bytes;
    guint64 plain_bytes;
    guint64 encoded_bytes;
    guint64 rate; /* bytes/s */
    guint64 rtt_us;
    guint64 latency_count;
    guint64 latency_sum_us;
    guint64 latency_max_us;
    guint64 latency_buckets[JOB_LATENCY_BUCKETS];
} JobCounters;

/* From the property Statistics; what is missing or of another type is 0. */
void job_counters_read(JobCounters *ret, GVariant *statistics);
/* Adds a later session to an earlier one. */
void job_counters_add(JobCounters *counters, const JobCounters *later);

/* Bucket 0: below 1 us; bucket i: to below 2^i; the last one: all longer ones, up to the
 * longest. */
guint64 job_latency_bucket_end(const JobCounters *counters, guint i);
/* The upper end of the bucket that holds that fraction (0 to 1) of all, at most the longest. */
guint64 job_latency_percentile(const JobCounters *counters, double fraction);

typedef enum {
    JOB_OUTCOME_NONE, /* it goes on, or may be recovered */
    JOB_OUTCOME_COMPLETED,
    JOB_OUTCOME_FAILED,
    JOB_OUTCOME_CANCELLED,
} JobOutcome;

typedef struct {
    MigrationSide side;
    JobOutcome outcome;
    gboolean connected; /* a session lives: its helper has not ended */
    gint64 begun_us;   /* monotonic; another migration of the domain has another one */
    gint64 elapsed_us; /* since it began; stands still at the end */
    gint64 ended_us;   /* how long ago that was; 0 while it goes on */
    gboolean kept;     /* its completed statistics may be asked for */
    char *state;
    char *phase;
    char *session;
    char *peer;
    char *tls;
    char *features;
    guint channels;
    guint recoveries;
    gboolean link_lost;
    gint64 lost_us; /* time without link */
    guint64 expected_ram; /* bytes, as long as counters.ram_bytes is not known */
    JobCounters counters;
} JobFigures;

void job_figures_clear(JobFigures *figures);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(JobFigures, job_figures_clear)

/* Memory and data, as libvirt counts: all, brought over, to come. */
typedef struct {
    guint64 total;
    guint64 processed;
    guint64 remaining;
} JobAmounts;
JobAmounts job_figures_amounts(const JobFigures *figures);
/* Bytes of disks brought over, as they are on the wire. */
guint64 job_figures_disks(const JobFigures *figures);
