/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The JSON form of `virt-postcopy list`. */
#include "config.h"

#include "cli/json.h"
#include "cli/list_view.h"

static void add_unsigned(JsonBuilder *builder, guint64 number)
{
    if (number <= G_MAXINT64)
        json_builder_add_int_value(builder, (gint64)number);
    else /* json-glib has no wider integer; a counter never gets there */
        json_builder_add_double_value(builder, (double)number);
}

static void add_param(JsonBuilder *builder, const virTypedParameter *param)
{
    if (param->type == VIR_TYPED_PARAM_STRING) {
        json_add_text(builder, param->field, param->value.s);
        return;
    }
    json_builder_set_member_name(builder, param->field);
    switch (param->type) {
    case VIR_TYPED_PARAM_INT:
        json_builder_add_int_value(builder, param->value.i);
        break;
    case VIR_TYPED_PARAM_UINT:
        json_builder_add_int_value(builder, param->value.ui);
        break;
    case VIR_TYPED_PARAM_LLONG:
        json_builder_add_int_value(builder, param->value.l);
        break;
    case VIR_TYPED_PARAM_ULLONG:
        add_unsigned(builder, param->value.ul);
        break;
    case VIR_TYPED_PARAM_DOUBLE:
        json_builder_add_double_value(builder, param->value.d);
        break;
    case VIR_TYPED_PARAM_BOOLEAN:
        json_builder_add_boolean_value(builder, param->value.b != 0);
        break;
    default: /* a type of a later libvirt */
        json_builder_add_null_value(builder);
    }
}

static void add_latencies(JsonBuilder *builder, const Job *job)
{
    g_autoptr(GArray) buckets = job_latencies(job);

    json_builder_set_member_name(builder, "latencies");
    json_builder_begin_array(builder);
    for (guint i = 0; i < buckets->len; i++) {
        const JobBucket *bucket = &g_array_index(buckets, JobBucket, i);

        json_builder_begin_object(builder);
        json_builder_set_member_name(builder, "le_us");
        add_unsigned(builder, bucket->le_us);
        json_builder_set_member_name(builder, "count");
        add_unsigned(builder, bucket->count);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_eta(JsonBuilder *builder, const Job *job)
{
    guint64 seconds;

    json_builder_set_member_name(builder, "eta_seconds");
    if (job_eta(job, &seconds))
        add_unsigned(builder, seconds);
    else
        json_builder_add_null_value(builder);
}

static void add_job(JsonBuilder *builder, const Job *job)
{
    json_builder_begin_object(builder);
    json_add_text(builder, "domain", job->domain);
    json_add_text(builder, "uuid", job->uuid);
    json_add_text(builder, "side", job_side_name(job_side(job)));
    json_add_text(builder, "job", job_type_name(job->type));
    json_builder_set_member_name(builder, "progress");
    json_builder_add_double_value(builder, job_progress(job));
    add_eta(builder, job);
    add_latencies(builder, job);
    json_builder_set_member_name(builder, "stats");
    json_builder_begin_object(builder);
    for (int i = 0; i < job->n_params; i++)
        add_param(builder, &job->params[i]);
    json_builder_end_object(builder);
    json_builder_end_object(builder);
}

char *list_view_json(const char *uri, const char *host, const GPtrArray *jobs)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    json_add_text(builder, "uri", uri);
    json_add_text(builder, "host", host);
    json_builder_set_member_name(builder, "migrations");
    json_builder_begin_array(builder);
    for (guint i = 0; i < jobs->len; i++)
        add_job(builder, jobs->pdata[i]);
    json_builder_end_array(builder);
    json_builder_end_object(builder);
    return json_text(builder);
}
