/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration on the host that the guest leaves: helper, connection to the peer, agreement, the
 * channels that were agreed on, and only then a socket for QEMU's stream. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "driver/migration.h"
#include "driver/migration_priv.h"
#include "driver/run_dir.h"
#include "driver/session_dial.h"
#include "util/autofd.h"
#include "xml/migrate_features.h"

Migration *migration_new_source(MigrationSet *set, const char *domain, const MigrationUri *uri,
                                const SpeedLimit *limit)
{
    JobRecord *record = job_record_new();

    record->side = MIGRATION_SIDE_SOURCE;
    record->domain = g_strdup(domain);
    record->uri = *uri;
    record->uri.host = g_strdup(uri->host);
    record->speed_limit = *limit;
    record->recovers = limit->again;
    return migration_alloc(set, record);
}

void migration_set_wishes(Migration *migration, const MigrateWishes *wishes)
{
    migration->wishes = *wishes;
}

/* NULL: there is nothing to be set (any more). */
static QemuSpeed *qemu_speed_of(Migration *migration)
{
    const Settings *settings = migration->set ? migration->set->settings : NULL;

    if (migration_side(migration) != MIGRATION_SIDE_SOURCE || migration->over || !settings)
        return NULL;
    if (!migration->speed)
        migration->speed = qemu_speed_new(settings, migration_domain(migration),
                                          &migration->record->speed_limit, &migration->log);
    return migration->speed;
}

void migration_want_speed(Migration *migration, guint64 bytes_per_second)
{
    QemuSpeed *speed;

    if (!migration->set || !migration->set->settings->migration_pace_qemu)
        return;
    speed = qemu_speed_of(migration);
    if (speed)
        qemu_speed_want(speed, bytes_per_second);
}

void migration_switched_over(Migration *migration)
{
    QemuSpeed *speed = qemu_speed_of(migration);

    if (speed)
        qemu_speed_shorten_last_round(speed);
}

char *migration_uri(const Migration *migration)
{
    if (migration_side(migration) == MIGRATION_SIDE_DESTINATION)
        return migration_uri_format(&migration->record->uri);
    return g_strdup_printf("unix://%s", migration->record->socket_path);
}

static void connect_failed(GTask *task, GError *error)
{
    Migration *migration = g_task_get_task_data(task);

    if (!migration->error)
        migration->error = g_strdup(error->message);
    log_error(&migration->log, "%s", error->message);
    migration_cancel(migration, error->message);
    g_task_return_error(task, error);
}

/* The daemon is stopping and its settings are gone: the task has ended. */
static gboolean end_if_stopping(GTask *task)
{
    Migration *migration = g_task_get_task_data(task);

    if (migration->set)
        return FALSE;
    g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_CANCELLED,
                            _("virtpostcopyd is stopping"));
    return TRUE;
}

const char *migration_name_to_expect(const Migration *migration)
{
    const JobRecord *record = migration->record;

    return record->tls_name ? record->tls_name : record->uri.host;
}

static void on_listening_for_disks(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;

    if (!helper_process_finish(migration->helper, result, &error))
        connect_failed(task, error);
    else
        g_task_return_boolean(task, TRUE);
}

static void on_listening(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;
    int fd;

    if (!helper_process_finish(migration->helper, result, &error)) {
        connect_failed(task, error);
        return;
    }
    if (end_if_stopping(task))
        return;
    if (!migration->record->disks_path) {
        g_task_return_boolean(task, TRUE);
        return;
    }
    fd = migration_listen_for_disks(migration, &error);
    if (fd < 0)
        connect_failed(task, error);
    else
        helper_process_listen_disks(migration->helper, fd, on_listening_for_disks,
                                    g_steal_pointer(&task));
}

/* Every channel is up. Takes the task. */
static void listen_for_qemu(GTask *owned)
{
    g_autoptr(GTask) task = owned;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;
    int fd;

    if (end_if_stopping(task))
        return;
    if (migration->record->memory) {
        g_task_return_boolean(task, TRUE);
        return;
    }
    migration->record->socket_path = run_dir_socket_path(migration->set->run_dir, "out-");
    migration_save(migration);
    fd = run_dir_listen(migration->record->socket_path, &error);
    if (fd < 0) {
        connect_failed(task, error);
        return;
    }
    helper_process_listen_qemu(migration->helper, fd, on_listening, g_steal_pointer(&task));
}

/* ---- the other channels: dialled like the first, once the helpers have agreed to have them ---- */

static const char *channel_to_connect(const Migration *migration)
{
    return helper_process_channel_wanted(migration->helper, migration->n_connected);
}

