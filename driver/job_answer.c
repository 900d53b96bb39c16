/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/job_answer.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "driver/job_params.h"
#include "driver/rpc_error.h"
#include "driver/rpc_xdr.h"
#include "util/log.h"

/* Longer than libvirt needs to end its own job after the helper has ended. */
#define SETTLE_US (60 * G_USEC_PER_SEC)

static const JobAnswer theirs = { NULL, FALSE };

/* ---- what libvirt has said ---- */

static gboolean decode_stats(const RpcFrame *reply, remote_job_stats_ret *ret)
{
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    return reply->header.status == RPC_STATUS_OK &&
           rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_job_stats_ret, ret, sizeof *ret,
                          "DOMAIN_GET_JOB_STATS's answer", NULL);
}

static gboolean decode_info(const RpcFrame *reply, remote_job_info *ret)
{
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    return reply->header.status == RPC_STATUS_OK &&
           rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_job_info, ret, sizeof *ret,
                          "DOMAIN_GET_JOB_INFO's answer", NULL);
}

static gboolean is_running(int type)
{
    return type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED;
}

/* One that libvirt calls by another name than this migration: a snapshot, say. */
static gboolean is_other_operation(const remote_params *params, MigrationSide side)
{
    int ours = side == MIGRATION_SIDE_SOURCE ? VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
                                             : VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN;

    for (guint i = 0; i < params->remote_params_len; i++) {
        const remote_param *param = &params->remote_params_val[i];

        if (g_str_equal(param->field, VIR_DOMAIN_JOB_OPERATION) &&
            param->value.type == REMOTE_PARAM_INT)
            return param->value.remote_param_value_u.i != ours;
    }
    return FALSE;
}

gboolean job_reply_is_sample(const RpcFrame *reply, MigrationSide side)
{
    RPC_XDR_AUTO(remote_job_stats_ret, stats) = { 0 };
    remote_job_info info = { 0 };

    return reply->header.procedure == JOB_PROC_STATS
               ? decode_stats(reply, &stats) && is_running(stats.type) &&
                     !is_other_operation(&stats.params, side)
               : decode_info(reply, &info) && is_running(info.type);
}

/* ---- what is answered ---- */

static RpcFrame *reply_with(const RpcHeader *call, xdrproc_t proc, void *value)
{
    g_autoptr(GError) error = NULL;
    RpcFrame *frame = rpc_xdr_reply(call, proc, value, &error);

    if (!frame)
        log_warning(NULL, "%s", error->message);
    return frame;
}

static RpcFrame *stats_frame(const RpcHeader *call, int type, JobParams *params)
{
    remote_job_stats_ret ret = { .type = type };

    ret.params.remote_params_len = params->n;
    ret.params.remote_params_val = params->params;
    return reply_with(call, (xdrproc_t)xdr_remote_job_stats_ret, &ret);
}

/* libvirt's own come first, and all of them stay. */
static RpcFrame *completed_frame(const RpcHeader *call, const remote_job_stats_ret *stats,
                                 const JobFigures *figures)
{
    g_auto(JobParams) params = { 0 };

    job_params_add_theirs(&params, &stats->params);
    job_params_add_postcopy(&params, figures);
    return stats_frame(call, stats->type, &params);
}

RpcFrame *job_own_stats(const RpcHeader *call, int type, const JobFigures *figures)
{
    g_auto(JobParams) params = { 0 };

    if (type == VIR_DOMAIN_JOB_NONE)
        return stats_frame(call, type, &params);
    job_params_add_base(&params, figures);
    job_params_add_postcopy(&params, figures);
    return stats_frame(call, type, &params);
}

static RpcFrame *own_info(const RpcHeader *call, int type, const JobFigures *figures)
{
    JobAmounts amounts = job_figures_amounts(figures);
    guint64 disks = job_figures_disks(figures);
    remote_job_info info = {
        .type = type,
        .time_elapsed = (guint64)figures->elapsed_us / 1000,
        .data_total = amounts.total + disks,
        .data_processed = amounts.processed + disks,
        .data_remaining = amounts.remaining,
        .mem_total = amounts.total,
        .mem_processed = amounts.processed,
        .mem_remaining = amounts.remaining,
        .file_processed = disks,
    };

    return reply_with(call, (xdrproc_t)xdr_remote_job_info, &info);
}

/* libvirt's job lives a little longer than the helper's. */
static gboolean is_live(const JobFigures *f)
{
    return f->outcome == JOB_OUTCOME_NONE || f->ended_us < SETTLE_US;
}

static int live_type(const JobFigures *f)
{
    switch (f->outcome) {
    case JOB_OUTCOME_FAILED:
        return VIR_DOMAIN_JOB_FAILED;
    case JOB_OUTCOME_CANCELLED:
        return VIR_DOMAIN_JOB_CANCELLED;
    default:
        return VIR_DOMAIN_JOB_UNBOUNDED;
    }
}

/* The destination's libvirt has none while a domain comes in. */
static gboolean refuses_at_destination(const JobQuestion *q)
{
    return q->figures->side == MIGRATION_SIDE_DESTINATION && q->reply &&
           rpc_error_code(q->reply) == VIR_ERR_OPERATION_UNSUPPORTED;
}

