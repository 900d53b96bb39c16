/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/refusal.h"

#include "driver/rpc_error.h"

typedef struct {
    RpcStream *client;
    RpcError reason;
    guint timeout_id;
    GDestroyNotify done;
    gpointer data;
} Refusal;

static void refusal_end(Refusal *refusal)
{
    g_clear_handle_id(&refusal->timeout_id, g_source_remove);
    rpc_stream_close(refusal->client, TRUE);
    rpc_stream_unref(refusal->client);
    refusal->done(refusal->data);
    rpc_error_clear(&refusal->reason);
    g_free(refusal);
}

static gboolean time_is_up(gpointer data)
{
    Refusal *refusal = data;

    refusal->timeout_id = 0;
    refusal_end(refusal);
    return G_SOURCE_REMOVE;
}

static void on_frame(RpcStream *stream, RpcFrame *frame, gpointer data)
{
    Refusal *refusal = data;
    const RpcHeader *h = &frame->header;

    if (h->type == RPC_TYPE_CALL || h->type == RPC_TYPE_CALL_WITH_FDS)
        rpc_stream_send(stream, rpc_error_reply(h, refusal->reason.code, refusal->reason.domain,
                                                refusal->reason.message));
    /* Somebody who asks without reading the answers is not worth memory. */
    if (rpc_stream_queued(stream) > RPC_STREAM_QUEUE_LIMIT)
        rpc_stream_set_reading(stream, FALSE);
    rpc_frame_free(frame);
}

static void on_drained(RpcStream *stream, gpointer data)
{
    rpc_stream_set_reading(stream, TRUE);
}

static void on_closed(RpcStream *stream, const GError *error, gpointer data)
{
    refusal_end(data);
}

static const RpcStreamHandlers handlers = {
    .frame = on_frame,
    .drained = on_drained,
    .closed = on_closed,
};

void refusal_start(RpcStream *client, int code, int domain, const char *message,
                   GDestroyNotify done, gpointer data)
{
    Refusal *refusal = g_new0(Refusal, 1);

    refusal->client = client;
    refusal->reason = (RpcError){ code, domain, g_strdup(message) };
    refusal->done = done;
    refusal->data = data;
    refusal->timeout_id = g_timeout_add_seconds(REFUSAL_SECONDS, time_is_up, refusal);
    rpc_stream_start(client, &handlers, refusal);
}
