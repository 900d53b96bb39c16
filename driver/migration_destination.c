/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration on the host that the guest comes to. */
#include "config.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gi18n.h>
#include <gnutls/crypto.h>

#include "driver/connection_fd.h"
#include "driver/migration.h"
#include "driver/migration_priv.h"
#include "driver/run_dir.h"
#include "util/autofd.h"

/* The whole id, which is no secret, for whoever has to tell connections apart in a capture. */
static void log_session(const Migration *migration)
{
    const JobRecord *record = migration->record;
    g_autofree char *session = migration_session_text(migration);

    log_debug(&migration->log, "session=%s domain=%s", session, record->domain);
}

Migration *migration_new_destination(MigrationSet *set, const char *domain, const QemuOwner *owner,
                                     gboolean recovers, GError **error)
{
    JobRecord *record = job_record_new();
    g_autoptr(Migration) migration = NULL;

    record->side = MIGRATION_SIDE_DESTINATION;
    record->domain = g_strdup(domain);
    record->recovers = recovers;
    record->uri.host = g_strdup(set->host_name);
    record->uri.port = set->settings->migration_port;
    if (gnutls_rnd(GNUTLS_RND_NONCE, record->uri.session, MIGRATION_SESSION_LEN) < 0 ||
        gnutls_rnd(GNUTLS_RND_KEY, record->uri.token, MIGRATION_TOKEN_LEN) < 0)
        g_error("no random numbers");
    migration = migration_alloc(set, record);
    log_session(migration);
    record->socket_path = run_dir_make_for_qemu(set->run_dir, owner, error);
    return record->socket_path ? g_steal_pointer(&migration) : NULL;
}

void migration_set_place(Migration *migration, const SessionPlace *place)
{
    JobRecord *record = migration->record;

    if (place->host) {
        g_free(record->uri.host);
        record->uri.host = g_strdup(place->host);
    }
    if (place->port)
        record->uri.port = place->port;
    g_free(record->listen_address);
    record->listen_address = g_strdup(place->listen_address);
}

gboolean migration_listens_at(const Migration *migration, const char *address)
{
    return job_record_listens_at(migration->record, address);
}

char *migration_qemu_uri(const Migration *migration)
{
    return g_strdup_printf("unix://%s", migration->record->socket_path);
}

static void on_helper_started(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;

    if (!migration_start_helper_finish(migration, result, &error)) {
        migration_cancel(migration, error->message);
        g_task_return_error(task, error);
        return;
    }
    migration_tell_placed(migration);
    log_info(&migration->log, "waiting for the source of domain %s", migration_domain(migration));
    g_task_return_boolean(task, TRUE);
}

void migration_prepare(Migration *migration, GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, NULL, callback, data);

    g_task_set_task_data(task, migration_ref(migration), (GDestroyNotify)migration_unref);
    migration_start_helper(migration, on_helper_started, task);
}

void migration_accept_peer(Migration *migration, int fd, const char *address)
{
    log_info(&migration->log, "connection from %s", address);
    helper_process_accept_peer(migration->helper, fd, address);
}

/* ---- the connections to the destination QEMU: its stream, later its preempt connection ---- */

/* The helper decides what that means for the migration. */
static void refuse_qemu(Migration *migration, const char *why)
{
    g_autofree char *reason =
        migration->record->qemu_connections == 0
            ? g_strdup_printf(_("cannot connect to the destination QEMU: %s"), why)
            : g_strdup_printf(_("cannot make the destination QEMU's preempt connection: %s"), why);

    log_error(&migration->log, "%s", reason);
    helper_process_refuse_qemu(migration->helper, reason);
}

static void on_connected_to_qemu(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Migration) migration = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_finish(G_SOCKET_CLIENT(source), result, &error);
    autofd fd = -1;

    if (migration->ended)
        return;
    if (connection)
        fd = connection_dup_fd(connection);
    if (fd >= 0 && !run_dir_check_server(fd, migration->record->socket_path, &error))
        autofd_clear(&fd);
    if (fd < 0) {
        refuse_qemu(migration, error ? error->message : _("out of file descriptors"));
        return;
    }
    log_info(&migration->log, "connected to the destination QEMU%s",
             migration->record->qemu_connections == 0 ? "" : " again, for its preempt channel");
    helper_process_attach_qemu(migration->helper, autofd_steal(&fd));
    migration_count_connection(migration);
}

void migration_attach_qemu(Migration *migration)
{
    g_autoptr(GSocketClient) client = NULL;
    g_autoptr(GSocketAddress) address = NULL;

    if (!migration->record->socket_path) {
        refuse_qemu(migration, _("all its connections were made before"));
        return;
    }
    client = g_socket_client_new();
    g_socket_client_set_enable_proxy(client, FALSE);
    address = g_unix_socket_address_new(migration->record->socket_path);
    g_socket_client_connect_async(client, G_SOCKET_CONNECTABLE(address), NULL,
                                  on_connected_to_qemu, migration_ref(migration));
}