/* ---- a job that runs ---- */

static RpcFrame *with_sample(const JobQuestion *q)
{
    RPC_XDR_AUTO(remote_job_stats_ret, stats) = { 0 };

    if (!q->sample || !decode_stats(q->sample, &stats))
        return job_own_stats(&q->call, live_type(q->figures), q->figures);
    return completed_frame(&q->call, &stats, q->figures);
}

static RpcFrame *answer_stats(const JobQuestion *q)
{
    RPC_XDR_AUTO(remote_job_stats_ret, stats) = { 0 };

    /* What runs later is another job. */
    if (!is_live(q->figures))
        return NULL;
    if (!q->reply)
        return with_sample(q);
    if (refuses_at_destination(q))
        return job_own_stats(&q->call, live_type(q->figures), q->figures);
    if (!decode_stats(q->reply, &stats) || stats.type == VIR_DOMAIN_JOB_NONE ||
        is_other_operation(&stats.params, q->figures->side))
        return NULL;
    return completed_frame(&q->call, &stats, q->figures);
}

static RpcFrame *answer_info(const JobQuestion *q)
{
    remote_job_info info = { 0 };

    if (q->reply)
        return refuses_at_destination(q) && is_live(q->figures)
                   ? own_info(&q->call, live_type(q->figures), q->figures)
                   : NULL;
    if (!is_live(q->figures))
        return NULL;
    if (q->sample && decode_info(q->sample, &info))
        return reply_with(&q->call, (xdrproc_t)xdr_remote_job_info, &info);
    return own_info(&q->call, live_type(q->figures), q->figures);
}

/* ---- one that has completed ---- */

/* libvirt forgets the source's with the domain, and has none of the destination's. */
static gboolean has_none(const RpcFrame *reply, const remote_job_stats_ret *stats)
{
    return rpc_error_code(reply) == VIR_ERR_NO_DOMAIN ||
           (reply->header.status == RPC_STATUS_OK && stats->type == VIR_DOMAIN_JOB_NONE);
}

static RpcFrame *answer_completed(const JobQuestion *q)
{
    RPC_XDR_AUTO(remote_job_stats_ret, stats) = { 0 };

    /* Reading it clears libvirt's: its reply must not come too late to be told. */
    if (!q->figures->kept || !q->reply)
        return NULL;
    if (q->reply->header.status == RPC_STATUS_OK && !decode_stats(q->reply, &stats))
        return NULL;
    /* At the destination no domain is an end of the matter. */
    if (rpc_error_code(q->reply) == VIR_ERR_NO_DOMAIN &&
        q->figures->side == MIGRATION_SIDE_DESTINATION)
        return NULL;
    if (has_none(q->reply, &stats))
        return job_own_stats(&q->call, VIR_DOMAIN_JOB_COMPLETED, q->figures);
    if (q->reply->header.status != RPC_STATUS_OK || stats.type != VIR_DOMAIN_JOB_COMPLETED ||
        is_other_operation(&stats.params, q->figures->side))
        return NULL;
    return completed_frame(&q->call, &stats, q->figures);
}

JobAnswer job_answer(const JobQuestion *q)
{
    JobAnswer answer = theirs;

    if (q->call.procedure == JOB_PROC_INFO) {
        answer.frame = answer_info(q);
    } else if (q->flags & VIR_DOMAIN_JOB_STATS_COMPLETED) {
        answer.frame = answer_completed(q);
        answer.cleared = answer.frame && !(q->flags & VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED);
    } else {
        answer.frame = answer_stats(q);
    }
    return answer;
}

/* ---- the event ---- */

static gboolean decode_event(const RpcFrame *event, remote_job_completed *ret)
{
    gsize len;
    const guint8 *payload = rpc_frame_payload(event, &len);

    return rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_job_completed, ret, sizeof *ret,
                          "the job-completed event", NULL);
}

char *job_completed_domain(const RpcFrame *event)
{
    RPC_XDR_AUTO(remote_job_completed, args) = { 0 };

    return decode_event(event, &args) ? g_strdup(args.dom.name) : NULL;
}

RpcFrame *job_completed_event(RpcFrame *event, const JobFigures *figures)
{
    RPC_XDR_AUTO(remote_job_completed, args) = { 0 };
    g_autoptr(GByteArray) payload = NULL;
    g_autoptr(RpcFrame) owned = NULL;
    g_auto(JobParams) params = { 0 };
    remote_job_completed ours;

    if (!is_live(figures) || !decode_event(event, &args) ||
        is_other_operation(&args.params, figures->side))
        return event;
    job_params_add_theirs(&params, &args.params);
    job_params_add_postcopy(&params, figures);
    ours = args;
    ours.params.remote_params_len = params.n;
    ours.params.remote_params_val = params.params;
    payload = rpc_xdr_encode((xdrproc_t)xdr_remote_job_completed, &ours, "the job-completed event",
                             NULL);
    if (!payload)
        return event;
    owned = event;
    return rpc_frame_new_with_payload(owned, payload->data, payload->len);
}
