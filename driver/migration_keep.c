/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What outlives a helper and a daemon: the records on disk. A session that ended in post-copy stays
 * known for whoever recovers its guest; a daemon that starts finds everything again. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "driver/migration_priv.h"
#include "driver/placed_file.h"
#include "driver/run_dir.h"

/* Of one domain and side: more than one happens if recoveries break as well. */
#define BROKEN_MAX 3

/* A recovery may have begun in its last second. */
#define BROKEN_EXTRA_S (60 * 60)

#define SUPERSEDE_TIMEOUT_MS 5000

/* Longer than taking a helper over, which has a time-out of its own. */
#define REACHABLE_TIMEOUT_MS 15000

static gint64 now_s(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

static gboolean is_session(const JobRecord *record, const guint8 session[MIGRATION_SESSION_LEN])
{
    return memcmp(record->uri.session, session, MIGRATION_SESSION_LEN) == 0;
}

static gboolean is_domain(const JobRecord *record, MigrationSide side, const char *domain)
{
    return record->side == side && g_str_equal(record->domain, domain);
}

/* ---- the record of one ---- */

gboolean migration_save(Migration *migration)
{
    g_autoptr(GError) error = NULL;

    if (!migration->recorded || !migration->set)
        return FALSE;
    if (job_record_save(migration->record, migration->set->run_dir, &error))
        return TRUE;
    log_warning(&migration->log, "%s", error->message);
    return FALSE;
}

void migration_remove_record(Migration *migration)
{
    if (migration->recorded && migration->set)
        job_record_remove(migration->set->run_dir, migration->record->uri.session);
    migration->recorded = FALSE;
}

void migration_set_perform(Migration *migration, gint32 procedure, GBytes *args)
{
    JobRecord *record = migration->record;

    g_clear_pointer(&record->perform_args, g_bytes_unref);
    record->perform_procedure = procedure;
    record->perform_args = args ? g_bytes_ref(args) : NULL;
    migration_save(migration);
}

static gboolean is_known(MigrationSet *set, const guint8 session[MIGRATION_SESSION_LEN])
{
    return migration_set_find_record(set, MIGRATION_SIDE_SOURCE, session) ||
           migration_set_find_record(set, MIGRATION_SIDE_DESTINATION, session);
}

static gboolean make_files(Migration *migration, const char *control, int *ret_listener,
                           int *ret_outcome, GError **error)
{
    JobRecord *record = migration->record;
    const char *run_dir = migration->set->run_dir;

    *ret_outcome = job_record_make_outcome(run_dir, record->uri.session, error);
    if (*ret_outcome < 0)
        return FALSE;
    *ret_listener = run_dir_listen(control, error);
    return *ret_listener >= 0 && job_record_save(record, run_dir, error);
}

gboolean migration_make_record(Migration *migration, int *ret_listener, int *ret_outcome,
                               GError **error)
{
    JobRecord *record = migration->record;
    MigrationSet *set = migration->set;
    g_autofree char *control = job_record_control_path(set->run_dir, record->uri.session);
    int listener = -1, outcome = -1;

    if (is_known(set, record->uri.session)) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                            _("this migration URI has been used before; begin the migration anew"));
        return FALSE;
    }
    record->begun = g_get_real_time();
    if (make_files(migration, control, &listener, &outcome, error)) {
        migration->recorded = TRUE;
        *ret_listener = listener;
        *ret_outcome = outcome;
        return TRUE;
    }
    if (listener >= 0)
        close(listener);
    if (outcome >= 0)
        close(outcome);
    job_record_remove(set->run_dir, record->uri.session);
    return FALSE;
}

gboolean migration_phase_is_postcopy(const Migration *migration, const char *phase)
{
    static const char *const source[] = { "device", "postcopy-active", "postcopy-recover",
                                          "postcopy-paused", "completed", NULL };
    static const char *const destination[] = { "listening", "running", "end", NULL };

    static const char *const memory[] = { "postcopy-active", "postcopy-recover",
                                          "postcopy-recover-setup", "postcopy-paused",
                                          "listening", NULL };
    gboolean leaves = migration_side(migration) == MIGRATION_SIDE_SOURCE;

    /* There pre-copy has the other phases as well. */
    if (migration->record->memory)
        return g_strv_contains(memory, phase);
    return g_strv_contains(leaves ? source : destination, phase);
}

/* ---- broken ones ---- */

