/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/metrics.h"

#include <inttypes.h>

#include "cli/job.h"

/* HELP is not translated: it is read where many hosts meet. */

typedef enum {
    SCALE_ONE,
    SCALE_MS, /* to seconds */
    SCALE_US, /* to seconds */
    SCALE_RATIO, /* a double as it is */
} Scale;

typedef struct {
    const char *name;
    const char *type;
    const char *help;
    const char *field;
    Scale scale;
    const char *label;   /* LABEL="VALUE", or NULL */
    gboolean measured;   /* 0 means that it is not */
} Metric;

/* Rows of the same name stand together. */
static const Metric metrics[] = {
    { "libvirt_domain_job_info_time_elapsed_seconds", "gauge", "Time since the job began",
      VIR_DOMAIN_JOB_TIME_ELAPSED, SCALE_MS },
    { "libvirt_domain_job_info_data_total_bytes", "gauge", "All data the job has to move",
      VIR_DOMAIN_JOB_DATA_TOTAL },
    { "libvirt_domain_job_info_data_processed_bytes", "gauge", "Data the job has moved",
      VIR_DOMAIN_JOB_DATA_PROCESSED },
    { "libvirt_domain_job_info_data_remaining_bytes", "gauge", "Data the job still has to move",
      VIR_DOMAIN_JOB_DATA_REMAINING },
    { "libvirt_domain_job_info_memory_total_bytes", "gauge", "All memory the job has to move",
      VIR_DOMAIN_JOB_MEMORY_TOTAL },
    { "libvirt_domain_job_info_memory_processed_bytes", "gauge", "Memory the job has moved",
      VIR_DOMAIN_JOB_MEMORY_PROCESSED },
    { "libvirt_domain_job_info_memory_remaining_bytes", "gauge",
      "Memory the job still has to move", VIR_DOMAIN_JOB_MEMORY_REMAINING },
    { "libvirt_domain_job_info_file_total_bytes", "gauge", "All of the disks the job has to move",
      VIR_DOMAIN_JOB_DISK_TOTAL },
    { "libvirt_domain_job_info_file_processed_bytes", "gauge",
      "Of the disks, what the job has moved", VIR_DOMAIN_JOB_DISK_PROCESSED },
    { "libvirt_domain_job_info_file_remaining_bytes", "gauge",
      "Of the disks, what the job still has to move", VIR_DOMAIN_JOB_DISK_REMAINING },
    { "libvirt_domain_postcopy_remaining_bytes", "gauge",
      "Memory that is not on the other host yet, from the switch-over on", "postcopy.remaining" },
    { "libvirt_domain_postcopy_channels", "gauge", "Connections between the two helpers",
      "postcopy.channels" },
    { "libvirt_domain_postcopy_sent_bytes_total", "counter", "Bytes sent on a channel, with TLS",
      "postcopy.main.bytes_sent", SCALE_ONE, "channel=\"main\"" },
    { "libvirt_domain_postcopy_sent_bytes_total", "counter", "Bytes sent on a channel, with TLS",
      "postcopy.preempt.bytes_sent", SCALE_ONE, "channel=\"preempt\"" },
    { "libvirt_domain_postcopy_sent_bytes_total", "counter", "Bytes sent on a channel, with TLS",
      "postcopy.bulk.bytes_sent", SCALE_ONE, "channel=\"bulk\"" },
    { "libvirt_domain_postcopy_received_bytes_total", "counter",
      "Bytes received on a channel, with TLS", "postcopy.main.bytes_received", SCALE_ONE,
      "channel=\"main\"" },
    { "libvirt_domain_postcopy_received_bytes_total", "counter",
      "Bytes received on a channel, with TLS", "postcopy.preempt.bytes_received", SCALE_ONE,
      "channel=\"preempt\"" },
    { "libvirt_domain_postcopy_received_bytes_total", "counter",
      "Bytes received on a channel, with TLS", "postcopy.bulk.bytes_received", SCALE_ONE,
      "channel=\"bulk\"" },
    { "libvirt_domain_postcopy_requests_total", "counter", "Pages the guest has waited for",
      "postcopy.requests" },
    { "libvirt_domain_postcopy_requests_outstanding", "gauge", "Pages the guest waits for now",
      "postcopy.requests_outstanding" },
    { "libvirt_domain_postcopy_request_latency_max_seconds", "gauge",
      "The longest time until a requested page was there", "postcopy.latency_max", SCALE_US },
    { "libvirt_domain_postcopy_block_seconds_total", "counter",
      "Time during which at least one request was unanswered", "postcopy.block_time", SCALE_MS },
    { "libvirt_domain_postcopy_recoveries_total", "counter",
      "Times the migration was resumed after it had been paused", "postcopy.recoveries" },
    { "libvirt_domain_postcopy_resumes_total", "counter",
      "Connections that took the place of a lost one", "postcopy.resumes" },
    { "libvirt_domain_postcopy_link_lost_seconds_total", "counter",
      "Time without a connection to the other host", "postcopy.link_lost_time", SCALE_MS },
    { "libvirt_domain_postcopy_rate_bytes_per_second", "gauge", "What the link carries",
      "postcopy.rate" },
    { "libvirt_domain_postcopy_rtt_seconds", "gauge", "Round trip to the other host",
      "postcopy.rtt", SCALE_US, .measured = TRUE },
    { "libvirt_domain_postcopy_compression_ratio", "gauge",
      "How many times smaller memory was on the wire", "postcopy.compression_ratio", SCALE_RATIO },
};

