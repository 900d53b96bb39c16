/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/control.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/autofd.h"
#include "util/log.h"

/* For a client that has connected to authenticate. */
#define AUTH_TIMEOUT_S 10
/* As many at one time; each has a thread that waits for it. */
#define CLIENTS_MAX 8
/* After an accept() that failed: descriptors may be short. */
#define ACCEPT_PAUSE_S 1
/* A daemon that does not read any more must not keep the helper for ever. */
#define FLUSH_TIMEOUT_S 5

struct Control {
    Job *job;
    GDBusConnection *connection; /* NULL: there is no daemon */
    int listener;                /* borrowed, or -1 */
    uid_t owner;
    guint accept_source; /* waits for a client, or for the end of a pause; 0: none */
    GPtrArray *clients;  /* of Client, the oldest first: they authenticate */
    gboolean flushing;
    GSourceFunc flushed; /* NULL: not asked for, or told */
    gpointer flushed_data;
    guint flush_timer;
};

/* Owned by its own callback, on_authenticated(). */
typedef struct {
    Control *control; /* NULL: it is gone */
    GCancellable *cancellable;
    guint timer;
} Client;

/* ---- the daemon ---- */

static GDBusConnectionFlags connection_flags(void)
{
    return G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
           G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING;
}

/* Takes fd. */
static GIOStream *stream_for(int fd, GError **error)
{
    autofd owned = fd;
    g_autoptr(GSocket) socket = g_socket_new_from_fd(owned, error);

    if (!socket)
        return NULL;
    autofd_steal(&owned);
    return G_IO_STREAM(g_socket_connection_factory_create_connection(socket));
}

GDBusConnection *control_connect(int fd, GError **error)
{
    g_autoptr(GIOStream) stream = stream_for(fd, error);

    if (!stream)
        return NULL;
    return g_dbus_connection_new_sync(stream, NULL, connection_flags(), NULL, NULL, error);
}

/* What it is told from here on is nobody's. */
static void leave_daemon(Control *control)
{
    if (!control->connection)
        return;
    g_signal_handlers_disconnect_by_data(control->connection, control);
    g_clear_object(&control->connection);
}

static void on_closed(GDBusConnection *connection, gboolean vanished, GError *error,
                      Control *control)
{
    leave_daemon(control);
    job_set_connection(control->job, NULL, NULL);
    job_give_up(control->job, _("the daemon has gone"));
}

static gboolean serve(Control *control, GDBusConnection *connection, GError **error)
{
    g_autoptr(GDBusConnection) before = NULL;

    if (!job_set_connection(control->job, connection, error))
        return FALSE;
    g_set_object(&before, control->connection);
    leave_daemon(control);
    if (before)
        g_dbus_connection_close(before, NULL, NULL, NULL);

    control->connection = g_object_ref(connection);
    g_dbus_connection_set_exit_on_close(connection, FALSE);
    g_signal_connect(connection, "closed", G_CALLBACK(on_closed), control);
    g_dbus_connection_start_message_processing(connection);
    return TRUE;
}

/* ---- those who come later ---- */

static void client_free(Client *client)
{
    if (client->timer)
        g_source_remove(client->timer);
    g_object_unref(client->cancellable);
    g_free(client);
}

static gboolean on_client_timeout(gpointer data)
{
    Client *client = data;

    client->timer = 0;
    g_cancellable_cancel(client->cancellable);
    return G_SOURCE_REMOVE;
}

static void on_authenticated(GObject *source, GAsyncResult *result, gpointer data)
{
    Client *client = data;
    Control *control = client->control;
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) connection = g_dbus_connection_new_finish(result, &error);

    if (control)
        g_ptr_array_remove(control->clients, client);
    client_free(client);
    if (!control)
        return;
    if (!connection || !serve(control, connection, &error)) {
        log_warning(NULL, "a connection that could be the daemon's: %s", error->message);
        return;
    }
    log_info(NULL, "a daemon has connected");
    /* It may have ended, and said so, before anybody listened. */
    if (g_dbus_connection_is_closed(connection))
        on_closed(connection, TRUE, NULL, control);
}

static gboolean is_allowed(const Control *control, int fd)
{
    struct ucred peer = { 0 };
    socklen_t len = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || len != sizeof peer) {
        log_warning(NULL, "whose connection this is cannot be told: closed");
        return FALSE;
    }
    if (peer.uid == 0 || peer.uid == control->owner)
        return TRUE;
    log_warning(NULL, "a connection of user %u, who is not the daemon's: closed", peer.uid);
    return FALSE;
}

