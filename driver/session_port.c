/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/session_port.h"

#include <glib/gi18n.h>
#include <string.h>

#include "driver/connection_fd.h"
#include "driver/job_record.h"
#include "driver/session_dial.h"
#include "driver/session_preamble.h"
#include "util/autofd.h"
#include "util/log.h"

/* Connections that have not said yet what they are for. */
#define PENDING_MAX 64
#define PREAMBLE_TIMEOUT_S 10

struct SessionPort {
    MigrationSet *set;
    SessionPortFunc func;
    gpointer data;
    GSocketListener *listener;
    GCancellable *stopped;
    guint pending;
    guint pause; /* timer, after accept failed */
};

typedef struct {
    SessionPort *port; /* valid while its cancellable is not cancelled */
    GCancellable *stopped;
    GSocketConnection *connection;
    char *address;
    guint8 preamble[SESSION_PREAMBLE_LEN];
    guint8 answer;
    SessionPurpose purpose;
    Migration *migration; /* or NULL */
} Caller;

static void caller_free(Caller *caller)
{
    if (!g_cancellable_is_cancelled(caller->stopped))
        caller->port->pending--;
    g_object_unref(caller->stopped);
    g_object_unref(caller->connection);
    migration_unref(caller->migration);
    g_free(caller->address);
    g_free(caller);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Caller, caller_free)

static const guint8 *session_of(const Caller *caller)
{
    return caller->preamble + SESSION_PREAMBLE_MAGIC_LEN;
}

static char *peer_address(GSocketConnection *connection)
{
    g_autoptr(GSocketAddress) address =
        g_socket_connection_get_remote_address(connection, NULL);

    return address ? g_socket_connectable_to_string(G_SOCKET_CONNECTABLE(address))
                   : g_strdup("?");
}

static void on_answered(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Caller) caller = data;
    g_autoptr(GError) error = NULL;
    autofd fd = -1;

    if (!g_output_stream_write_all_finish(G_OUTPUT_STREAM(source), result, NULL, &error)) {
        log_info(NULL, "migration port: %s: %s", caller->address, error->message);
        return;
    }
    if (caller->answer != SESSION_ANSWER_GO || g_cancellable_is_cancelled(caller->stopped))
        return;
    fd = connection_dup_fd(caller->connection);
    if (fd < 0) {
        log_error(NULL, "migration port: %s: %m", caller->address);
        return;
    }
    session_socket_tune(fd, migration_set_settings(caller->port->set), caller->purpose);
    if (caller->purpose == SESSION_FOR_CHANNEL)
        migration_accept_peer(caller->migration, autofd_steal(&fd), caller->address);
    else
        caller->port->func(autofd_steal(&fd), caller->purpose, caller->address,
                           session_of(caller), caller->port->data);
}

static gboolean read_magic(Caller *caller)
{
    static const struct {
        const char *magic;
        SessionPurpose purpose;
    } rows[] = {
        { SESSION_PREAMBLE_MAGIC, SESSION_FOR_CHANNEL },
        { SESSION_PREAMBLE_MAGIC_RPC, SESSION_FOR_RPC },
        { SESSION_PREAMBLE_MAGIC_CHECK, SESSION_FOR_CHECK },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (memcmp(caller->preamble, rows[i].magic, SESSION_PREAMBLE_MAGIC_LEN) == 0) {
            caller->purpose = rows[i].purpose;
            return TRUE;
        }
    }
    return FALSE;
}

/* The address of this host's that it has called. */
static char *called_address(const Caller *caller)
{
    g_autoptr(GSocketAddress) address =
        g_socket_connection_get_local_address(caller->connection, NULL);

    return address ? g_inet_address_to_string(
                         g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(address)))
                   : g_strdup("?");
}

static void log_elsewhere(const Caller *caller, const char *called)
{
    log_warning(NULL,
                "migration port: %s asked at %s for a session that comes in at another address "
                "alone (--listen-address)",
                caller->address, called);
}

/* A session that is called at the wrong address lives: its host may have a name of several
 * addresses, and the caller is to try again, not to give it up. */
static SessionAnswer find_migration(Caller *caller)
{
    Migration *migration = migration_set_lookup(caller->port->set, session_of(caller));
    g_autofree char *called = called_address(caller);

    if (!migration)
        return SESSION_ANSWER_UNKNOWN;
    if (!migration_listens_at(migration, called)) {
        log_elsewhere(caller, called);
        return SESSION_ANSWER_BUSY;
    }
    /* Its helper is only being taken over: a moment later it can be had. */
    if (!migration_is_reachable(migration))
        return SESSION_ANSWER_BUSY;
    caller->migration = migration_ref(migration);
    return SESSION_ANSWER_GO;
}

static SessionAnswer find_record(const Caller *caller)
{
    const JobRecord *record = migration_set_find_record(
        caller->port->set, MIGRATION_SIDE_DESTINATION, session_of(caller));
    g_autofree char *called = called_address(caller);

    if (!record)
        return SESSION_ANSWER_UNKNOWN;
    if (job_record_listens_at(record, called))
        return SESSION_ANSWER_GO;
    log_elsewhere(caller, called);
    return SESSION_ANSWER_BUSY;
}

