/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/rpc_client.h"

#include <glib/gi18n.h>

#include "driver/rpc_error.h"

struct RpcClient {
    RpcStream *stream;
    guint32 serial; /* of the last call */
    RpcClientFunc func; /* who waits for its reply, or NULL */
    gpointer data;
    GError *closed; /* why there is no connection any more, or NULL */
    int refusal;    /* libvirt's code in the last answer that was an error */
    guint tell_id;  /* a call on a closed connection is to be told */
};

G_DEFINE_QUARK(rpc-client-error-quark, rpc_client_error)

/* Last thing that is done with the client: func may free it. */
static void answer(RpcClient *client, const RpcFrame *reply, const GError *error)
{
    RpcClientFunc func = client->func;

    client->func = NULL;
    if (func)
        func(client, reply, error, client->data);
}

static void answer_with_refusal(RpcClient *client, const RpcFrame *reply)
{
    g_auto(RpcError) theirs = { 0 };
    g_autoptr(GError) error = NULL;
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    rpc_error_decode(payload, len, &theirs, NULL);
    client->refusal = theirs.code;
    error = g_error_new_literal(RPC_CLIENT_ERROR, RPC_CLIENT_ERROR_REFUSED,
                                theirs.message ? theirs.message : _("libvirt gave no reason"));
    answer(client, NULL, error);
}

static void on_frame(RpcStream *stream, RpcFrame *frame, gpointer data)
{
    g_autoptr(RpcFrame) reply = frame;
    RpcClient *client = data;
    const RpcHeader *header = &reply->header;

    if (header->program != RPC_PROGRAM_REMOTE || header->type != RPC_TYPE_REPLY ||
        header->serial != client->serial)
        return;
    if (header->status == RPC_STATUS_OK)
        answer(client, reply, NULL);
    else
        answer_with_refusal(client, reply);
}

static void on_drained(RpcStream *stream, gpointer data)
{
}

static void answer_closed(RpcClient *client)
{
    g_autoptr(GError) error = g_error_copy(client->closed);

    answer(client, NULL, error);
}

static void on_closed(RpcStream *stream, const GError *error, gpointer data)
{
    RpcClient *client = data;

    client->closed = g_error_new_literal(RPC_CLIENT_ERROR, RPC_CLIENT_ERROR_CLOSED,
                                         error ? error->message
                                               : _("libvirt closed the connection"));
    answer_closed(client);
}

static const RpcStreamHandlers handlers = {
    .frame = on_frame,
    .drained = on_drained,
    .closed = on_closed,
};

RpcClient *rpc_client_new(RpcStream *stream)
{
    RpcClient *client = g_new0(RpcClient, 1);

    client->stream = stream;
    rpc_stream_start(stream, &handlers, client);
    return client;
}

void rpc_client_free(RpcClient *client)
{
    if (!client)
        return;
    g_clear_handle_id(&client->tell_id, g_source_remove);
    rpc_stream_close(client->stream, FALSE);
    rpc_stream_unref(client->stream);
    g_clear_error(&client->closed);
    g_free(client);
}

static gboolean tell_closed(gpointer data)
{
    RpcClient *client = data;

    client->tell_id = 0;
    answer_closed(client);
    return G_SOURCE_REMOVE;
}

void rpc_client_call(RpcClient *client, gint32 procedure, xdrproc_t proc, void *args,
                     RpcClientFunc func, gpointer data)
{
    RpcHeader header = { .program = RPC_PROGRAM_REMOTE,
                         .version = 1,
                         .procedure = procedure,
                         .type = RPC_TYPE_CALL,
                         .serial = ++client->serial,
                         .status = RPC_STATUS_OK };
    g_autoptr(GByteArray) payload = args ? rpc_xdr_encode(proc, args, "call", NULL) : NULL;

    g_return_if_fail(!client->func && (payload || !args));
    client->func = func;
    client->data = data;
    if (client->closed)
        client->tell_id = g_idle_add(tell_closed, client);
    else
        rpc_stream_send(client->stream, rpc_frame_new(&header, payload ? payload->data : NULL,
                                                      payload ? payload->len : 0));
}

int rpc_client_refusal_code(const RpcClient *client)
{
    return client->refusal;
}
