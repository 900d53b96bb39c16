/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/tls_accept.h"

#include "driver/tls_steps.h"

typedef struct {
    gboolean handshaken;
    gboolean confirmed;
} Accept;

/* TRUE: the client is in and knows it. */
static gboolean welcome(TlsChannel *channel, gpointer data, GError **error)
{
    static const guint8 byte = 1;
    Accept *a = data;

    if (!a->handshaken && !tls_channel_handshake(channel, error))
        return FALSE;
    a->handshaken = TRUE;
    if (!a->confirmed && tls_channel_write(channel, &byte, 1, error) < 0)
        return FALSE;
    a->confirmed = TRUE;
    return tls_channel_flush(channel, error);
}

static void on_steps(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    TlsChannel *channel = tls_steps_finish(result, &error);

    if (channel)
        g_task_return_pointer(task, channel, (GDestroyNotify)tls_channel_free);
    else
        g_task_return_error(task, error);
}

void tls_accept(int fd, TlsCredentials *creds, const char *const *allowed_dns, guint timeout,
                GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
    TlsChannelConfig config = { .endpoint = TLS_ENDPOINT_SERVER, .allowed_dns = allowed_dns };
    GError *error = NULL;
    TlsChannel *channel = tls_channel_new(fd, creds, &config, &error);

    if (!channel) {
        g_task_return_error(task, error);
        return;
    }
    tls_steps(channel, welcome, g_new0(Accept, 1), g_free, timeout, cancellable, on_steps,
              g_steal_pointer(&task));
}

TlsChannel *tls_accept_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
