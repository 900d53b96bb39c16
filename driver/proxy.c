/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames from one stream to the other, and the driver's hand in it.
 *
 * Pending calls, those that are watched and those of our own, are kept by serial. Closing has two
 * steps: begin_close() marks the proxy and lets upstream go; finish_close(), from the main loop,
 * ends what is pending, lets the client go and tells the hooks. So no hook is called from inside a
 * call of its own. */
#include "config.h"

#include "driver/proxy.h"

#include <glib/gi18n.h>
#include <libvirt/virterror.h>

#include "driver/rpc_error.h"
#include "util/log.h"

/* Calls the driver may hold for one client. libvirtd itself stops reading at 5
 * (max_client_requests), so no client of libvirt's depends on more. */
#define HELD_MAX 64u

/* Own calls have the top of the serials: clients of libvirt's count up from 0. */
#define OWN_SERIAL_FIRST 0xff000000u

/* A remote client that is silent for so long before its CONNECT_OPEN is closed. */
#define SILENCE_SECONDS 60u

#define PROC_CONNECT_OPEN 1

typedef struct {
    gboolean own; /* the call is the daemon's, the client knows nothing of it */
    guint32 program;
    gint32 procedure;
    ProxyReplyFunc func;
    gpointer data;
} Pending;

struct Proxy {
    gint refs;
    char *name;
    ProxyPeer peer;
    RpcStream *client;
    RpcStream *upstream;
    const ProxyHooks *hooks;
    gpointer hooks_data;

    GHashTable *pending; /* serial -> Pending */
    GHashTable *held;    /* serials of calls that the driver took and nobody has answered */
    guint32 next_serial;

    gboolean closed;
    gboolean hooks_told;
    guint finish_id;  /* finish_close() is due */
    guint silence_id; /* only before the client's CONNECT_OPEN */

    gpointer data;
    GDestroyNotify destroy;
};

static const char *const kind_names[] = { "unix", "tcp", "tls", "inner", "recovery" };
G_STATIC_ASSERT(G_N_ELEMENTS(kind_names) == PROXY_CLIENT_RECOVERY + 1);

static void begin_close(Proxy *proxy);
static gboolean answer_pending(Proxy *proxy, RpcFrame *frame);

static LogContext log_context(const Proxy *proxy)
{
    return (LogContext){ .client = proxy->name, .channel = "rpc" };
}

static gboolean is_reply(const RpcHeader *header)
{
    return header->type == RPC_TYPE_REPLY || header->type == RPC_TYPE_REPLY_WITH_FDS;
}

static gboolean is_call(const RpcHeader *header)
{
    return header->type == RPC_TYPE_CALL || header->type == RPC_TYPE_CALL_WITH_FDS;
}

/* --- pace: nobody is read whose frames have no room --- */

static void pace(Proxy *proxy)
{
    gboolean client_room = rpc_stream_queued(proxy->client) <= RPC_STREAM_QUEUE_LIMIT;
    gboolean upstream_room = rpc_stream_queued(proxy->upstream) <= RPC_STREAM_QUEUE_LIMIT;

    if (proxy->closed)
        return;
    /* The client's own queue counts for it too: calls that the daemon answers by itself would
     * otherwise fill it. */
    rpc_stream_set_reading(proxy->client, upstream_room && client_room &&
                                              g_hash_table_size(proxy->held) < HELD_MAX);
    rpc_stream_set_reading(proxy->upstream, client_room);
}

/* --- sending --- */

static void client_opened(Proxy *proxy)
{
    g_clear_handle_id(&proxy->silence_id, g_source_remove);
}

static void to_client(Proxy *proxy, RpcFrame *frame)
{
    const RpcHeader *h = &frame->header;

    if (is_reply(h)) {
        g_hash_table_remove(proxy->held, GUINT_TO_POINTER(h->serial));
        if (h->program == RPC_PROGRAM_REMOTE && h->procedure == PROC_CONNECT_OPEN &&
            h->status == RPC_STATUS_OK)
            client_opened(proxy);
    }
    if (rpc_frame_has_fds(frame) && !rpc_stream_can_pass_fds(proxy->client)) {
        /* libvirtd takes its client for a local one, because the daemon is. */
        RpcFrame *refusal =
            rpc_error_reply(h, VIR_ERR_OPERATION_UNSUPPORTED, VIR_FROM_RPC,
                            _("file descriptors cannot be passed over this connection"));

        rpc_frame_free(frame);
        frame = refusal;
    }
    rpc_stream_send(proxy->client, frame);
    pace(proxy);
}

typedef struct {
    Proxy *proxy;
    RpcFrame *reply;
} Refusal;

