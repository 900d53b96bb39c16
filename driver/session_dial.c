/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/session_dial.h"

#include <glib/gi18n.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "driver/connection_fd.h"
#include "driver/session_preamble.h"
#include "util/log.h"

G_DEFINE_QUARK(session-dial-error-quark, session_dial_error)

typedef struct {
    const Settings *settings;
    SessionPurpose purpose;
    char *peer; /* "host port 16515", for messages */
    GCancellable *late; /* cancelled at the deadline, which is of the whole way */
    guint deadline;
    GSocketConnection *connection;
    guint8 preamble[SESSION_PREAMBLE_LEN];
    guint8 answer;
} Dial;

static void dial_free(gpointer data)
{
    Dial *dial = data;

    g_clear_handle_id(&dial->deadline, g_source_remove);
    g_clear_object(&dial->late);
    g_clear_object(&dial->connection);
    g_free(dial->peer);
    g_free(dial);
}

static void set_option(int fd, int level, int name, int value, const char *what)
{
    if (setsockopt(fd, level, name, &value, sizeof value) < 0)
        log_warning(NULL, "cannot set %s on a session's socket: %m", what);
}

/* Of the kernel's. */
#define KEEPALIVES_MAX 127

/* RPC cannot go on over another connection, so this one is waited for as long as a lost channel would
 * be. */
static int keepalives(const Settings *settings, SessionPurpose purpose)
{
    int count = (int)settings->keepalive_count;
    int wanted = (int)(settings->reconnect_timeout / settings->keepalive_interval);

    if (purpose != SESSION_FOR_RPC)
        return count;
    return settings->reconnect_timeout == 0 ? KEEPALIVES_MAX : CLAMP(wanted, count, KEEPALIVES_MAX);
}

void session_socket_tune(int fd, const Settings *settings, SessionPurpose purpose)
{
    int interval = (int)settings->keepalive_interval;
    int count = keepalives(settings, purpose);

    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    if (interval <= 0 || count <= 0)
        return;
    /* Keep-alive probes find a silent peer, the user time-out one that takes no data. */
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, interval, "TCP_KEEPIDLE");
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval, "TCP_KEEPINTVL");
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, count, "TCP_KEEPCNT");
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, interval * count * 1000, "TCP_USER_TIMEOUT");
}

static void fail_text(GTask *task, SessionDialError code, const char *text)
{
    Dial *dial = g_task_get_task_data(task);

    g_task_return_new_error(task, SESSION_DIAL_ERROR, (gint)code,
                            _("cannot reach the destination's migration port at %s: %s"),
                            dial->peer, text);
}

static void fail(GTask *task, GError *cause)
{
    Dial *dial = g_task_get_task_data(task);
    g_autoptr(GError) owned = cause;

    if (g_error_matches(owned, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        g_autofree char *text =
            g_strdup_printf(_("no answer within %u seconds"), dial->settings->connect_timeout);

        fail_text(task, SESSION_DIAL_ERROR_FAILED, text);
    } else {
        fail_text(task, SESSION_DIAL_ERROR_FAILED, owned->message);
    }
}

static gboolean on_deadline(gpointer data)
{
    Dial *dial = data;

    dial->deadline = 0;
    g_cancellable_cancel(dial->late);
    return G_SOURCE_REMOVE;
}

static void on_answer(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Dial *dial = g_task_get_task_data(task);
    GError *error = NULL;
    gssize n = g_input_stream_read_finish(G_INPUT_STREAM(source), result, &error);

    if (n < 0) {
        fail(task, error);
    } else if (n == 0) {
        fail_text(task, SESSION_DIAL_ERROR_FAILED,
                  _("it closed the connection; is virtpostcopyd listening there?"));
    } else if (dial->answer == SESSION_ANSWER_UNKNOWN) {
        fail_text(task, SESSION_DIAL_ERROR_UNKNOWN,
                  _("it does not know this session; the migration was ended there, or its "
                    "token has been used before"));
    } else if (dial->answer == SESSION_ANSWER_BUSY) {
        fail_text(task, SESSION_DIAL_ERROR_FAILED,
                  _("it does not take this connection now: it is too busy, or the session comes in "
                    "at another of its addresses alone (--listen-address)"));
    } else if (dial->answer != SESSION_ANSWER_GO) {
        fail_text(task, SESSION_DIAL_ERROR_FAILED, _("what answers there is not virtpostcopyd"));
    } else {
        int fd = connection_dup_fd(dial->connection);

        if (fd >= 0)
            session_socket_tune(fd, dial->settings, dial->purpose);
        g_task_return_int(task, fd);
    }
}

static void on_preamble_sent(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Dial *dial = g_task_get_task_data(task);
    GInputStream *in = g_io_stream_get_input_stream(G_IO_STREAM(dial->connection));
    GError *error = NULL;

    if (!g_output_stream_write_all_finish(G_OUTPUT_STREAM(source), result, NULL, &error)) {
        fail(task, error);
        return;
    }
    g_input_stream_read_async(in, &dial->answer, 1, G_PRIORITY_DEFAULT, dial->late, on_answer,
                              g_steal_pointer(&task));
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Dial *dial = g_task_get_task_data(task);
    GOutputStream *out;
    GError *error = NULL;

    dial->connection =
        g_socket_client_connect_to_host_finish(G_SOCKET_CLIENT(source), result, &error);
    if (!dial->connection) {
        fail(task, error);
        return;
    }
    out = g_io_stream_get_output_stream(G_IO_STREAM(dial->connection));
    g_output_stream_write_all_async(out, dial->preamble, sizeof dial->preamble, G_PRIORITY_DEFAULT,
                                    dial->late, on_preamble_sent, g_steal_pointer(&task));
}

static const char *const magics[] = {
    [SESSION_FOR_CHANNEL] = SESSION_PREAMBLE_MAGIC,
    [SESSION_FOR_RPC] = SESSION_PREAMBLE_MAGIC_RPC,
    [SESSION_FOR_CHECK] = SESSION_PREAMBLE_MAGIC_CHECK,
};

void session_dial(const Settings *settings, const MigrationUri *uri, SessionPurpose purpose,
                  GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
    g_autoptr(GSocketClient) client = g_socket_client_new();
    Dial *dial = g_new0(Dial, 1);

    dial->settings = settings;
    dial->purpose = purpose;
    dial->peer = g_strdup_printf(_("%s port %u"), uri->host, uri->port);
    dial->late = g_cancellable_new();
    dial->deadline = g_timeout_add_seconds(settings->connect_timeout, on_deadline, dial);
    memcpy(dial->preamble, magics[purpose], SESSION_PREAMBLE_MAGIC_LEN);
    memcpy(dial->preamble + SESSION_PREAMBLE_MAGIC_LEN, uri->session, MIGRATION_SESSION_LEN);
    g_task_set_task_data(task, dial, dial_free);
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_connect_to_host_async(client, uri->host, uri->port, dial->late, on_connected,
                                          g_steal_pointer(&task));
}

int session_dial_finish(GAsyncResult *result, GError **error)
{
    g_autoptr(GError) inner = NULL;
    gssize fd = g_task_propagate_int(G_TASK(result), &inner);

    if (inner) {
        g_propagate_error(error, g_steal_pointer(&inner));
        return -1;
    }
    if (fd < 0)
        g_set_error(error, SESSION_DIAL_ERROR, SESSION_DIAL_ERROR_FAILED,
                    _("out of file descriptors"));
    return (int)fd;
}
