/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The disks of a migration that copies them: libvirt has one QEMU serve them (NBD) and the other
 * write to it, each by a unix socket; the helpers carry what goes there. */
#include "config.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gi18n.h>
#include <unistd.h>

#include "driver/connection_fd.h"
#include "driver/migration.h"
#include "driver/migration_priv.h"
#include "driver/run_dir.h"
#include "driver/session_dial.h"
#include "util/autofd.h"

#define FEATURE_DISKS "disks"

static LogContext disks_log(const Migration *migration)
{
    LogContext log = migration->log;

    log.channel = MIGRATION_CHANNEL_DISKS;
    return log;
}

/* ---- where QEMU connects, or listens ---- */

gboolean migration_serve_disks(Migration *migration, const QemuOwner *owner, GError **error)
{
    migration->record->disks_path =
        run_dir_make_for_qemu(migration->set->run_dir, owner, error);
    return migration->record->disks_path != NULL;
}

void migration_relay_disks(Migration *migration, const char *path, const QemuOwner *owner)
{
    migration->record->disks_path =
        path ? g_strdup(path) : run_dir_socket_path(migration->set->run_dir, "out-");
    migration->disks_owner = *owner;
}

char *migration_disks_uri(const Migration *migration)
{
    const char *path = migration->record->disks_path;

    return path ? g_strdup_printf("unix://%s", path) : NULL;
}

gboolean migration_check_disks(Migration *migration, GError **error)
{
    if (!migration->record->disks_path ||
        g_strv_contains(helper_process_features(migration->helper), FEATURE_DISKS))
        return TRUE;
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                        _("the other host's virtpostcopyd is too old to relay the disks that are "
                          "to be copied: update it, or give them a way of their own with "
                          "--disks-uri"));
    return FALSE;
}

int migration_listen_for_disks(Migration *migration, GError **error)
{
    return run_dir_listen_for_qemu(migration->record->disks_path, &migration->disks_owner, error);
}

/* ---- a connection's other end ---- */

typedef struct {
    Migration *migration;
    guint number;
} Wanted;

static void wanted_free(Wanted *wanted)
{
    migration_unref(wanted->migration);
    g_free(wanted);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Wanted, wanted_free)

static void refuse(const Wanted *wanted, const char *reason)
{
    LogContext log = disks_log(wanted->migration);

    log_error(&log, "%s", reason);
    helper_process_refuse_disks(wanted->migration->helper, wanted->number, reason);
}

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Wanted) wanted = data;
    Migration *migration = wanted->migration;
    g_autoptr(GError) error = NULL;
    autofd fd = session_dial_finish(result, &error);

    if (migration->ended)
        return;
    if (fd < 0)
        refuse(wanted, error->message);
    else
        helper_process_connect_disks(migration->helper, autofd_steal(&fd),
                                     migration_name_to_expect(migration), wanted->number);
}

static void on_connected_to_server(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Wanted) wanted = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_finish(G_SOCKET_CLIENT(source), result, &error);
    g_autofree char *reason = NULL;
    autofd fd = -1;

    if (wanted->migration->ended)
        return;
    if (connection)
        fd = connection_dup_fd(connection);
    if (fd >= 0 && !run_dir_check_server(fd, wanted->migration->record->disks_path, &error))
        autofd_clear(&fd);
    if (fd >= 0) {
        helper_process_attach_disks(wanted->migration->helper, autofd_steal(&fd), wanted->number);
        return;
    }
    reason = g_strdup_printf(_("cannot connect to the destination QEMU's disk server: %s"),
                             error ? error->message : _("out of file descriptors"));
    refuse(wanted, reason);
}

static void connect_to_server(Wanted *wanted)
{
    const char *path = wanted->migration->record->disks_path;
    g_autoptr(GSocketClient) client = NULL;
    g_autoptr(GSocketAddress) address = NULL;

    if (!path) {
        refuse(wanted, _("no disks are copied in this migration"));
        wanted_free(wanted);
        return;
    }
    client = g_socket_client_new();
    address = g_unix_socket_address_new(path);
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_connect_async(client, G_SOCKET_CONNECTABLE(address), NULL,
                                  on_connected_to_server, wanted);
}

void migration_want_disks(Migration *migration, guint number)
{
    Wanted *wanted;

    if (!migration->set || migration->ended)
        return;
    wanted = g_new(Wanted, 1);
    *wanted = (Wanted){ .migration = migration_ref(migration), .number = number };
    if (migration_side(migration) == MIGRATION_SIDE_DESTINATION)
        connect_to_server(wanted);
    else
        session_dial(migration->set->settings, &migration->record->uri, SESSION_FOR_CHANNEL,
                     on_dialled, wanted);
}

/* libvirt only sees that its copy has failed. */
void migration_disks_ended(Migration *migration, guint number, const char *reason)
{
    LogContext log = disks_log(migration);

    if (!*reason) {
        log_info(&log, "disk connection %u has ended", number);
        return;
    }
    log_error(&log, "disk connection %u is lost: %s", number, reason);
    if (!migration->disks_error && !migration->over && !migration->record->postcopy)
        migration->disks_error =
            g_strdup_printf(_("the connection that copies a disk is lost: %s"), reason);
}