static gboolean refuse_later(gpointer data)
{
    Refusal *refusal = data;

    if (!answer_pending(refusal->proxy, refusal->reply))
        to_client(refusal->proxy, refusal->reply);
    proxy_unref(refusal->proxy);
    g_free(refusal);
    return G_SOURCE_REMOVE;
}

/* Upstream can be another host, when a source libvirtd is the client. */
static void refuse_fds(Proxy *proxy, const RpcHeader *call)
{
    Refusal *refusal = g_new0(Refusal, 1);

    refusal->proxy = proxy_ref(proxy);
    refusal->reply = rpc_error_reply(call, VIR_ERR_OPERATION_UNSUPPORTED, VIR_FROM_RPC,
                                     _("file descriptors cannot be passed to another host"));
    g_idle_add_full(G_PRIORITY_DEFAULT, refuse_later, refusal, NULL);
}

static void to_upstream(Proxy *proxy, RpcFrame *frame)
{
    if (rpc_frame_has_fds(frame) && !rpc_stream_can_pass_fds(proxy->upstream)) {
        refuse_fds(proxy, &frame->header);
        rpc_frame_free(frame);
        return;
    }
    rpc_stream_send(proxy->upstream, frame);
    pace(proxy);
}

/* --- from the client --- */

static gboolean client_silent(gpointer data)
{
    Proxy *proxy = data;
    LogContext ctx = log_context(proxy);

    proxy->silence_id = 0;
    log_warning(&ctx, _("client closed: %1$u seconds of silence before it opened a connection"),
                SILENCE_SECONDS);
    proxy_close(proxy);
    return G_SOURCE_REMOVE;
}

static void restart_silence(Proxy *proxy)
{
    g_source_remove(proxy->silence_id);
    proxy->silence_id = g_timeout_add_seconds(SILENCE_SECONDS, client_silent, proxy);
}

/* FALSE: it is that of a call of ours, or the client makes a second call by it although the first
 * is watched or held: no reply could be told apart. */
static gboolean serial_is_free(Proxy *proxy, const RpcHeader *h)
{
    gpointer serial = GUINT_TO_POINTER(h->serial);
    Pending *pending = g_hash_table_lookup(proxy->pending, serial);
    LogContext ctx = log_context(proxy);

    if (h->program == RPC_PROGRAM_KEEPALIVE)
        return TRUE;
    if (!(pending && pending->own) &&
        !(is_call(h) && (pending || g_hash_table_contains(proxy->held, serial))))
        return TRUE;
    log_warning(&ctx, _("client closed: RPC frame: serial %1$u (procedure %2$d) is in use"),
                h->serial, h->procedure);
    return FALSE;
}

static void client_frame(RpcStream *stream, RpcFrame *frame, gpointer data)
{
    g_autoptr(Proxy) proxy = proxy_ref(data);
    g_autoptr(RpcFrame) owned = frame;
    gpointer serial = GUINT_TO_POINTER(frame->header.serial);

    if (proxy->closed)
        return;
    if (!serial_is_free(proxy, &frame->header)) {
        begin_close(proxy);
        return;
    }
    if (proxy->silence_id)
        restart_silence(proxy);
    if (is_call(&frame->header)) {
        /* Before the hook: it may answer at once. */
        g_hash_table_add(proxy->held, serial);
        if (proxy->hooks->call(proxy, frame, proxy->hooks_data)) {
            owned = NULL;
            pace(proxy);
            return;
        }
        g_hash_table_remove(proxy->held, serial);
    }
    to_upstream(proxy, g_steal_pointer(&owned));
}

static void client_drained(RpcStream *stream, gpointer data)
{
    pace(data);
}

static void client_closed(RpcStream *stream, const GError *error, gpointer data)
{
    Proxy *proxy = data;
    LogContext ctx = log_context(proxy);

    if (error && error->domain == RPC_FRAME_ERROR)
        log_warning(&ctx, _("client closed: %1$s"), error->message);
    else
        log_info(&ctx, error ? _("client disconnected: %1$s") : _("client disconnected"),
                 error ? error->message : NULL);
    begin_close(proxy);
}

static const RpcStreamHandlers client_handlers = {
    .frame = client_frame,
    .drained = client_drained,
    .closed = client_closed,
};

/* --- from upstream --- */

/* Takes frame if it is the reply to a pending call. */
static gboolean answer_pending(Proxy *proxy, RpcFrame *frame)
{
    gpointer serial = GUINT_TO_POINTER(frame->header.serial);
    Pending *pending = g_hash_table_lookup(proxy->pending, serial);
    LogContext ctx = log_context(proxy);

    if (!pending || !is_reply(&frame->header))
        return FALSE;
    if (pending->program != frame->header.program ||
        pending->procedure != frame->header.procedure) {
        if (!pending->own)
            return FALSE;
        log_warning(&ctx, _("upstream answered procedure %1$d instead of %2$d (serial %3$u)"),
                    frame->header.procedure, pending->procedure, frame->header.serial);
        rpc_frame_free(frame);
        return TRUE;
    }
    g_hash_table_steal(proxy->pending, serial);
    pending->func(proxy, frame, pending->data);
    g_free(pending);
    return TRUE;
}

