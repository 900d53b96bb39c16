/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The set of migrations, and what is asked and done about one of them. What its helper says is in
 * migration_helper.c, what is kept of it on disk in migration_keep.c; what is particular to a side
 * in migration_source.c and migration_destination.c. */
#include "config.h"

#include "driver/migration.h"

#include <glib/gi18n.h>
#include <pwd.h>
#include <string.h>

#include "driver/migration_priv.h"
#include "driver/run_dir.h"

/* A source that was told to stream and has not done so that long after its client left never
 * will. */
#define ORPHAN_TIMEOUT_S 30

/* ---- waiting for something to happen ---- */

typedef enum { WAIT_ENDED, WAIT_DECIDED, WAIT_RETURN_PATH, WAIT_REACHABLE } WaitFor;

typedef struct {
    Migration *migration;
    WaitFor what;
    MigrationFunc func;
    gpointer data;
    guint timer;
} Waiter;

static gboolean wait_is_over(const Migration *migration, WaitFor what)
{
    return migration->ended ||
           (what == WAIT_DECIDED && (migration->over || migration->record->postcopy)) ||
           (what == WAIT_RETURN_PATH && migration->return_path) ||
           (what == WAIT_REACHABLE && !migration->adopting);
}

static gboolean waiter_fire(gpointer data)
{
    Waiter *waiter = data;
    Migration *migration = waiter->migration;

    g_ptr_array_remove(migration->waiters, waiter);
    waiter->func(migration, waiter->data);
    migration_unref(migration);
    g_free(waiter);
    return G_SOURCE_REMOVE;
}

/* Always through the main loop: a caller never hears back from inside its own call. */
static void waiter_arm(Waiter *waiter, guint timeout_ms)
{
    if (waiter->timer)
        g_source_remove(waiter->timer);
    waiter->timer = g_timeout_add(timeout_ms, waiter_fire, waiter);
}

static void wait_for(Migration *migration, WaitFor what, guint timeout_ms, MigrationFunc func,
                     gpointer data)
{
    Waiter *waiter = g_new0(Waiter, 1);

    waiter->migration = migration_ref(migration);
    waiter->what = what;
    waiter->func = func;
    waiter->data = data;
    g_ptr_array_add(migration->waiters, waiter);
    waiter_arm(waiter, wait_is_over(migration, what) ? 0 : timeout_ms);
}

void migration_wake_waiters(Migration *migration)
{
    for (guint i = 0; i < migration->waiters->len; i++) {
        Waiter *waiter = g_ptr_array_index(migration->waiters, i);

        if (wait_is_over(migration, waiter->what))
            waiter_arm(waiter, 0);
    }
}

void migration_when_ended(Migration *migration, guint timeout_ms, MigrationFunc func,
                          gpointer data)
{
    wait_for(migration, WAIT_ENDED, timeout_ms, func, data);
}

void migration_when_decided(Migration *migration, guint timeout_ms, MigrationFunc func,
                            gpointer data)
{
    wait_for(migration, WAIT_DECIDED, timeout_ms, func, data);
}

void migration_when_return_path(Migration *migration, guint timeout_ms, MigrationFunc func,
                                gpointer data)
{
    wait_for(migration, WAIT_RETURN_PATH, timeout_ms, func, data);
}

void migration_when_reachable(Migration *migration, guint timeout_ms, MigrationFunc func,
                              gpointer data)
{
    wait_for(migration, WAIT_REACHABLE, timeout_ms, func, data);
}

/* ---- the set ---- */

MigrationSet *migration_set_new(const Settings *settings, GError **error)
{
    const struct passwd *user = getpwnam(settings->helper_user);
    MigrationSet *set;

    if (!user) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("the user '%s', which helpers run as, does not exist: create it (a line for "
                      "systemd-sysusers comes with this package) or set helper_user in the "
                      "configuration file"),
                    settings->helper_user);
        return NULL;
    }
    set = g_new0(MigrationSet, 1);
    set->settings = settings;
    set->helper_user =
        g_strdup_printf("%lu:%lu", (gulong)user->pw_uid, (gulong)user->pw_gid);
    set->host_name = g_strdup(settings_host_name(settings));
    set->run_dir = g_strdup(settings->run_dir);
    set->migrations = g_ptr_array_new_with_free_func((GDestroyNotify)migration_unref);
    set->broken = g_ptr_array_new_with_free_func((GDestroyNotify)job_record_free);
    return set;
}