/* Upper ends of the latency histogram: powers of two, as the helper counts; 64 us to 16.8 s. */
#define FIRST_POWER 6
#define LAST_POWER 24

/* --- the format --- */

/* A label's value between its quotes. */
static void append_escaped(GString *out, const char *value)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);

    for (const char *p = valid; *p; p++) {
        if (*p == '\\' || *p == '"')
            g_string_append_c(out, '\\');
        if (*p == '\n')
            g_string_append(out, "\\n");
        else
            g_string_append_c(out, *p);
    }
}

static void append_label(GString *out, const char *name, const char *value)
{
    g_string_append_printf(out, ",%s=\"", name);
    append_escaped(out, value ? value : "");
    g_string_append_c(out, '"');
}

/* NAME{domain="DOMAIN" and a space for more labels to be appended in front of the brace. Several
 * memory clients may have one name. */
static void begin_sample(GString *out, const char *name, const Job *job)
{
    g_string_append_printf(out, "%s{domain=\"", name);
    append_escaped(out, job->domain);
    g_string_append_c(out, '"');
    if (job_is_memory(job))
        append_label(out, "uuid", job->uuid);
}

static void end_sample(GString *out, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append_printf(out, "} %s\n", g_ascii_formatd(text, sizeof(text), "%.15g", value));
}