static gboolean hook_took_message(Proxy *proxy, RpcFrame *frame)
{
    return frame->header.type == RPC_TYPE_MESSAGE && proxy->hooks->message &&
           proxy->hooks->message(proxy, frame, proxy->hooks_data);
}

static void upstream_frame(RpcStream *stream, RpcFrame *frame, gpointer data)
{
    g_autoptr(Proxy) proxy = proxy_ref(data);

    if (proxy->closed)
        rpc_frame_free(frame);
    else if (!answer_pending(proxy, frame) && !hook_took_message(proxy, frame))
        to_client(proxy, frame);
}

static void upstream_drained(RpcStream *stream, gpointer data)
{
    pace(data);
}

static void upstream_closed(RpcStream *stream, const GError *error, gpointer data)
{
    Proxy *proxy = data;
    LogContext ctx = log_context(proxy);

    /* libvirtd resets a connection whose client said more after CONNECT_CLOSE. */
    if (error && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_CLOSED))
        log_warning(&ctx, _("upstream connection lost: %1$s"), error->message);
    else
        log_info(&ctx, _("upstream closed the connection"));
    begin_close(proxy);
}

static const RpcStreamHandlers upstream_handlers = {
    .frame = upstream_frame,
    .drained = upstream_drained,
    .closed = upstream_closed,
};

/* --- the end --- */

static void end_pending(Proxy *proxy)
{
    /* A func may start another call, which must end as well. */
    while (g_hash_table_size(proxy->pending) > 0) {
        GHashTableIter iter;
        gpointer value;
        Pending *pending;

        g_hash_table_iter_init(&iter, proxy->pending);
        g_hash_table_iter_next(&iter, NULL, &value);
        g_hash_table_iter_steal(&iter);
        pending = value;
        pending->func(proxy, NULL, pending->data);
        g_free(pending);
    }
}

static gboolean finish_close(gpointer data)
{
    Proxy *proxy = data;

    proxy->finish_id = 0;
    end_pending(proxy);
    rpc_stream_close(proxy->client, TRUE);
    if (!proxy->hooks_told) {
        proxy->hooks_told = TRUE;
        if (proxy->hooks->closed)
            proxy->hooks->closed(proxy, proxy->hooks_data);
        proxy_unref(proxy); /* proxy_new() took it */
    }
    return G_SOURCE_REMOVE;
}

static void schedule_finish(Proxy *proxy)
{
    if (proxy->finish_id)
        return;
    proxy->finish_id = g_idle_add_full(G_PRIORITY_DEFAULT, finish_close, proxy_ref(proxy),
                                       (GDestroyNotify)proxy_unref);
}

static void begin_close(Proxy *proxy)
{
    if (proxy->closed)
        return;
    proxy->closed = TRUE;
    g_clear_handle_id(&proxy->silence_id, g_source_remove);
    rpc_stream_set_reading(proxy->client, FALSE);
    rpc_stream_close(proxy->upstream, TRUE);
    schedule_finish(proxy);
}

void proxy_close(Proxy *proxy)
{
    begin_close(proxy);
}

/* --- the driver's calls --- */

static void add_pending(Proxy *proxy, const RpcHeader *call, gboolean own, ProxyReplyFunc func,
                        gpointer data)
{
    Pending *pending = g_new0(Pending, 1);

    *pending = (Pending){ own, call->program, call->procedure, func, data };
    g_hash_table_insert(proxy->pending, GUINT_TO_POINTER(call->serial), pending);
    if (proxy->closed)
        schedule_finish(proxy);
}

void proxy_forward(Proxy *proxy, RpcFrame *frame)
{
    if (proxy->closed) {
        rpc_frame_free(frame);
        return;
    }
    g_hash_table_remove(proxy->held, GUINT_TO_POINTER(frame->header.serial));
    to_upstream(proxy, frame);
}

static guint32 own_serial(Proxy *proxy)
{
    do {
        proxy->next_serial = proxy->next_serial == G_MAXUINT32 ? OWN_SERIAL_FIRST
                                                               : proxy->next_serial + 1;
    } while (g_hash_table_contains(proxy->pending, GUINT_TO_POINTER(proxy->next_serial)));
    return proxy->next_serial;
}