void migration_set_free(MigrationSet *set)
{
    if (!set)
        return;
    for (guint i = 0; i < set->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(set->migrations, i);

        migration_stop_redialling(migration);
        /* What streams goes on, and the next daemon needs its names. */
        if (!migration->record->streaming) {
            migration_remove_socket(migration);
            migration_remove_disks(migration);
            migration_remove_record(migration);
        }
        if (migration->helper)
            helper_process_disown(migration->helper);
        migration->set = NULL;
    }
    g_clear_handle_id(&set->adopted_id, g_source_remove);
    g_ptr_array_unref(set->migrations);
    g_ptr_array_unref(set->broken);
    g_free(set->run_dir);
    g_free(set->helper_user);
    g_free(set->host_name);
    g_free(set);
}

const Settings *migration_set_settings(const MigrationSet *set)
{
    return set->settings;
}

const char *migration_set_run_dir(const MigrationSet *set)
{
    return set->run_dir;
}

Migration *migration_set_lookup(MigrationSet *set, const guint8 session[MIGRATION_SESSION_LEN])
{
    for (guint i = 0; i < set->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(set->migrations, i);

        if (migration_side(migration) == MIGRATION_SIDE_DESTINATION && !migration->ended &&
            memcmp(migration->record->uri.session, session, MIGRATION_SESSION_LEN) == 0)
            return migration;
    }
    return NULL;
}

Migration *migration_set_find_source(MigrationSet *set, const char *domain)
{
    for (guint i = set->migrations->len; i > 0; i--) {
        Migration *migration = g_ptr_array_index(set->migrations, i - 1);

        if (migration_side(migration) == MIGRATION_SIDE_SOURCE &&
            g_str_equal(migration->record->domain, domain))
            return migration;
    }
    return NULL;
}

/* ---- one migration ---- */

const char *migration_side_name(const Migration *migration)
{
    return migration_side(migration) == MIGRATION_SIDE_SOURCE ? "source" : "destination";
}

gboolean migration_has_lost_channel(const Migration *migration)
{
    for (gsize i = 0; i < G_N_ELEMENTS(migration->channels); i++) {
        if (migration->channels[i].lost_at)
            return TRUE;
    }
    return FALSE;
}

static void name_channels(Migration *migration)
{
    Channel *channels = migration->channels;

    channels[0].kind = MIGRATION_CHANNEL_MAIN;
    channels[1].kind = MIGRATION_CHANNEL_PREEMPT;
    for (guint16 i = 1; i <= CHANNEL_BULK_MAX; i++)
        channels[1 + i].kind = channel_name(CHANNEL_BULK, i);
    for (gsize i = 0; i < G_N_ELEMENTS(migration->channels); i++)
        channels[i].lost_ms = -1;
}

Migration *migration_alloc(MigrationSet *set, JobRecord *record)
{
    Migration *migration = g_new0(Migration, 1);

    g_atomic_ref_count_init(&migration->refs);
    migration->set = set;
    migration->record = record;
    migration->id = job_record_id(record);
    migration->waiters = g_ptr_array_new();
    migration->ended = TRUE; /* until there is a helper */
    migration->log = (LogContext){ .migration = migration->id,
                                   .side = migration_side_name(migration),
                                   .phase = "prepare",
                                   .channel = MIGRATION_CHANNEL_MAIN };
    name_channels(migration);
    return migration;
}

Migration *migration_ref(Migration *migration)
{
    g_atomic_ref_count_inc(&migration->refs);
    return migration;
}

void migration_unref(Migration *migration)
{
    if (!migration || !g_atomic_ref_count_dec(&migration->refs))
        return;
    if (migration->set) {
        migration_remove_socket(migration);
        migration_remove_disks(migration);
    }
    migration_stop_redialling(migration);
    if (migration->helper) {
        helper_process_disown(migration->helper);
        helper_process_unref(migration->helper);
    }
    qemu_speed_free(migration->speed);
    g_ptr_array_unref(migration->waiters);
    job_record_free(migration->record);
    g_free(migration->recovered_id);
    g_free(migration->error);
    g_free(migration->disks_error);
    g_free(migration->id);
    g_free(migration);
}

void migration_remove_socket(Migration *migration)
{
    JobRecord *record = migration->record;

    if (!record->socket_path)
        return;
    run_dir_remove(migration->set->run_dir, record->socket_path);
    g_clear_pointer(&record->socket_path, g_free);
    migration_save(migration);
}

