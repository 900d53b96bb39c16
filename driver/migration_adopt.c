/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking over the helper of a migration that a daemon before this one has begun. */
#include "config.h"

#include <glib/gi18n.h>
#include <signal.h>

#include "driver/migration_priv.h"

#define LOOK_AGAIN_MS 200

/* As far as it has come while nobody listened. */
static void catch_up(Migration *migration)
{
    JobRecord *record = migration->record;
    HelperStatus status;

    helper_process_status(migration->helper, &status);
    log_info(&migration->log, "found the helper of domain %s again: state=%s phase=%s",
             record->domain, status.state, status.phase);
    migration_hear_phase(migration, status.phase);
    migration->return_path = status.return_path;
    migration_channels_adopted(migration);
    if (migration_side(migration) == MIGRATION_SIDE_SOURCE)
        record->qemu_connections = MAX(record->qemu_connections, status.qemu_connections);
    if (record->qemu_connections >= QEMU_CONNECTIONS_MAX)
        migration_remove_socket(migration);
    migration_helper_handlers.state_changed(migration->helper, status.state, status.reason,
                                            status.ended_by, migration);
    for (gsize i = 0; status.channels_lost && status.channels_lost[i]; i++)
        migration_helper_handlers.channel_lost(migration->helper, status.channels_lost[i],
                                               _("while virtpostcopyd was restarted"), migration);
    if (migration->over)
        return;
    if (!record->streaming) {
        migration_cancel(migration, _("virtpostcopyd was restarted before the migration began"));
        return;
    }
    if (status.qemu_wanted > 0)
        migration_attach_qemu(migration);
    for (gsize i = 0; i < status.n_disks_unanswered; i++)
        migration_want_disks(migration, status.disks_unanswered[i]);
    migration_offer_memory(migration, status.phase);
    migration_place_pages(migration, status.phase);
    if (status.source_rate > 0)
        migration_want_speed(migration, status.source_rate);
}

static gboolean is_of_another(const Migration *migration, pid_t pid)
{
    const GPtrArray *all = migration->set->migrations;

    for (guint i = 0; i < all->len; i++) {
        const Migration *other = g_ptr_array_index(all, i);

        if (other != migration && other->record->helper_pid == pid)
            return TRUE;
    }
    return FALSE;
}

/* The process id may be another's by now, even another helper's. */
static gboolean is_there(const Migration *migration)
{
    pid_t pid = migration->record->helper_pid;
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
    g_autofree char *command = NULL;

    return pid > 0 && g_file_get_contents(path, &command, NULL, NULL) &&
           g_str_equal(command, migration->set->settings->helper_path) &&
           !is_of_another(migration, pid);
}

/* What it holds of QEMU would be in the way of everything that can be done for the guest. */
static void kill_stuck(Migration *migration)
{
    pid_t pid = migration->record->helper_pid;

    if (!is_there(migration))
        return;
    log_error(&migration->log, "the helper, process %d, does not answer: killing it", (int)pid);
    if (kill(pid, SIGKILL) < 0)
        log_warning(&migration->log, "cannot kill process %d: %m", (int)pid);
}

static gboolean is_nobody(const GError *error)
{
    return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED) ||
           g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND) ||
           g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED);
}

static void on_adopted(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Migration) migration = data;
    MigrationSet *set = migration->set;
    g_autoptr(GError) error = NULL;

    if (!set) /* the daemon is stopping already */
        return;
    migration->adopting = FALSE;
    if (helper_process_finish(migration->helper, result, &error)) {
        catch_up(migration);
        migration_wake_waiters(migration);
    } else {
        if (!is_nobody(error))
            kill_stuck(migration);
        helper_process_disown(migration->helper);
        log_warning(&migration->log, "the helper of domain %s is not there any more: %s",
                    migration_domain(migration), error->message);
        migration_helper_ended(migration, FALSE, _("while virtpostcopyd was not there"));
    }
    migration_set_adopted(set);
}

static void adopt(Migration *migration)
{
    MigrationSet *set = migration->set;
    g_autofree char *path =
        job_record_control_path(set->run_dir, migration->record->uri.session);

    migration->helper = helper_process_adopt(path, &migration_helper_handlers, migration,
                                             on_adopted, migration_ref(migration));
}

static void begin_adopting(Migration *migration)
{
    migration->adopting = TRUE;
    migration->set->adopting++;
}

void migration_adopt_helper(Migration *migration)
{
    migration->recorded = TRUE;
    migration->ended = FALSE;
    migration_set_phase(migration, "stream");
    g_ptr_array_add(migration->set->migrations, migration_ref(migration));
    begin_adopting(migration);
    adopt(migration);
}

/* A process is not gone at once when it has closed its connections. */
static gboolean on_look_again(gpointer data)
{
    Migration *migration = data;
    MigrationSet *set = migration->set;

    if (!set)
        return G_SOURCE_REMOVE;
    if (is_there(migration)) {
        helper_process_disown(migration->helper);
        helper_process_unref(migration->helper);
        adopt(migration);
        if (migration->cancelled)
            helper_process_cancel(migration->helper, _("it was cancelled before"));
        return G_SOURCE_REMOVE;
    }
    migration->adopting = FALSE;
    migration_helper_ended(migration, migration->completed, _("its connection ended"));
    migration_set_adopted(set);
    return G_SOURCE_REMOVE;
}

gboolean migration_look_again(Migration *migration)
{
    if (helper_process_pid(migration->helper) || !is_there(migration))
        return FALSE;
    log_info(&migration->log, "the connection to the helper has ended");
    begin_adopting(migration);
    g_timeout_add_full(G_PRIORITY_DEFAULT, LOOK_AGAIN_MS, on_look_again, migration_ref(migration),
                       (GDestroyNotify)migration_unref);
    return TRUE;
}