/* Tells it, where that was the last one. */
static void drop_broken(MigrationSet *set, guint index)
{
    const JobRecord *record = g_ptr_array_index(set->broken, index);
    g_autofree char *domain = g_strdup(record->domain);
    MigrationSide side = record->side;

    job_record_remove(set->run_dir, record->uri.session);
    g_ptr_array_remove_index(set->broken, index);
    if (set->forgotten_func && !migration_set_find_broken(set, side, domain))
        set->forgotten_func(side, domain, set->forgotten_data);
}

void migration_set_forget(MigrationSet *set, MigrationSide side, const char *domain)
{
    g_autofree char *name = g_strdup(domain); /* it may be one of those that go */

    for (guint i = set->broken->len; i > 0; i--) {
        if (is_domain(g_ptr_array_index(set->broken, i - 1), side, name))
            drop_broken(set, i - 1);
    }
}

const JobRecord *migration_set_find_broken(MigrationSet *set, MigrationSide side,
                                           const char *domain)
{
    for (guint i = set->broken->len; i > 0; i--) {
        const JobRecord *record = g_ptr_array_index(set->broken, i - 1);

        if (is_domain(record, side, domain))
            return record;
    }
    return NULL;
}

static gboolean is_expired(const MigrationSet *set, const JobRecord *record)
{
    guint timeout = set->settings->recover_timeout;

    return timeout > 0 && now_s() - record->broken > (gint64)timeout + BROKEN_EXTRA_S;
}

/* Newest first, so that the oldest ones are too many. */
static void prune_broken(MigrationSet *set)
{
    for (guint i = set->broken->len; i > 0; i--) {
        const JobRecord *record = g_ptr_array_index(set->broken, i - 1);
        guint newer = 0;

        for (guint k = i; k < set->broken->len; k++)
            newer += is_domain(g_ptr_array_index(set->broken, k), record->side, record->domain);
        if (newer >= BROKEN_MAX || is_expired(set, record))
            drop_broken(set, i - 1);
    }
}

static gboolean is_alive(MigrationSet *set, MigrationSide side, const char *domain)
{
    for (guint i = 0; i < set->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(set->migrations, i);

        if (is_domain(migration->record, side, domain))
            return TRUE;
    }
    return FALSE;
}

/* Whoever recovers has to know every session that the destination may still know. Nothing while the
 * last word on the domain is not spoken, or if it was that it shall pause. Copies, because whoever
 * is told may say that they are to be forgotten. */
static void tell_broken(MigrationSet *set, const char *domain)
{
    g_autoptr(GPtrArray) news = g_ptr_array_new_with_free_func((GDestroyNotify)job_record_free);
    const JobRecord *newest = NULL;

    if (set->adopting > 0 || set->adopted_id || !set->broken_func ||
        is_alive(set, MIGRATION_SIDE_SOURCE, domain))
        return;
    for (guint i = 0; i < set->broken->len; i++) {
        const JobRecord *record = g_ptr_array_index(set->broken, i);

        if (!is_domain(record, MIGRATION_SIDE_SOURCE, domain))
            continue;
        newest = record;
        if (!record->told)
            g_ptr_array_add(news, job_record_copy(record));
    }
    if (!newest || newest->on_purpose)
        return;
    for (guint i = 0; i < set->broken->len; i++) {
        JobRecord *record = g_ptr_array_index(set->broken, i);

        record->told = record->told || is_domain(record, MIGRATION_SIDE_SOURCE, domain);
    }
    for (guint i = 0; i < news->len; i++)
        set->broken_func(set, g_ptr_array_index(news, i), set->broken_data);
}

static void keep_broken(Migration *migration)
{
    MigrationSet *set = migration->set;
    JobRecord *record = migration->record;

    record->broken = now_s();
    record->reading_failed = migration_reading_failed(migration);
    record->helper_pid = 0;
    /* Else the outcome is all that a daemon that comes later can know it from. */
    if (migration_save(migration))
        job_record_helper_ended(set->run_dir, record->uri.session);
    migration->recorded = FALSE; /* it is the set's now */
    g_ptr_array_add(set->broken, job_record_copy(record));
    prune_broken(set);
    log_message(&migration->log, migration->superseded ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
                "the migration of domain %s has broken after the switch-over%s", record->domain,
                migration->superseded  ? "; a resume takes its place"
                : record->on_purpose ? ", as was asked for"
                                     : "");
}

