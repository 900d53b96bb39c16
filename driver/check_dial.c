/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/check_dial.h"

#include <string.h>

#include "driver/recovery_tls.h"
#include "driver/session_dial.h"
#include "driver/tls_steps.h"

/* The task's data; and that of the steps, which end before it. */
typedef struct {
    const Settings *settings;
    char *host;
    gboolean handshaken;
    char answer[CHECK_ANSWER_MAX + 1];
    gsize received;
} Dial;

static void dial_free(gpointer data)
{
    Dial *dial = data;

    g_free(dial->host);
    g_free(dial);
}

/* Up to the end that the other side makes. */
static gboolean listen_to(TlsChannel *channel, gpointer data, GError **error)
{
    Dial *dial = data;

    if (!dial->handshaken && !tls_channel_handshake(channel, error))
        return FALSE;
    dial->handshaken = TRUE;
    while (dial->received < sizeof dial->answer) {
        gssize n = tls_channel_read(channel, dial->answer + dial->received,
                                    sizeof dial->answer - dial->received, error);

        if (n <= 0)
            return n == 0;
        dial->received += (gsize)n;
    }
    return TRUE; /* too long, which the decoder will say */
}

static void answer_free(gpointer data)
{
    check_answer_clear(data);
    g_free(data);
}

static CheckAnswer *keep_answer(const CheckAnswer *answer)
{
    CheckAnswer *kept = g_new(CheckAnswer, 1);

    *kept = *answer;
    return kept;
}

static void on_listened(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Dial *dial = g_task_get_task_data(task);
    GError *error = NULL;
    g_autoptr(TlsChannel) channel = tls_steps_finish(result, &error);
    CheckAnswer answer;

    if (channel && check_answer_decode(dial->answer, dial->received, &answer, &error))
        g_task_return_pointer(task, keep_answer(&answer), answer_free);
    else
        g_task_return_error(task, error);
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
        g_task_return_error(task, error);
        return;
    }
    channel = recovery_channel_new(settings, TLS_ENDPOINT_CLIENT, fd, dial->host,
                                   CHECK_ALPN, &error);
    if (channel)
        tls_steps(channel, listen_to, dial, NULL, settings->connect_timeout, NULL, on_listened,
                  g_steal_pointer(&task));
    else
        g_task_return_error(task, error);
}

void check_dial(const Settings *settings, const char *host, guint16 port,
                GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, NULL, callback, data);
    Dial *dial = g_new0(Dial, 1);
    MigrationUri uri = { .host = (char *)host, .port = port };

    dial->settings = settings;
    dial->host = g_strdup(host);
    g_task_set_task_data(task, dial, dial_free);
    session_dial(settings, &uri, SESSION_FOR_CHECK, on_connected, task);
}

gboolean check_dial_finish(GAsyncResult *result, CheckAnswer *ret_answer, GError **error)
{
    g_autofree CheckAnswer *answer = g_task_propagate_pointer(G_TASK(result), error);

    if (!answer)
        return FALSE;
    *ret_answer = *answer; /* and its text */
    return TRUE;
}
