/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/job_params.h"

void job_params_clear(JobParams *params)
{
    g_clear_pointer(&params->params, g_free);
    g_clear_pointer(&params->texts, g_ptr_array_unref);
    params->n = 0;
}

/* NULL: there is no room. field is not copied. */
static remote_param_value *add(JobParams *params, const char *field, remote_param_type type)
{
    remote_param *param;

    if (params->n >= REMOTE_PARAMS_MAX)
        return NULL;
    if (!params->params)
        params->params = g_new0(remote_param, REMOTE_PARAMS_MAX);
    param = &params->params[params->n++];
    param->field = (char *)field;
    param->value.type = type;
    return &param->value;
}

static void add_ull(JobParams *params, const char *field, guint64 number)
{
    remote_param_value *value = add(params, field, REMOTE_PARAM_ULLONG);

    if (value)
        value->remote_param_value_u.ul = number;
}

static void add_uint(JobParams *params, const char *field, guint number)
{
    remote_param_value *value = add(params, field, REMOTE_PARAM_UINT);

    if (value)
        value->remote_param_value_u.ui = number;
}

static void add_int(JobParams *params, const char *field, gint number)
{
    remote_param_value *value = add(params, field, REMOTE_PARAM_INT);

    if (value)
        value->remote_param_value_u.i = number;
}

static void add_double(JobParams *params, const char *field, double number)
{
    remote_param_value *value = add(params, field, REMOTE_PARAM_DOUBLE);

    if (value)
        value->remote_param_value_u.d = number;
}

/* Takes text; one that is NULL or empty is left out. */
static void add_text(JobParams *params, const char *field, char *text)
{
    g_autofree char *owned = text;
    remote_param_value *value;

    if (!owned || !*owned)
        return;
    value = add(params, field, REMOTE_PARAM_STRING);
    if (!value)
        return;
    if (!params->texts)
        params->texts = g_ptr_array_new_with_free_func(g_free);
    value->remote_param_value_u.s = owned;
    g_ptr_array_add(params->texts, g_steal_pointer(&owned));
}

void job_params_add_theirs(JobParams *params, const remote_params *theirs)
{
    for (guint i = 0; i < theirs->remote_params_len; i++) {
        const remote_param *their = &theirs->remote_params_val[i];
        remote_param_value *value = add(params, their->field, their->value.type);

        if (value)
            *value = their->value;
    }
}

enum { OPERATION_MIGRATION_IN = 4, OPERATION_MIGRATION_OUT = 5 };

void job_params_add_base(JobParams *params, const JobFigures *f)
{
    JobAmounts amounts = job_figures_amounts(f);
    guint64 disks = job_figures_disks(f);

    add_int(params, "operation",
            f->side == MIGRATION_SIDE_SOURCE ? OPERATION_MIGRATION_OUT : OPERATION_MIGRATION_IN);
    add_ull(params, "time_elapsed", (guint64)f->elapsed_us / 1000);
    add_ull(params, "data_total", amounts.total + disks);
    add_ull(params, "data_processed", amounts.processed + disks);
    add_ull(params, "data_remaining", amounts.remaining);
    add_ull(params, "memory_total", amounts.total);
    add_ull(params, "memory_processed", amounts.processed);
    add_ull(params, "memory_remaining", amounts.remaining);
    add_ull(params, "memory_bps", f->counters.rate);
    add_ull(params, "memory_constant", f->counters.pages_zero);
    add_ull(params, "memory_normal", f->counters.pages_normal);
    add_ull(params, "memory_postcopy_requests", f->counters.requests);
    if (disks > 0)
        add_ull(params, "disk_processed", disks);
}

/* ---- postcopy.* ---- */

typedef void (*FieldFunc)(JobParams *params, const char *field, const JobFigures *f);

#define FIELD_TEXT(member) \
    static void field_##member(JobParams *params, const char *field, const JobFigures *f) \
    { \
        add_text(params, field, g_strdup(f->member)); \
    }
#define FIELD_COUNTER(member) \
    static void field_##member(JobParams *params, const char *field, const JobFigures *f) \
    { \
        add_ull(params, field, f->counters.member); \
    }

FIELD_TEXT(state)
FIELD_TEXT(phase)
FIELD_TEXT(session)
FIELD_TEXT(peer)
FIELD_TEXT(tls)
FIELD_TEXT(features)
FIELD_COUNTER(main_sent)
FIELD_COUNTER(main_received)
FIELD_COUNTER(preempt_sent)
FIELD_COUNTER(preempt_received)
FIELD_COUNTER(bulk_sent)
FIELD_COUNTER(bulk_received)
FIELD_COUNTER(requests)
FIELD_COUNTER(resumes)
FIELD_COUNTER(rate)
FIELD_COUNTER(rtt_us)

static void field_channels(JobParams *params, const char *field, const JobFigures *f)
{
    add_uint(params, field, f->channels);
}

static void field_recoveries(JobParams *params, const char *field, const JobFigures *f)
{
    add_uint(params, field, f->recoveries);
}

static void field_link(JobParams *params, const char *field, const JobFigures *f)
{
    add_text(params, field, g_strdup(f->link_lost ? "lost" : "up"));
}