void proxy_forward_watched(Proxy *proxy, RpcFrame *frame, ProxyReplyFunc func, gpointer data)
{
    g_warn_if_fail(!g_hash_table_contains(proxy->pending, GUINT_TO_POINTER(frame->header.serial)));
    add_pending(proxy, &frame->header, /* own= */ FALSE, func, data);
    if (proxy->closed)
        rpc_frame_free(frame);
    else
        to_upstream(proxy, frame);
}

void proxy_reply(Proxy *proxy, RpcFrame *frame)
{
    to_client(proxy, frame);
}

void proxy_reply_error(Proxy *proxy, const RpcHeader *call, int code, int domain,
                       const char *message)
{
    to_client(proxy, rpc_error_reply(call, code, domain, message));
}

void proxy_call(Proxy *proxy, guint32 program, gint32 procedure, const void *payload, gsize len,
                ProxyReplyFunc func, gpointer data)
{
    RpcHeader header = { .program = program,
                         .version = 1,
                         .procedure = procedure,
                         .type = RPC_TYPE_CALL,
                         .serial = own_serial(proxy),
                         .status = RPC_STATUS_OK };

    add_pending(proxy, &header, /* own= */ TRUE, func, data);
    if (!proxy->closed)
        to_upstream(proxy, rpc_frame_new(&header, payload, len));
}

/* --- the rest of the interface --- */

static void peer_copy(ProxyPeer *to, const ProxyPeer *from)
{
    *to = *from;
    to->user_name = g_strdup(from->user_name);
    to->group_name = g_strdup(from->group_name);
    to->selinux_context = g_strdup(from->selinux_context);
    to->address = g_strdup(from->address);
    to->dn = g_strdup(from->dn);
}

void proxy_peer_clear(ProxyPeer *peer)
{
    g_clear_pointer(&peer->user_name, g_free);
    g_clear_pointer(&peer->group_name, g_free);
    g_clear_pointer(&peer->selinux_context, g_free);
    g_clear_pointer(&peer->address, g_free);
    g_clear_pointer(&peer->dn, g_free);
}

Proxy *proxy_new(RpcStream *client, RpcStream *upstream, const ProxyPeer *peer,
                 const ProxyHooks *hooks, gpointer data)
{
    static guint number; /* names only: no two log lines shall mean different clients */
    Proxy *proxy = g_new0(Proxy, 1);

    proxy->refs = 1; /* its own, until finish_close() */
    proxy->name = g_strdup_printf("%s-%u", kind_names[peer->kind], ++number);
    peer_copy(&proxy->peer, peer);
    proxy->client = client;
    proxy->upstream = upstream;
    proxy->hooks = hooks;
    proxy->hooks_data = data;
    proxy->pending = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    proxy->held = g_hash_table_new(NULL, NULL);
    proxy->next_serial = OWN_SERIAL_FIRST;
    if (peer->kind == PROXY_CLIENT_TCP || peer->kind == PROXY_CLIENT_TLS ||
        peer->kind == PROXY_CLIENT_RECOVERY)
        proxy->silence_id = g_timeout_add_seconds(SILENCE_SECONDS, client_silent, proxy);
    rpc_stream_start(client, &client_handlers, proxy);
    rpc_stream_start(upstream, &upstream_handlers, proxy);
    return proxy;
}

Proxy *proxy_ref(Proxy *proxy)
{
    g_atomic_int_inc(&proxy->refs);
    return proxy;
}

void proxy_unref(Proxy *proxy)
{
    if (!proxy || !g_atomic_int_dec_and_test(&proxy->refs))
        return;
    if (proxy->destroy)
        proxy->destroy(proxy->data);
    rpc_stream_unref(proxy->client);
    rpc_stream_unref(proxy->upstream);
    g_hash_table_unref(proxy->pending);
    g_hash_table_unref(proxy->held);
    proxy_peer_clear(&proxy->peer);
    g_free(proxy->name);
    g_free(proxy);
}

const ProxyPeer *proxy_peer(const Proxy *proxy)
{
    return &proxy->peer;
}

const char *proxy_name(const Proxy *proxy)
{
    return proxy->name;
}

gboolean proxy_is_closed(const Proxy *proxy)
{
    return proxy->closed;
}

void proxy_set_data(Proxy *proxy, gpointer data, GDestroyNotify destroy)
{
    if (proxy->destroy)
        proxy->destroy(proxy->data);
    proxy->data = data;
    proxy->destroy = destroy;
}

gpointer proxy_get_data(const Proxy *proxy)
{
    return proxy->data;
}

gboolean proxy_upstream_creds(const Proxy *proxy, pid_t *ret_pid, uid_t *ret_uid)
{
    return rpc_stream_peer_creds(proxy->upstream, ret_pid, ret_uid);
}