void migration_keep_or_remove(Migration *migration)
{
    /* Memory clients begin their own recoveries, with another URI. */
    if (migration->recorded && migration->record->postcopy && !migration->completed &&
        !migration->record->memory)
        keep_broken(migration);
    else
        migration_remove_record(migration);
    /* This one, or what it should have recovered from. */
    tell_broken(migration->set, migration->record->domain);
}

/* ---- what its sessions have in common ---- */

static MigrationHistory history_of(const JobRecord *record)
{
    return record->history.begun ? record->history : (MigrationHistory){ .begun = record->begun };
}

gboolean migration_get_history(const Migration *migration, MigrationHistory *ret)
{
    const JobRecord *record = migration->record;
    const GPtrArray *broken = migration->set ? migration->set->broken : NULL;

    *ret = history_of(record);
    if (record->history.begun)
        return TRUE;
    for (guint i = 0; record->recovers && broken && i < broken->len; i++) {
        const JobRecord *before = g_ptr_array_index(broken, i);

        if (is_domain(before, record->side, record->domain))
            *ret = history_of(before);
    }
    return FALSE;
}

void migration_set_history(Migration *migration, const MigrationHistory *history)
{
    migration->record->history = *history;
    migration_save(migration);
}

/* ---- broken ones that change ---- */

static JobRecord *find_broken(MigrationSet *set, MigrationSide side,
                              const guint8 session[MIGRATION_SESSION_LEN])
{
    for (guint i = 0; i < set->broken->len; i++) {
        JobRecord *record = g_ptr_array_index(set->broken, i);

        if (record->side == side && is_session(record, session))
            return record;
    }
    return NULL;
}

/* It broke before the answer to what somebody wanted of it had come. */
static void set_broken_on_purpose(Migration *migration)
{
    MigrationSet *set = migration->set;
    const JobRecord *record = migration->record;
    JobRecord *broken = find_broken(set, record->side, record->uri.session);
    g_autoptr(GError) error = NULL;

    if (!broken)
        return;
    broken->on_purpose = record->on_purpose;
    if (!job_record_save(broken, set->run_dir, &error))
        log_warning(&migration->log, "%s", error->message);
    tell_broken(set, broken->domain);
}

void migration_set_on_purpose(Migration *migration, gboolean on_purpose)
{
    if (migration->record->on_purpose == on_purpose)
        return;
    migration->record->on_purpose = on_purpose;
    if (migration->recorded)
        migration_save(migration);
    else if (migration->set)
        set_broken_on_purpose(migration);
}

void migration_set_on_broken(MigrationSet *set, MigrationBrokenFunc func, gpointer data)
{
    set->broken_func = func;
    set->broken_data = data;
}

void migration_set_on_forgotten(MigrationSet *set, MigrationForgottenFunc func, gpointer data)
{
    set->forgotten_func = func;
    set->forgotten_data = data;
}

char *migration_set_newest_broken(MigrationSet *set, MigrationSide side, const char *domain)
{
    for (guint i = set->broken->len; i > 0; i--) {
        const JobRecord *record = g_ptr_array_index(set->broken, i - 1);

        if (is_domain(record, side, domain))
            return job_record_id(record);
    }
    return NULL;
}

GPtrArray *migration_set_domains(MigrationSet *set)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < set->migrations->len; i++)
        g_ptr_array_add(names,
                        g_strdup(migration_domain(g_ptr_array_index(set->migrations, i))));
    for (guint i = 0; i < set->broken->len; i++) {
        const JobRecord *record = g_ptr_array_index(set->broken, i);

        g_ptr_array_add(names, g_strdup(record->domain));
    }
    return names;
}

const JobRecord *migration_set_find_record(MigrationSet *set, MigrationSide side,
                                           const guint8 session[MIGRATION_SESSION_LEN])
{
    for (guint i = 0; i < set->migrations->len; i++) {
        const Migration *migration = g_ptr_array_index(set->migrations, i);

        if (migration_side(migration) == side && is_session(migration->record, session))
            return migration->record;
    }
    prune_broken(set);
    return find_broken(set, side, session);
}

/* ---- finding everything again ---- */

static gboolean on_all_adopted(gpointer data)
{
    MigrationSet *set = data;
    g_autoptr(GPtrArray) domains = g_ptr_array_new_with_free_func(g_free);

    set->adopted_id = 0;
    for (guint i = 0; i < set->broken->len; i++) {
        const JobRecord *record = g_ptr_array_index(set->broken, i);

        g_ptr_array_add(domains, g_strdup(record->domain));
    }
    for (guint i = 0; i < domains->len; i++)
        tell_broken(set, g_ptr_array_index(domains, i));
    return G_SOURCE_REMOVE;
}

