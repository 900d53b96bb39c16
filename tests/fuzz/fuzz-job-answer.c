/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whatever an upstream answers to a question for a job, or says in a job-completed event: what a
 * client gets of it can be decoded, and has no more fields than libvirt allows. The first byte
 * says what was asked. */
#include "config.h"

#include <stdint.h>

#include "driver/job_answer.h"
#include "driver/rpc_xdr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_stats(const RpcFrame *frame)
{
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    g_assert(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_job_stats_ret, &ret, sizeof ret,
                            "the answer", NULL));
    g_assert(ret.params.remote_params_len <= REMOTE_PARAMS_MAX);
}

static void check_event(const RpcHeader *header, const uint8_t *data, size_t size,
                        const JobFigures *figures)
{
    RpcFrame *event = rpc_frame_new(header, data, size);
    g_autofree char *domain = job_completed_domain(event);
    gsize len;

    event = job_completed_event(event, figures);
    rpc_frame_payload(event, &len);
    g_assert(domain ? len >= size : len == size);
    rpc_frame_free(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    guint how = size ? data[0] : 0;
    RpcHeader header = { RPC_PROGRAM_REMOTE, 1, how & 1 ? JOB_PROC_INFO : JOB_PROC_STATS,
                         RPC_TYPE_REPLY,     7, how & 2 ? RPC_STATUS_ERROR : RPC_STATUS_OK };
    JobFigures figures = { .side = how & 4 ? MIGRATION_SIDE_SOURCE : MIGRATION_SIDE_DESTINATION,
                           .outcome = how & 8 ? JOB_OUTCOME_COMPLETED : JOB_OUTCOME_NONE,
                           .kept = (how & 8) != 0 };
    g_autoptr(RpcFrame) reply = rpc_frame_new(&header, size ? data + 1 : NULL, size ? size - 1 : 0);
    JobQuestion question = { header, how >> 4 & 3, how & 64 ? reply : NULL, reply, &figures };
    JobAnswer answer = job_answer(&question);

    job_reply_is_sample(reply, figures.side);
    if (answer.frame) {
        g_assert(answer.frame->header.status == RPC_STATUS_OK);
        if (header.procedure == JOB_PROC_STATS)
            check_stats(answer.frame);
        rpc_frame_free(answer.frame);
    }
    header.type = RPC_TYPE_MESSAGE;
    check_event(&header, size ? data + 1 : NULL, size ? size - 1 : 0, &figures);
    return 0;
}