static void field_link_lost_time(JobParams *params, const char *field, const JobFigures *f)
{
    add_ull(params, field, (guint64)f->lost_us / 1000);
}

/* Of RAM, from the switch-over on. libvirt's memory_remaining at the source is what QEMU has not
 * handed over yet: what the helper holds and has not sent is missing in it. */
static void field_remaining(JobParams *params, const char *field, const JobFigures *f)
{
    const JobCounters *c = &f->counters;

    if (c->pages_normal + c->pages_zero > 0 || c->ram_remaining_bytes > 0)
        add_ull(params, field, c->ram_remaining_bytes);
}

static void field_disks_sent(JobParams *params, const char *field, const JobFigures *f)
{
    if (job_figures_disks(f) > 0)
        add_ull(params, field, f->counters.disks_sent);
}

static void field_disks_received(JobParams *params, const char *field, const JobFigures *f)
{
    if (job_figures_disks(f) > 0)
        add_ull(params, field, f->counters.disks_received);
}

static void field_compression_ratio(JobParams *params, const char *field, const JobFigures *f)
{
    const JobCounters *c = &f->counters;

    if (c->encoded_bytes > 0)
        add_double(params, field, (double)c->plain_bytes / (double)c->encoded_bytes);
}

/* ---- known at the destination alone ---- */

static gboolean arrives(const JobFigures *f)
{
    return f->side == MIGRATION_SIDE_DESTINATION;
}

static void add_arriving(JobParams *params, const char *field, const JobFigures *f, guint64 number)
{
    if (arrives(f))
        add_ull(params, field, number);
}

static void field_requests_outstanding(JobParams *params, const char *field, const JobFigures *f)
{
    add_arriving(params, field, f, f->counters.requests_outstanding);
}

static void field_latency_avg(JobParams *params, const char *field, const JobFigures *f)
{
    const JobCounters *c = &f->counters;

    add_arriving(params, field, f, c->latency_count ? c->latency_sum_us / c->latency_count : 0);
}

static void field_latency_p50(JobParams *params, const char *field, const JobFigures *f)
{
    add_arriving(params, field, f, job_latency_percentile(&f->counters, 0.50));
}

static void field_latency_p99(JobParams *params, const char *field, const JobFigures *f)
{
    add_arriving(params, field, f, job_latency_percentile(&f->counters, 0.99));
}

static void field_latency_max(JobParams *params, const char *field, const JobFigures *f)
{
    add_arriving(params, field, f, f->counters.latency_max_us);
}

static char *histogram_text(const JobCounters *counters)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < JOB_LATENCY_BUCKETS; i++) {
        if (counters->latency_buckets[i] == 0)
            continue;
        g_string_append_printf(text, "%s%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT,
                               text->len ? "," : "", job_latency_bucket_end(counters, i),
                               counters->latency_buckets[i]);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void field_latency_histogram(JobParams *params, const char *field, const JobFigures *f)
{
    if (arrives(f))
        add_text(params, field, histogram_text(&f->counters));
}

static void field_block_time(JobParams *params, const char *field, const JobFigures *f)
{
    add_arriving(params, field, f, f->counters.blocked_us / 1000);
}

/* In the order in which they are told: where there is no room, the last ones are left out. */
static const struct {
    const char *name;
    FieldFunc func;
} fields[] = {
    { "postcopy.state", field_state },
    { "postcopy.phase", field_phase },
    { "postcopy.session", field_session },
    { "postcopy.link", field_link },
    { "postcopy.link_lost_time", field_link_lost_time },
    { "postcopy.recoveries", field_recoveries },
    { "postcopy.resumes", field_resumes },
    { "postcopy.peer", field_peer },
    { "postcopy.tls", field_tls },
    { "postcopy.features", field_features },
    { "postcopy.channels", field_channels },
    { "postcopy.main.bytes_sent", field_main_sent },
    { "postcopy.main.bytes_received", field_main_received },
    { "postcopy.preempt.bytes_sent", field_preempt_sent },
    { "postcopy.preempt.bytes_received", field_preempt_received },
    { "postcopy.bulk.bytes_sent", field_bulk_sent },
    { "postcopy.bulk.bytes_received", field_bulk_received },
    { "postcopy.requests", field_requests },
    { "postcopy.requests_outstanding", field_requests_outstanding },
    { "postcopy.latency_avg", field_latency_avg },
    { "postcopy.latency_p50", field_latency_p50 },
    { "postcopy.latency_p99", field_latency_p99 },
    { "postcopy.latency_max", field_latency_max },
    { "postcopy.latency_histogram", field_latency_histogram },
    { "postcopy.block_time", field_block_time },
    { "postcopy.rate", field_rate },
    { "postcopy.rtt", field_rtt_us },
    { "postcopy.remaining", field_remaining },
    { "postcopy.disks.bytes_sent", field_disks_sent },
    { "postcopy.disks.bytes_received", field_disks_received },
    { "postcopy.compression_ratio", field_compression_ratio },
};

void job_params_add_postcopy(JobParams *params, const JobFigures *f)
{
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++)
        fields[i].func(params, fields[i].name, f);
}

const char *job_field_name(guint i)
{
    return i < G_N_ELEMENTS(fields) ? fields[i].name : NULL;
}