void migration_set_adopted(MigrationSet *set)
{
    if (--set->adopting == 0 && !set->adopted_id)
        set->adopted_id = g_idle_add(on_all_adopted, set);
}

/* Takes the record. */
static void find_again(MigrationSet *set, JobRecord *record)
{
    g_autoptr(Migration) migration = NULL;

    if (record->broken) {
        g_ptr_array_add(set->broken, record);
        return;
    }
    /* What stands at libvirtd may be what this daemon has set before. */
    record->speed_limit.again = TRUE;
    migration = migration_alloc(set, record);
    migration_adopt_helper(migration);
}

void migration_set_adopt(MigrationSet *set)
{
    g_autoptr(GPtrArray) records = job_record_load_all(set->run_dir);
    g_autoptr(GPtrArray) sockets = g_ptr_array_new();

    for (guint i = 0; i < records->len; i++) {
        const JobRecord *record = g_ptr_array_index(records, i);

        if (record->socket_path)
            g_ptr_array_add(sockets, record->socket_path);
        if (record->disks_path)
            g_ptr_array_add(sockets, record->disks_path);
    }
    run_dir_sweep(set->run_dir, sockets);
    placed_file_sweep(set->run_dir);
    set->adopting = 1; /* so that nobody is the last one before all have begun */
    g_ptr_array_set_free_func(records, NULL);
    for (guint i = 0; i < records->len; i++)
        find_again(set, g_ptr_array_index(records, i));
    prune_broken(set);
    migration_set_adopted(set);
}

/* ---- making room for a resume ---- */

typedef struct {
    gboolean also_whole;
    gint64 not_after;
    guint waiting;
    GSourceFunc func;
    gpointer data;
} Supersede;

/* A source QEMU that is cut off while it recovers can never be resumed again: see "recovers" in
 * ram/org.libvirt.Postcopy1.xml. */
static gboolean is_recovering(const Migration *migration)
{
    return migration_side(migration) == MIGRATION_SIDE_SOURCE && migration->record->recovers &&
           !migration->postcopy_active;
}

/* Somebody asks to resume what has not failed. */
static gboolean is_whole(const Migration *migration)
{
    return migration->record->streaming && !migration->over &&
           (!migration_has_lost_channel(migration) || is_recovering(migration));
}

static gboolean is_in_the_way(const Supersede *job, const Migration *migration)
{
    const JobRecord *record = migration->record;

    if ((!record->postcopy && !record->recovers) || record->begun > job->not_after)
        return FALSE;
    return job->also_whole || !is_whole(migration);
}

static gboolean on_all_superseded(gpointer data)
{
    Supersede *job = data;

    job->func(job->data);
    g_free(job);
    return G_SOURCE_REMOVE;
}

static void on_one_superseded(Supersede *job)
{
    if (--job->waiting == 0)
        on_all_superseded(job);
}

static void on_superseded(Migration *migration, gpointer data)
{
    if (!migration->ended)
        log_warning(&migration->log, "the helper has not ended in time for the resume");
    on_one_superseded(data);
}

/* How far it has come, and whether its channels are there, is known by now. */
static void on_reachable(Migration *migration, gpointer data)
{
    Supersede *job = data;

    if (migration->ended || migration->adopting || !is_in_the_way(job, migration)) {
        on_one_superseded(job);
        return;
    }
    migration_supersede(migration);
    migration_when_ended(migration, SUPERSEDE_TIMEOUT_MS, on_superseded, job);
}

void migration_set_supersede(MigrationSet *set, MigrationSide side, const char *domain,
                             gboolean also_whole, gint64 not_after, GSourceFunc func,
                             gpointer data)
{
    Supersede *job = g_new0(Supersede, 1);

    job->also_whole = also_whole;
    job->not_after = not_after;
    job->func = func;
    job->data = data;
    for (guint i = 0; i < set->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(set->migrations, i);

        if (!is_domain(migration->record, side, domain))
            continue;
        job->waiting++;
        migration_when_reachable(migration, REACHABLE_TIMEOUT_MS, on_reachable, job);
    }
    if (job->waiting == 0)
        g_idle_add(on_all_superseded, job);
}