void migration_remove_disks(Migration *migration)
{
    JobRecord *record = migration->record;

    if (!record->disks_path)
        return;
    run_dir_remove(migration->set->run_dir, record->disks_path);
    g_clear_pointer(&record->disks_path, g_free);
    migration_save(migration);
}

void migration_count_connection(Migration *migration)
{
    JobRecord *record = migration->record;

    record->streaming = TRUE;
    record->qemu_connections++;
    if (record->qemu_connections >= QEMU_CONNECTIONS_MAX && record->socket_path)
        migration_remove_socket(migration);
    else
        migration_save(migration);
}

MigrationSide migration_side(const Migration *migration)
{
    return migration->record->side;
}

const char *migration_domain(const Migration *migration)
{
    return migration->record->domain;
}

gboolean migration_in_postcopy(const Migration *migration)
{
    return migration->record->postcopy;
}

gboolean migration_is_switching(const Migration *migration)
{
    return (migration->switching || migration->record->postcopy) && !migration->over &&
           !migration->ended;
}

gboolean migration_is_moving(const Migration *migration)
{
    return migration_in_postcopy(migration) && !migration->over && !migration->ended;
}

gboolean migration_is_reachable(const Migration *migration)
{
    return !migration->adopting;
}

const char *migration_id(const Migration *migration)
{
    return migration->id;
}

/* libvirt ends a migration whose disks it cannot copy; the helpers then only see a QEMU go, and say
 * so. A helper's death, and what fails in post-copy, is another failure. */
const char *migration_error(const Migration *migration)
{
    if (migration->disks_error && !migration->record->postcopy &&
        (!migration->error || migration->ended_by != MIGRATION_ENDED_BY_HELPER))
        return migration->disks_error;
    return migration->error;
}

MigrationEndedBy migration_ended_by(const Migration *migration)
{
    return migration->ended_by;
}

void migration_set_aborted(Migration *migration)
{
    migration->aborted = TRUE;
    migration_set_on_purpose(migration, TRUE);
}

void migration_set_paused(Migration *migration, gboolean paused)
{
    migration_set_on_purpose(migration, paused || migration->aborted ||
                                            (migration->cancelled && !migration->superseded));
}

gboolean migration_is_aborted(const Migration *migration)
{
    return migration->aborted;
}

void migration_set_phase(Migration *migration, const char *phase)
{
    migration->log.phase = phase;
}

gboolean migration_finish(Migration *migration, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

void migration_set_expected_ram(Migration *migration, guint64 bytes)
{
    migration->record->expected_ram = bytes;
    migration_save(migration);
}

guint64 migration_expected_ram(const Migration *migration)
{
    return migration->record->expected_ram;
}

gboolean migration_recovers(const Migration *migration)
{
    return migration->record->recovers;
}

gint64 migration_begun(const Migration *migration)
{
    return migration->record->begun;
}

gboolean migration_report(const Migration *migration, HelperReport *ret)
{
    return migration->helper && helper_process_report(migration->helper, ret);
}

static void cancel(Migration *migration, const char *reason)
{
    log_info(&migration->log, "cancelled: %s", reason);
    migration->cancelled = TRUE;
    helper_process_cancel(migration->helper, reason);
}

void migration_cancel(Migration *migration, const char *reason)
{
    if (migration->ended || migration->cancelled || !migration->helper)
        return;
    migration_set_on_purpose(migration, TRUE);
    cancel(migration, reason);
}

void migration_supersede(Migration *migration)
{
    if (migration->cancelled || !migration->helper)
        return;
    migration->superseded = TRUE;
    cancel(migration, _("a resume was asked for"));
}

/* Without its peer it would not hear of the end. */
void migration_give_up(Migration *migration, const char *reason)
{
    const JobRecord *record = migration->record;

    if (!record->streaming || (!record->postcopy && migration_has_lost_channel(migration)))
        migration_cancel(migration, reason);
}

static gboolean on_orphan_timeout(gpointer data)
{
    migration_give_up(data, _("the client left before the migration began"));
    return G_SOURCE_REMOVE;
}

void migration_orphan(Migration *migration)
{
    if (migration->ended || migration->over)
        return;
    log_info(&migration->log, "the client is gone; %s",
             migration->record->streaming ? "the migration goes on" : "waiting whether it begins");
    if (!migration->record->streaming)
        g_timeout_add_seconds_full(G_PRIORITY_DEFAULT, ORPHAN_TIMEOUT_S, on_orphan_timeout,
                                   migration_ref(migration), (GDestroyNotify)migration_unref);
}
