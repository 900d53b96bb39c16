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

#define CHANNEL_KIND_PREEMPT "preempt"

typedef struct {
    Migration *migration;
    char *tls_name;
} Connect;

static void connect_free(gpointer data)
{
    Connect *job = data;

    migration_unref(job->migration);
    g_free(job->tls_name);
    g_free(job);
}

Migration *migration_new_source(MigrationSet *set, const char *domain, const MigrationUri *uri,
                                const SpeedLimit *limit)
{
    Migration *migration = migration_alloc(set, MIGRATION_SIDE_SOURCE, domain, uri->session);

    memcpy(migration->uri.token, uri->token, MIGRATION_TOKEN_LEN);
    migration->uri.host = g_strdup(uri->host);
    migration->uri.port = uri->port;
    migration->speed_limit = *limit;
    return migration;
}

/* NULL: there is nothing to be set (any more). */
static QemuSpeed *qemu_speed_of(Migration *migration)
{
    const Settings *settings = migration->set ? migration->set->settings : NULL;

    if (migration->side != MIGRATION_SIDE_SOURCE || migration->over || !settings)
        return NULL;
    if (!migration->speed)
        migration->speed = qemu_speed_new(settings, migration->domain, &migration->speed_limit,
                                          &migration->log);
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
    if (migration->side == MIGRATION_SIDE_DESTINATION)
        return migration_uri_format(&migration->uri);
    return g_strdup_printf("unix://%s", migration->socket_path);
}

static void connect_failed(GTask *task, GError *error)
{
    Connect *job = g_task_get_task_data(task);

    if (!job->migration->error)
        job->migration->error = g_strdup(error->message);
    log_error(&job->migration->log, "%s", error->message);
    migration_cancel(job->migration, error->message);
    g_task_return_error(task, error);
}

static void on_listening(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Connect *job = g_task_get_task_data(task);
    GError *error = NULL;

    if (!helper_process_finish(job->migration->helper, result, &error))
        connect_failed(task, error);
    else
        g_task_return_boolean(task, TRUE);
}

/* The daemon is stopping and its settings are gone: the task has ended. */
static gboolean end_if_stopping(GTask *task)
{
    Connect *job = g_task_get_task_data(task);

    if (job->migration->set)
        return FALSE;
    g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_CANCELLED,
                            _("virtpostcopyd is stopping"));
    return TRUE;
}

static const char *name_to_expect(const Connect *job)
{
    return job->tls_name ? job->tls_name : job->migration->uri.host;
}

/* Every channel is up. Takes the task. */
static void listen_for_qemu(GTask *owned)
{
    g_autoptr(GTask) task = owned;
    Connect *job = g_task_get_task_data(task);
    Migration *migration = job->migration;
    GError *error = NULL;
    int fd;

    if (end_if_stopping(task))
        return;
    migration->socket_path = run_dir_socket_path(migration->set->run_dir, "out-");
    fd = run_dir_listen(migration->socket_path, &error);
    if (fd < 0) {
        connect_failed(task, error);
        return;
    }
    helper_process_listen_qemu(migration->helper, fd, on_listening, g_steal_pointer(&task));
}

/* ---- the preempt channel: dialled like the first, once the helpers have agreed to have it ---- */

static void channel_failed(GTask *task, GError *error)
{
    Connect *job = g_task_get_task_data(task);

    g_prefix_error(&error, _("cannot open the preempt channel to %s: "), job->migration->uri.host);
    connect_failed(task, error);
}

static void on_channel_agreed(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Connect *job = g_task_get_task_data(task);
    GError *error = NULL;

    if (!helper_process_finish(job->migration->helper, result, &error))
        channel_failed(task, error);
    else
        listen_for_qemu(g_steal_pointer(&task));
}

static void on_channel_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Connect *job = g_task_get_task_data(task);
    GError *error = NULL;
    int fd = session_dial_finish(result, &error);

    if (fd < 0) {
        channel_failed(task, error);
        return;
    }
    helper_process_connect_channel(job->migration->helper, fd, name_to_expect(job),
                                   CHANNEL_KIND_PREEMPT, on_channel_agreed,
                                   g_steal_pointer(&task));
}

static void on_peer_agreed(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Connect *job = g_task_get_task_data(task);
    Migration *migration = job->migration;
    GError *error = NULL;

    if (!helper_process_finish(migration->helper, result, &error)) {
        connect_failed(task, error);
        return;
    }
    if (end_if_stopping(task))
        return;
    if (helper_process_wants_channel(migration->helper, CHANNEL_KIND_PREEMPT))
        session_dial(migration->set->settings, &migration->uri, on_channel_dialled,
                     g_steal_pointer(&task));
    else
        listen_for_qemu(g_steal_pointer(&task));
}

/* ---- the main channel ---- */

static void on_dialled(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Connect *job = g_task_get_task_data(task);
    Migration *migration = job->migration;
    GError *error = NULL;
    int fd = session_dial_finish(result, &error);

    if (fd < 0) {
        connect_failed(task, error);
        return;
    }
    log_info(&migration->log, "connected to %s port %u", migration->uri.host, migration->uri.port);
    helper_process_connect_peer(migration->helper, fd, name_to_expect(job), on_peer_agreed,
                                g_steal_pointer(&task));
}

static void on_helper_started(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Connect *job = g_task_get_task_data(task);
    GError *error = NULL;

    if (!migration_start_helper_finish(job->migration, result, &error)) {
        connect_failed(task, error);
        return;
    }
    if (end_if_stopping(task))
        return;
    session_dial(job->migration->set->settings, &job->migration->uri, on_dialled,
                 g_steal_pointer(&task));
}

void migration_connect(Migration *migration, const char *tls_name, GAsyncReadyCallback callback,
                       gpointer data)
{
    GTask *task = g_task_new(NULL, NULL, callback, data);
    Connect *job = g_new0(Connect, 1);

    job->migration = migration_ref(migration);
    job->tls_name = g_strdup(tls_name);
    g_task_set_task_data(task, job, connect_free);
    migration_set_phase(migration, "perform");
    migration_start_helper(migration, on_helper_started, task);
}