static void append_head(GString *out, const char *name, const char *type, const char *help)
{
    g_string_append_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* --- one metric of all jobs --- */

static double value_of(const Job *job, const Metric *metric)
{
    switch (metric->scale) {
    case SCALE_MS:
        return (double)job_number(job, metric->field) / 1e3;
    case SCALE_US:
        return (double)job_number(job, metric->field) / 1e6;
    case SCALE_RATIO:
        return job_double(job, metric->field);
    case SCALE_ONE:
        break;
    }
    return (double)job_number(job, metric->field);
}

/* The head comes once, and only above samples. */
static void append_metric(GString *out, const Metric *metric, const GPtrArray *jobs,
                          gboolean *headed)
{
    for (guint i = 0; i < jobs->len; i++) {
        const Job *job = jobs->pdata[i];

        if (!job_has(job, metric->field) || (metric->measured && value_of(job, metric) <= 0))
            continue;
        if (!*headed)
            append_head(out, metric->name, metric->type, metric->help);
        *headed = TRUE;
        begin_sample(out, metric->name, job);
        if (metric->label)
            g_string_append_printf(out, ",%s", metric->label);
        end_sample(out, value_of(job, metric));
    }
}

static void append_table(GString *out, const GPtrArray *jobs)
{
    const char *name = "";
    gboolean headed = FALSE;

    for (gsize i = 0; i < G_N_ELEMENTS(metrics); i++) {
        if (!g_str_equal(metrics[i].name, name))
            headed = FALSE;
        name = metrics[i].name;
        append_metric(out, &metrics[i], jobs, &headed);
    }
}

/* --- what is more than a number --- */

static void append_type(GString *out, const GPtrArray *jobs)
{
    static const char name[] = "libvirt_domain_job_info_type";

    append_head(out, name, "gauge",
                "The job: 1 bounded, 2 unbounded, 3 completed, 4 failed, 5 cancelled");
    for (guint i = 0; i < jobs->len; i++) {
        const Job *job = jobs->pdata[i];

        begin_sample(out, name, job);
        end_sample(out, job->type);
    }
}

static void append_time_remaining(GString *out, const GPtrArray *jobs)
{
    static const char name[] = "libvirt_domain_job_info_time_remaining_seconds";
    gboolean headed = FALSE;

    for (guint i = 0; i < jobs->len; i++) {
        const Job *job = jobs->pdata[i];
        guint64 seconds;

        if (!job_eta(job, &seconds))
            continue;
        if (!headed)
            append_head(out, name, "gauge", "Time until the job ends, as it looks now");
        headed = TRUE;
        begin_sample(out, name, job);
        end_sample(out, (double)seconds);
    }
}

static void append_info(GString *out, const GPtrArray *jobs)
{
    static const char name[] = "libvirt_domain_postcopy_info";
    static const char *const labels[] = { "state", "phase", "session", "peer", "tls", "features" };

    append_head(out, name, "gauge", "A migration, and what there is to say of it in words");
    for (guint i = 0; i < jobs->len; i++) {
        const Job *job = jobs->pdata[i];

        begin_sample(out, name, job);
        if (!job_is_memory(job))
            append_label(out, "uuid", job->uuid);
        append_label(out, "side", job_side_name(job_side(job)));
        for (gsize j = 0; j < G_N_ELEMENTS(labels); j++) {
            g_autofree char *field = g_strconcat(JOB_POSTCOPY_PREFIX, labels[j], NULL);

            append_label(out, labels[j], job_text(job, field));
        }
        end_sample(out, 1);
    }
}

static void append_link(GString *out, const GPtrArray *jobs)
{
    static const char name[] = "libvirt_domain_postcopy_link_up";

    append_head(out, name, "gauge", "Whether there is a connection to the other host");
    for (guint i = 0; i < jobs->len; i++) {
        const Job *job = jobs->pdata[i];

        begin_sample(out, name, job);
        end_sample(out, g_strcmp0(job_text(job, "postcopy.link"), "up") == 0);
    }
}

static guint64 count_up_to(const GArray *buckets, guint64 le_us)
{
    guint64 count = 0;

    for (guint i = 0; i < buckets->len; i++) {
        const JobBucket *bucket = &g_array_index(buckets, JobBucket, i);

        if (bucket->le_us <= le_us)
            count += bucket->count;
    }
    return count;
}

static void append_bucket(GString *out, const char *name, const Job *job, const char *le,
                          guint64 count)
{
    begin_sample(out, name, job);
    append_label(out, "le", le);
    end_sample(out, (double)count);
}

/* libvirt's statistics have the average, and no sum. */
static void append_histogram(GString *out, const char *name, const Job *job)
{
    g_autofree char *bucket = g_strconcat(name, "_bucket", NULL);
    g_autofree char *sum = g_strconcat(name, "_sum", NULL);
    g_autofree char *count = g_strconcat(name, "_count", NULL);
    g_autoptr(GArray) buckets = job_latencies(job);
    guint64 all = count_up_to(buckets, G_MAXUINT64);
    char le[G_ASCII_DTOSTR_BUF_SIZE];

    for (guint power = FIRST_POWER; power <= LAST_POWER; power++) {
        guint64 le_us = (guint64)1 << power;

        g_ascii_formatd(le, sizeof(le), "%.15g", (double)le_us / 1e6);
        append_bucket(out, bucket, job, le, count_up_to(buckets, le_us));
    }
    append_bucket(out, bucket, job, "+Inf", all);
    begin_sample(out, sum, job);
    end_sample(out, (double)job_number(job, "postcopy.latency_avg") / 1e6 * (double)all);
    begin_sample(out, count, job);
    end_sample(out, (double)all);
}

static void append_latencies(GString *out, const GPtrArray *jobs)
{
    static const char name[] = "libvirt_domain_postcopy_request_latency_seconds";
    gboolean headed = FALSE;

    for (guint i = 0; i < jobs->len; i++) {
        const Job *job = jobs->pdata[i];

        if (!job_has(job, "postcopy.latency_histogram"))
            continue;
        if (!headed)
            append_head(out, name, "histogram", "From a request until its page was there");
        headed = TRUE;
        append_histogram(out, name, job);
    }
}

static void append_up(GString *out, gboolean up)
{
    append_head(out, "libvirt_up", "gauge", "Whether libvirt has answered");
    g_string_append_printf(out, "libvirt_up %d\n", up ? 1 : 0);
}

char *metrics_text(const GPtrArray *jobs)
{
    GString *out = g_string_new(NULL);

    append_up(out, jobs != NULL);
    if (jobs) {
        append_head(out, "libvirt_domain_postcopy_migrations", "gauge",
                    "Migrations on this host, on either side of them");
        g_string_append_printf(out, "libvirt_domain_postcopy_migrations %u\n", jobs->len);
    }
    if (jobs && jobs->len > 0) {
        append_type(out, jobs);
        append_time_remaining(out, jobs);
        append_info(out, jobs);
        append_link(out, jobs);
        append_table(out, jobs);
        append_latencies(out, jobs);
    }
    return g_string_free(out, FALSE);
}
