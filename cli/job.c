/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/job.h"

#include <string.h>

#include "driver/memory_list.h"

/* Field "operation" (virDomainJobOperation). */
#define OPERATION_IN VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN
#define OPERATION_OUT VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT

/* --- fields --- */

static const virTypedParameter *find(const Job *job, const char *field)
{
    for (int i = 0; i < job->n_params; i++) {
        if (g_str_equal(job->params[i].field, field))
            return &job->params[i];
    }
    return NULL;
}

gboolean job_has(const Job *job, const char *field)
{
    return find(job, field) != NULL;
}

guint64 job_number(const Job *job, const char *field)
{
    const virTypedParameter *param = find(job, field);

    switch (param ? param->type : 0) {
    case VIR_TYPED_PARAM_INT:
        return (guint64)MAX(param->value.i, 0);
    case VIR_TYPED_PARAM_UINT:
        return param->value.ui;
    case VIR_TYPED_PARAM_LLONG:
        return (guint64)MAX(param->value.l, 0);
    case VIR_TYPED_PARAM_ULLONG:
        return param->value.ul;
    case VIR_TYPED_PARAM_BOOLEAN:
        return param->value.b ? 1 : 0;
    default:
        return 0;
    }
}

double job_double(const Job *job, const char *field)
{
    const virTypedParameter *param = find(job, field);

    if (param && param->type == VIR_TYPED_PARAM_DOUBLE)
        return param->value.d;
    return (double)job_number(job, field);
}

const char *job_text(const Job *job, const char *field)
{
    const virTypedParameter *param = find(job, field);

    return param && param->type == VIR_TYPED_PARAM_STRING ? param->value.s : NULL;
}

/* --- the job --- */

static gboolean is_postcopy(const Job *job)
{
    for (int i = 0; i < job->n_params; i++) {
        if (g_str_has_prefix(job->params[i].field, JOB_POSTCOPY_PREFIX))
            return TRUE;
    }
    return FALSE;
}

Job *job_new(const char *domain, const char *uuid, int type, virTypedParameterPtr params,
             int n_params)
{
    g_autoptr(Job) job = g_new0(Job, 1);

    job->domain = g_utf8_make_valid(domain, -1);
    job->uuid = g_strdup(uuid);
    job->type = type;
    job->params = params;
    job->n_params = n_params;
    if (type == VIR_DOMAIN_JOB_NONE || !is_postcopy(job))
        return NULL;
    return g_steal_pointer(&job);
}

void job_free(Job *job)
{
    virTypedParamsFree(job->params, job->n_params);
    g_free(job->domain);
    g_free(job->uuid);
    g_free(job);
}

gboolean job_is_memory(const Job *job)
{
    return g_str_has_prefix(job->domain, MEMORY_PREFIX);
}

JobSide job_side(const Job *job)
{
    switch (job_number(job, VIR_DOMAIN_JOB_OPERATION)) {
    case OPERATION_OUT:
        return JOB_SIDE_SOURCE;
    case OPERATION_IN:
        return JOB_SIDE_DESTINATION;
    default:
        return JOB_SIDE_UNKNOWN;
    }
}

const char *job_side_name(JobSide side)
{
    switch (side) {
    case JOB_SIDE_SOURCE:
        return "source";
    case JOB_SIDE_DESTINATION:
        return "destination";
    case JOB_SIDE_UNKNOWN:
        break;
    }
    return "unknown";
}

gboolean job_ended(const Job *job)
{
    return job->type != VIR_DOMAIN_JOB_BOUNDED && job->type != VIR_DOMAIN_JOB_UNBOUNDED;
}

const char *job_type_name(int type)
{
    switch (type) {
    case VIR_DOMAIN_JOB_BOUNDED:
    case VIR_DOMAIN_JOB_UNBOUNDED:
        return "running";
    case VIR_DOMAIN_JOB_COMPLETED:
        return "completed";
    case VIR_DOMAIN_JOB_FAILED:
        return "failed";
    case VIR_DOMAIN_JOB_CANCELLED:
        return "cancelled";
    default:
        return "unknown";
    }
}

/* --- what follows from the fields --- */

/* libvirt leaves the sums out where there is only memory. */
static guint64 of_data(const Job *job, const char *sum, const char *memory)
{
    return job_number(job, job_has(job, sum) ? sum : memory);
}

guint64 job_total(const Job *job)
{
    return of_data(job, VIR_DOMAIN_JOB_DATA_TOTAL, VIR_DOMAIN_JOB_MEMORY_TOTAL);
}

/* In post-copy libvirt's own number at the source leaves out what the helper holds. */
guint64 job_remaining(const Job *job)
{
    if (job_has(job, "postcopy.remaining"))
        return job_number(job, "postcopy.remaining") +
               job_number(job, VIR_DOMAIN_JOB_DISK_REMAINING);
    return of_data(job, VIR_DOMAIN_JOB_DATA_REMAINING, VIR_DOMAIN_JOB_MEMORY_REMAINING);
}

guint64 job_transferred(const Job *job)
{
    if (job_side(job) == JOB_SIDE_DESTINATION)
        return job_number(job, "postcopy.main.bytes_received") +
               job_number(job, "postcopy.preempt.bytes_received") +
               job_number(job, "postcopy.bulk.bytes_received");
    return job_number(job, "postcopy.main.bytes_sent") +
           job_number(job, "postcopy.preempt.bytes_sent") +
           job_number(job, "postcopy.bulk.bytes_sent");
}

double job_progress(const Job *job)
{
    guint64 total = job_total(job), remaining = MIN(job_remaining(job), total);

    if (job->type == VIR_DOMAIN_JOB_COMPLETED)
        return 1;
    return total > 0 ? (double)(total - remaining) / (double)total : 0;
}

guint64 job_rate(const Job *job)
{
    guint64 rate = job_number(job, "postcopy.rate");

    return rate > 0 ? rate : job_number(job, VIR_DOMAIN_JOB_MEMORY_BPS);
}

gboolean job_eta(const Job *job, guint64 *ret_seconds)
{
    guint64 rate = job_rate(job);

    if (job_ended(job) || job_total(job) == 0)
        return FALSE;
    if (rate == 0)
        return FALSE;
    *ret_seconds = (job_remaining(job) + rate - 1) / rate;
    return TRUE;
}

/* "US:COUNT" */
static gboolean parse_bucket(const char *text, JobBucket *ret_bucket)
{
    const char *colon = strchr(text, ':');
    g_autofree char *le = colon ? g_strndup(text, (gsize)(colon - text)) : NULL;

    return colon && g_ascii_string_to_unsigned(le, 10, 0, G_MAXUINT64, &ret_bucket->le_us, NULL) &&
           g_ascii_string_to_unsigned(colon + 1, 10, 0, G_MAXUINT64, &ret_bucket->count, NULL);
}

GArray *job_latencies(const Job *job)
{
    const char *text = job_text(job, "postcopy.latency_histogram");
    GArray *buckets = g_array_new(FALSE, FALSE, sizeof(JobBucket));
    g_auto(GStrv) words = g_strsplit(text ? text : "", ",", -1);

    for (char **word = words; *word; word++) {
        JobBucket bucket;

        if (!parse_bucket(*word, &bucket) ||
            (buckets->len > 0 &&
             bucket.le_us <= g_array_index(buckets, JobBucket, buckets->len - 1).le_us)) {
            g_array_set_size(buckets, 0);
            return buckets;
        }
        g_array_append_val(buckets, bucket);
    }
    return buckets;
}
