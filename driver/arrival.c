/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/arrival.h"

#include <glib/gi18n.h>
#include <libvirt/virterror.h>

#include "driver/identity.h"
#include "driver/listen_socket.h"
#include "driver/refusal.h"
#include "driver/tls_accept.h"
#include "driver/upstream.h"
#include "util/log.h"

#define HANDSHAKE_SECONDS 10u

typedef struct {
    ProxyPeer peer;
    RpcStream *client; /* NULL during a handshake */
    const Settings *settings;
    GCancellable *cancellable;
    ArrivalFunc func;
    gpointer data;
} Arrival;

char *arrival_describe(const ProxyPeer *peer)
{
    if (peer->has_creds)
        return g_strdup_printf("pid %d, uid %u%s", (int)peer->pid, (guint)peer->uid,
                               peer->read_only ? ", read-only" : "");
    if (peer->dn)
        return g_strdup_printf("%s, %s", peer->address, peer->dn);
    return g_strdup(peer->address ? peer->address : "?");
}

static void arrival_end(Arrival *a, RpcStream *upstream)
{
    RpcStream *client = g_steal_pointer(&a->client);

    if (!upstream && client) {
        rpc_stream_close(client, FALSE);
        g_clear_pointer(&client, rpc_stream_unref);
    }
    a->func(client, upstream, &a->peer, a->data);
    proxy_peer_clear(&a->peer);
    g_object_unref(a->cancellable);
    g_free(a);
}

static void on_refused(gpointer data)
{
    arrival_end(data, NULL);
}

static void on_upstream(GObject *source, GAsyncResult *result, gpointer data)
{
    Arrival *a = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *who = NULL;
    int fd = upstream_connect_finish(result, &error);

    if (fd >= 0) {
        arrival_end(a, rpc_stream_new_socket(fd, TRUE));
        return;
    }
    if (g_cancellable_is_cancelled(a->cancellable)) {
        arrival_end(a, NULL);
        return;
    }
    who = arrival_describe(&a->peer);
    log_error(NULL, _("client sent away (%1$s): %2$s"), who, error->message);
    refusal_start(g_steal_pointer(&a->client), VIR_ERR_SYSTEM_ERROR, VIR_FROM_RPC, error->message,
                  on_refused, a);
}

static void find_upstream(Arrival *a)
{
    g_auto(GStrv) paths = upstream_candidates(a->settings, a->peer.read_only);

    upstream_connect((const char *const *)paths, a->settings->connect_timeout, a->cancellable,
                     on_upstream, a);
}

static void on_names(GObject *source, GAsyncResult *result, gpointer data)
{
    find_upstream(data);
}

static void find_names(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    identity_find_names(data);
    g_task_return_boolean(task, TRUE);
}

/* A directory service may take its time over a name, so that is asked for in a thread. Nobody else
 * touches the peer meanwhile. */
static void identify(Arrival *a, int fd)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, on_names, a);

    identity_take(fd, &a->peer);
    a->client = rpc_stream_new_socket(fd, TRUE);
    g_task_set_task_data(task, &a->peer, NULL);
    g_task_run_in_thread(task, find_names);
}

static void on_handshake(GObject *source, GAsyncResult *result, gpointer data)
{
    Arrival *a = data;
    g_autoptr(GError) error = NULL;
    TlsChannel *channel = tls_accept_finish(result, &error);

    if (!channel) {
        log_warning(NULL, _("client sent away (%1$s): %2$s"), a->peer.address, error->message);
        arrival_end(a, NULL);
        return;
    }
    a->peer.dn = g_strdup(tls_channel_peer_name(channel));
    a->client = rpc_stream_new_tls(channel);
    find_upstream(a);
}

void arrival_start(int fd, ProxyClientKind kind, gboolean read_only, const Settings *settings,
                   TlsCredentials *creds, GCancellable *cancellable, ArrivalFunc func,
                   gpointer data)
{
    Arrival *a = g_new0(Arrival, 1);

    a->peer.kind = kind;
    a->peer.read_only = read_only;
    a->settings = settings;
    a->cancellable = g_object_ref(cancellable);
    a->func = func;
    a->data = data;
    if (kind == PROXY_CLIENT_UNIX) {
        identify(a, fd);
        return;
    }
    a->peer.address = listen_socket_address(fd, /* peer= */ TRUE);
    if (kind == PROXY_CLIENT_TLS) {
        tls_accept(fd, creds, (const char *const *)settings->tls_allowed_dn_list,
                   HANDSHAKE_SECONDS, cancellable, on_handshake, a);
        return;
    }
    a->client = rpc_stream_new_socket(fd, /* can_pass_fds= */ FALSE);
    find_upstream(a);
}