static SessionAnswer find_target(Caller *caller)
{
    switch (caller->purpose) {
    case SESSION_FOR_RPC:
        return find_record(caller);
    case SESSION_FOR_CHECK:
        return SESSION_ANSWER_GO;
    default:
        return find_migration(caller);
    }
}

/* Whom the preamble means; the answer says it to the caller. */
static void route(Caller *caller)
{
    SessionAnswer answer = find_target(caller);

    if (answer == SESSION_ANSWER_UNKNOWN)
        log_warning(NULL, "migration port: %s asked for a session that is not here",
                    caller->address);
    caller->answer = (guint8)answer;
}

static void answer(Caller *caller)
{
    GOutputStream *out = g_io_stream_get_output_stream(G_IO_STREAM(caller->connection));

    g_output_stream_write_all_async(out, &caller->answer, 1, G_PRIORITY_DEFAULT, caller->stopped,
                                    on_answered, caller);
}

static void on_preamble(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Caller) caller = data;
    g_autoptr(GError) error = NULL;
    gsize n = 0;

    if (!g_input_stream_read_all_finish(G_INPUT_STREAM(source), result, &n, &error)) {
        log_warning(NULL, "migration port: %s said nothing to the point: %s", caller->address,
                    error->message);
        return;
    }
    if (n < sizeof caller->preamble || !read_magic(caller)) {
        log_warning(NULL,
                    "migration port: %s does not speak this protocol (its first %zu bytes are no "
                    "preamble)",
                    caller->address, n);
        return;
    }
    route(caller);
    answer(g_steal_pointer(&caller));
}

static void take_caller(SessionPort *port, GSocketConnection *connection)
{
    g_autoptr(Caller) caller = g_new0(Caller, 1);
    GInputStream *in;

    port->pending++;
    caller->port = port;
    caller->stopped = g_object_ref(port->stopped);
    caller->connection = g_object_ref(connection);
    caller->address = peer_address(connection);
    g_socket_set_timeout(g_socket_connection_get_socket(connection), PREAMBLE_TIMEOUT_S);
    if (port->pending > PENDING_MAX) {
        log_warning(NULL, "migration port: %s refused: %d connections are being set up",
                    caller->address, PENDING_MAX);
        caller->answer = SESSION_ANSWER_BUSY;
        answer(g_steal_pointer(&caller));
        return;
    }
    in = g_io_stream_get_input_stream(G_IO_STREAM(connection));
    g_input_stream_read_all_async(in, caller->preamble, sizeof caller->preamble,
                                  G_PRIORITY_DEFAULT, port->stopped, on_preamble, caller);
    g_steal_pointer(&caller);
}

static void accept_next(SessionPort *port);

static gboolean on_accept_pause_over(gpointer data)
{
    SessionPort *port = data;

    port->pause = 0;
    accept_next(port);
    return G_SOURCE_REMOVE;
}

static void on_accepted(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_listener_accept_finish(G_SOCKET_LISTENER(source), result, NULL, &error);
    SessionPort *port = data;

    /* Cancelled: the port is gone, so not to be looked at. */
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return;
    if (connection) {
        take_caller(port, connection);
        accept_next(port);
        return;
    }
    /* Out of descriptors, most likely: trying again at once would only spin. */
    log_error(NULL, "migration port: %s", error->message);
    port->pause = g_timeout_add_seconds(1, on_accept_pause_over, port);
}

static void accept_next(SessionPort *port)
{
    g_socket_listener_accept_async(port->listener, port->stopped, on_accepted, port);
}

SessionPort *session_port_new(MigrationSet *set, SessionPortFunc func, gpointer data,
                              GError **error)
{
    const Settings *settings = migration_set_settings(set);
    g_autoptr(GSocketListener) listener = g_socket_listener_new();
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new_from_string(
        settings->migration_address, settings->migration_port);
    SessionPort *port;

    if (!address) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("migration_address \"%s\" is not an IP address"),
                    settings->migration_address);
        return NULL;
    }
    if (!g_socket_listener_add_address(listener, address, G_SOCKET_TYPE_STREAM,
                                       G_SOCKET_PROTOCOL_TCP, NULL, NULL, error)) {
        g_prefix_error(error, _("cannot listen on %s, port %u, for migrations (migration_address, "
                                "migration_port): "),
                       settings->migration_address, settings->migration_port);
        return NULL;
    }
    port = g_new0(SessionPort, 1);
    port->set = set;
    port->func = func;
    port->data = data;
    port->listener = g_steal_pointer(&listener);
    port->stopped = g_cancellable_new();
    accept_next(port);
    return port;
}

void session_port_free(SessionPort *port)
{
    if (!port)
        return;
    if (port->pause)
        g_source_remove(port->pause);
    g_cancellable_cancel(port->stopped);
    g_socket_listener_close(port->listener);
    g_object_unref(port->listener);
    g_object_unref(port->stopped);
    g_free(port);
}
