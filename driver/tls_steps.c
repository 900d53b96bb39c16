/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/tls_steps.h"

#include <glib-unix.h>
#include <glib/gi18n.h>
#include <poll.h>

/* The task's data. Each source holds a reference to the task; whatever ends the task drops them. */
typedef struct {
    TlsChannel *channel;
    TlsStepsFunc func;
    gpointer data;
    GDestroyNotify destroy;
    guint timeout;
    GSource *watch;
    GSource *deadline;
    GSource *cancelled;
} Steps;

static void drop_source(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

static void steps_free(gpointer data)
{
    Steps *steps = data;

    g_clear_pointer(&steps->channel, tls_channel_free);
    if (steps->destroy)
        steps->destroy(steps->data);
    g_free(steps);
}

static void finish(GTask *task, GError *error)
{
    Steps *steps = g_task_get_task_data(task);

    drop_source(&steps->watch);
    drop_source(&steps->deadline);
    drop_source(&steps->cancelled);
    if (error)
        g_task_return_error(task, error);
    else
        g_task_return_pointer(task, g_steal_pointer(&steps->channel),
                              (GDestroyNotify)tls_channel_free);
}

static GSource *add_source(GTask *task, GSource *source, GSourceFunc func)
{
    g_source_set_callback(source, func, g_object_ref(task), g_object_unref);
    g_source_attach(source, NULL);
    return source;
}

static void step(GTask *task);

static gboolean on_ready(gint fd, GIOCondition condition, gpointer data)
{
    g_autoptr(GTask) task = g_object_ref(data);

    step(task);
    return G_SOURCE_REMOVE;
}

/* A peer that talks on while our words are still on their way is not read meanwhile. */
static void wait_ready(GTask *task)
{
    Steps *steps = g_task_get_task_data(task);
    gboolean want_read = tls_channel_unsent(steps->channel) == 0;
    short events = tls_channel_poll_events(steps->channel, want_read, FALSE);
    GIOCondition condition = (events & POLLIN ? G_IO_IN : 0) | (events & POLLOUT ? G_IO_OUT : 0);

    drop_source(&steps->watch);
    steps->watch = add_source(task,
                              g_unix_fd_source_new(tls_channel_fd(steps->channel),
                                                   condition | G_IO_HUP | G_IO_ERR),
                              G_SOURCE_FUNC(on_ready));
}

static void step(GTask *task)
{
    Steps *steps = g_task_get_task_data(task);
    GError *error = NULL;

    if (steps->func(steps->channel, steps->data, &error)) {
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
    Steps *steps = g_task_get_task_data(task);

    finish(task, g_error_new(G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                             _("the TLS handshake was not done in %1$u seconds"), steps->timeout));
    return G_SOURCE_REMOVE;
}

static gboolean on_cancelled(GCancellable *cancellable, gpointer data)
{
    g_autoptr(GTask) task = g_object_ref(data);

    finish(task, g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, _("the daemon stops")));
    return G_SOURCE_REMOVE;
}

void tls_steps(TlsChannel *channel, TlsStepsFunc func, gpointer data, GDestroyNotify destroy,
               guint timeout_seconds, GCancellable *cancellable, GAsyncReadyCallback callback,
               gpointer callback_data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, callback_data);
    Steps *steps = g_new0(Steps, 1);

    *steps = (Steps){ .channel = channel,
                      .func = func,
                      .data = data,
                      .destroy = destroy,
                      .timeout = timeout_seconds };
    g_task_set_task_data(task, steps, steps_free);
    steps->deadline =
        add_source(task, g_timeout_source_new_seconds(timeout_seconds), on_deadline);
    if (cancellable)
        steps->cancelled = add_source(task, g_cancellable_source_new(cancellable),
                                      G_SOURCE_FUNC(on_cancelled));
    step(task);
}

TlsChannel *tls_steps_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
