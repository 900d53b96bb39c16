/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/recovery_dial.h"

#include <glib/gi18n.h>
#include <string.h>

#include "driver/recovery_tls.h"
#include "driver/session_dial.h"
#include "driver/tls_steps.h"

/* The task's data; and that of the steps, which end before it. */
typedef struct {
    const Settings *settings;
    char *host;
    char *tls_name;
    guint8 token[MIGRATION_TOKEN_LEN];
    guint8 proof[RECOVERY_PROOF_LEN];
    gboolean has_proof;
    gsize sent;
} Dial;

static void dial_free(gpointer data)
{
    Dial *dial = data;

    explicit_bzero(dial->token, sizeof dial->token);
    g_free(dial->host);
    g_free(dial->tls_name);
    g_free(dial);
}

static void fail(GTask *task, GError *error)
{
    Dial *dial = g_task_get_task_data(task);

    g_prefix_error(&error, _("cannot reach virtpostcopyd on %s for a recovery: "), dial->host);
    g_task_return_error(task, error);
}

static gboolean read_welcome(TlsChannel *channel, GError **error)
{
    guint8 byte = 0;
    gssize n = tls_channel_read(channel, &byte, 1, error);

    if (n == 1 && byte == RECOVERY_WELCOME)
        return TRUE;
    if (n >= 0)
        g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE,
                    _("it refused the proof of the session's token"));
    return FALSE;
}

static gboolean prove(TlsChannel *channel, gpointer data, GError **error)
{
    Dial *dial = data;

    if (!dial->has_proof) {
        if (!tls_channel_handshake(channel, error) ||
            !recovery_proof(channel, dial->token, dial->proof, error))
            return FALSE;
        dial->has_proof = TRUE;
    }
    while (dial->sent < sizeof dial->proof) {
        gssize n = tls_channel_write(channel, dial->proof + dial->sent,
                                     sizeof dial->proof - dial->sent, error);

        if (n < 0)
            return FALSE;
        dial->sent += (gsize)n;
    }
    return tls_channel_flush(channel, error) && read_welcome(channel, error);
}

static void on_proven(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    TlsChannel *channel = tls_steps_finish(result, &error);

    if (channel)
        g_task_return_pointer(task, rpc_stream_new_tls(channel),
                              (GDestroyNotify)rpc_stream_unref);
    else
        fail(task, error);
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Dial *dial = g_task_get_task_data(task);
    const Settings *settings = dial->settings;
    TlsChannel *channel;
    GError *error = NULL;
    int fd = session_dial_finish(result, &error);

    if (fd < 0) {
        g_task_return_error(task, error); /* names the peer itself */
        return;
    }
    channel = recovery_channel_new(settings, TLS_ENDPOINT_CLIENT, fd, dial->tls_name,
                                   RECOVERY_ALPN, &error);
    if (channel)
        tls_steps(channel, prove, dial, NULL, settings->connect_timeout, NULL, on_proven,
                  g_steal_pointer(&task));
    else
        fail(task, error);
}

void recovery_dial(const Settings *settings, const MigrationUri *uri, const char *tls_name,
                   GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, NULL, callback, data);
    Dial *dial = g_new0(Dial, 1);

    dial->settings = settings;
    dial->host = g_strdup(uri->host);
    dial->tls_name = g_strdup(tls_name ? tls_name : uri->host);
    memcpy(dial->token, uri->token, sizeof dial->token);
    g_task_set_task_data(task, dial, dial_free);
    session_dial(settings, uri, SESSION_FOR_RPC, on_connected, task);
}

RpcStream *recovery_dial_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