static void channel_failed(GTask *task, GError *error)
{
    Migration *migration = g_task_get_task_data(task);
    const char *channel = channel_to_connect(migration);

    g_prefix_error(&error, _("cannot open the %s channel to %s: "), channel ? channel : "?",
                   migration->record->uri.host);
    connect_failed(task, error);
}

static void connect_channels(GTask *owned);

static void on_channel_agreed(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;

    if (!helper_process_finish(migration->helper, result, &error)) {
        channel_failed(task, error);
        return;
    }
    migration_channel_opened(migration, channel_to_connect(migration));
    migration->n_connected++;
    connect_channels(g_steal_pointer(&task));
}

static void on_channel_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;
    int fd = session_dial_finish(result, &error);

    if (fd < 0) {
        channel_failed(task, error);
        return;
    }
    helper_process_connect_channel(migration->helper, fd, migration_name_to_expect(migration),
                                   channel_to_connect(migration), on_channel_agreed,
                                   g_steal_pointer(&task));
}

/* Those that are missing, one after the other. Takes the task. */
static void connect_channels(GTask *owned)
{
    g_autoptr(GTask) task = owned;
    Migration *migration = g_task_get_task_data(task);

    if (!channel_to_connect(migration)) {
        listen_for_qemu(g_steal_pointer(&task));
        return;
    }
    if (end_if_stopping(task))
        return;
    session_dial(migration->set->settings, &migration->record->uri, SESSION_FOR_CHANNEL,
                 on_channel_dialled, g_steal_pointer(&task));
}

/* The other host may be of another version, or set up differently. */
static void log_features(const Migration *migration)
{
    const Settings *settings = migration->set->settings;
    g_autofree const char **asked = migrate_features_asked(
        &migration->wishes, settings->migration_compression != MIGRATION_COMPRESSION_OFF);
    g_autofree char *text =
        migrate_features_describe(asked, helper_process_features(migration->helper));

    log_info(&migration->log, "features: %s", text);
}

static void on_peer_agreed(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;

    if (!helper_process_finish(migration->helper, result, &error) ||
        !migration_check_disks(migration, &error)) {
        connect_failed(task, error);
        return;
    }
    if (end_if_stopping(task))
        return;
    log_features(migration);
    migration_channel_opened(migration, MIGRATION_CHANNEL_MAIN);
    connect_channels(g_steal_pointer(&task));
}

/* ---- the main channel ---- */

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;
    int fd = session_dial_finish(result, &error);

    if (fd < 0) {
        connect_failed(task, error);
        return;
    }
    log_info(&migration->log, "connected to %s port %u", migration->record->uri.host,
             migration->record->uri.port);
    helper_process_connect_peer(migration->helper, fd, migration_name_to_expect(migration), on_peer_agreed,
                                g_steal_pointer(&task));
}

static void on_helper_started(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;

    if (!migration_start_helper_finish(migration, result, &error)) {
        connect_failed(task, error);
        return;
    }
    if (end_if_stopping(task))
        return;
    session_dial(migration->set->settings, &migration->record->uri, SESSION_FOR_CHANNEL, on_dialled,
                 g_steal_pointer(&task));
}

void migration_connect(Migration *migration, const char *tls_name, GAsyncReadyCallback callback,
                       gpointer data)
{
    GTask *task = g_task_new(NULL, NULL, callback, data);

    migration->record->tls_name = g_strdup(tls_name);
    g_task_set_task_data(task, migration_ref(migration), (GDestroyNotify)migration_unref);
    migration_set_phase(migration, "perform");
    migration_start_helper(migration, on_helper_started, task);
}

/* ---- channels that were lost ---- */

static void on_redialled(const char *kind, int fd, gpointer data)
{
    Migration *migration = data;

    helper_process_reconnect_channel(migration->helper, fd, migration_name_to_expect(migration), kind);
}

static void on_peer_unknown(const char *kind, const char *reason, gpointer data)
{
    Migration *migration = data;

    log_message(&migration->log, migration->completed ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, "%s",
                reason);
    helper_process_abandon_peer(migration->helper, reason);
}

static const RedialHandlers redial_handlers = { .connected = on_redialled,
                                                .unknown = on_peer_unknown };

void migration_redial(Migration *migration, Channel *channel)
{
    if (!channel->redial)
        channel->redial =
            redial_new(migration->set->settings, &migration->record->uri, channel->kind,
                       &migration->log, &redial_handlers, migration);
    redial_lost(channel->redial);
}

void migration_stop_redialling(Migration *migration)
{
    for (gsize i = 0; i < G_N_ELEMENTS(migration->channels); i++)
        g_clear_pointer(&migration->channels[i].redial, redial_free);
}
