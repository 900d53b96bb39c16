/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/tls_accept.h"

#include <glib-unix.h>
#include <glib/gi18n.h>
#include <poll.h>

/* The task's data. Each source holds a reference to the task; whatever ends the task drops them. */
typedef struct {
    TlsChannel *channel;
    gboolean handshaken;
    gboolean confirmed;
    guint timeout;
    GSource *watch;
    GSource *deadline;
    GSource *cancelled;
} Accept;

static void drop_source(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

static void accept_free(gpointer data)
{
    Accept *a = data;

    g_clear_pointer(&a->channel, tls_channel_free);
    g_free(a);
}

static void finish(GTask *task, GError *error)
{
    Accept *a = g_task_get_task_data(task);

    drop_source(&a->watch);
    drop_source(&a->deadline);
    drop_source(&a->cancelled);
    if (error)
        g_task_return_error(task, error);
    else
        g_task_return_pointer(task, g_steal_pointer(&a->channel),
                              (GDestroyNotify)tls_channel_free);
}

static GSource *add_source(GTask *task, GSource *source, GSourceFunc func)
{
    g_source_set_callback(source, func, g_object_ref(task), g_object_unref);
    g_source_attach(source, NULL);
    return source;
}

/* TRUE: the client is in and knows it. */
static gboolean advance(Accept *a, GError **error)
{
    static const guint8 welcome = 1;

    if (!a->handshaken && !tls_channel_handshake(a->channel, error))
        return FALSE;
    a->handshaken = TRUE;
    if (!a->confirmed && tls_channel_write(a->channel, &welcome, 1, error) < 0)
        return FALSE;
    a->confirmed = TRUE;
    return tls_channel_flush(a->channel, error);
}

static void step(GTask *task);

static gboolean on_ready(gint fd, GIOCondition condition, gpointer data)
{
    g_autoptr(GTask) task = g_object_ref(data);

    step(task);
    return G_SOURCE_REMOVE;
}

static void wait_ready(GTask *task)
{
    Accept *a = g_task_get_task_data(task);
    short events = tls_channel_poll_events(a->channel, !a->handshaken, a->confirmed);
    GIOCondition condition = (events & POLLIN ? G_IO_IN : 0) | (events & POLLOUT ? G_IO_OUT : 0);

    drop_source(&a->watch);
    a->watch = add_source(task,
                          g_unix_fd_source_new(tls_channel_fd(a->channel),
                                               condition | G_IO_HUP | G_IO_ERR),
                          G_SOURCE_FUNC(on_ready));
}

static void step(GTask *task)
{
    GError *error = NULL;

    if (advance(g_task_get_task_data(task), &error)) {
        finish(task, NULL);
    } else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        g_error_free(error);
        wait_ready(task);
    } else {
        finish(task, error);
    }
}

static gboolean on_deadline(gpointer data)
{
    g_autoptr(GTask) task = g_object_ref(data);
    Accept *a = g_task_get_task_data(task);

    finish(task, g_error_new(G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                             _("the TLS handshake was not done in %1$u seconds"), a->timeout));
    return G_SOURCE_REMOVE;
}

static gboolean on_cancelled(GCancellable *cancellable, gpointer data)
{
    g_autoptr(GTask) task = g_object_ref(data);

    finish(task, g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, _("the daemon stops")));
    return G_SOURCE_REMOVE;
}

void tls_accept(int fd, TlsCredentials *creds, const char *const *allowed_dns, guint timeout,
                GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
    TlsChannelConfig config = { .endpoint = TLS_ENDPOINT_SERVER, .allowed_dns = allowed_dns };
    GError *error = NULL;
    Accept *a = g_new0(Accept, 1);

    g_task_set_task_data(task, a, accept_free);
    a->timeout = timeout;
    a->channel = tls_channel_new(fd, creds, &config, &error);
    if (!a->channel) {
        g_task_return_error(task, error);
        return;
    }
    a->deadline = add_source(task, g_timeout_source_new_seconds(timeout), on_deadline);
    if (cancellable)
        a->cancelled = add_source(task, g_cancellable_source_new(cancellable),
                                  G_SOURCE_FUNC(on_cancelled));
    step(task);
}

TlsChannel *tls_accept_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