/* Takes fd. */
static void take_client(Control *control, int fd)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GIOStream) stream = NULL;
    autofd owned = fd;
    Client *client;

    if (!is_allowed(control, owned))
        return;
    stream = stream_for(autofd_steal(&owned), &error);
    if (!stream) {
        log_warning(NULL, "a connection that could be the daemon's: %s", error->message);
        return;
    }
    /* Those who say nothing keep nobody out. */
    if (control->clients->len >= CLIENTS_MAX)
        g_cancellable_cancel(((Client *)control->clients->pdata[0])->cancellable);

    client = g_new0(Client, 1);
    client->control = control;
    client->cancellable = g_cancellable_new();
    client->timer = g_timeout_add_seconds(AUTH_TIMEOUT_S, on_client_timeout, client);
    g_ptr_array_add(control->clients, client);
    g_dbus_connection_new(stream, NULL, connection_flags(), NULL, client->cancellable,
                          on_authenticated, client);
}

static gboolean on_listener(gint fd, GIOCondition condition, gpointer data);

static gboolean on_pause_end(gpointer data)
{
    Control *control = data;

    control->accept_source = g_unix_fd_add(control->listener, G_IO_IN, on_listener, control);
    return G_SOURCE_REMOVE;
}

static gboolean on_listener(gint fd, GIOCondition condition, gpointer data)
{
    Control *control = data;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (client >= 0) {
        take_client(control, client);
        return G_SOURCE_CONTINUE;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
        return G_SOURCE_CONTINUE;
    log_warning(NULL, "a connection to the helper's socket: %s", g_strerror(errno));
    control->accept_source = g_timeout_add_seconds(ACCEPT_PAUSE_S, on_pause_end, control);
    return G_SOURCE_REMOVE;
}

static gboolean is_listener(int fd)
{
    const struct {
        int option;
        int value;
    } wanted[] = {
        { SO_DOMAIN, AF_UNIX }, { SO_TYPE, SOCK_STREAM }, { SO_ACCEPTCONN, 1 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(wanted); i++) {
        socklen_t len = sizeof(int);
        int value = -1;

        if (getsockopt(fd, SOL_SOCKET, wanted[i].option, &value, &len) < 0 ||
            value != wanted[i].value)
            return FALSE;
    }
    return TRUE;
}

gboolean control_check_listener(int fd, GError **error)
{
    if (is_listener(fd))
        return TRUE;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("descriptor %d (--listen-fd) is no unix stream socket that listens"), fd);
    return FALSE;
}

gboolean control_own_listener(int fd, GError **error)
{
    /* Whose socket it is, to those who connect, is a matter of the last listen(). */
    if (listen(fd, CLIENTS_MAX) < 0) {
        int err = errno;

        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(err),
                    _("descriptor %d (--listen-fd): %s"), fd, g_strerror(err));
        return FALSE;
    }
    return g_unix_set_fd_nonblocking(fd, TRUE, error);
}

void control_listen(Control *control, int fd, uid_t owner)
{
    control->listener = fd;
    control->owner = owner;
    control->accept_source = g_unix_fd_add(fd, G_IO_IN, on_listener, control);
}

/* ---- life ---- */

Control *control_new(Job *job, GDBusConnection *first, GError **error)
{
    g_autoptr(Control) control = g_new0(Control, 1);

    control->job = job;
    control->listener = -1;
    control->clients = g_ptr_array_new();
    return serve(control, first, error) ? g_steal_pointer(&control) : NULL;
}

void control_free(Control *control)
{
    if (!control)
        return;
    if (control->accept_source)
        g_source_remove(control->accept_source);
    if (control->flush_timer)
        g_source_remove(control->flush_timer);
    for (guint i = 0; i < control->clients->len; i++) {
        Client *client = control->clients->pdata[i];

        client->control = NULL;
        g_cancellable_cancel(client->cancellable);
    }
    g_ptr_array_unref(control->clients);
    leave_daemon(control);
    g_free(control);
}

/* ---- the end ---- */

static void tell_flushed(Control *control)
{
    GSourceFunc done = g_steal_pointer(&control->flushed);

    if (done)
        done(control->flushed_data);
}

static void on_flushed(GObject *connection, GAsyncResult *result, gpointer data)
{
    /* A daemon that is gone cannot be told: nothing to do about it. */
    g_dbus_connection_flush_finish(G_DBUS_CONNECTION(connection), result, NULL);
    tell_flushed(data);
}

static gboolean on_flush_timeout(gpointer data)
{
    Control *control = data;

    control->flush_timer = 0;
    if (control->connection && control->flushed)
        log_warning(NULL, "the daemon does not read, ending without it");
    tell_flushed(control);
    return G_SOURCE_REMOVE;
}

void control_flush(Control *control, GSourceFunc done, gpointer data)
{
    if (control->flushing)
        return;
    control->flushing = TRUE;
    control->flushed = done;
    control->flushed_data = data;
    if (control->connection) {
        control->flush_timer =
            g_timeout_add_seconds(FLUSH_TIMEOUT_S, on_flush_timeout, control);
        g_dbus_connection_flush(control->connection, NULL, on_flushed, control);
    } else {
        control->flush_timer = g_idle_add(on_flush_timeout, control);
    }
}
