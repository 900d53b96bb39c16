/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The helper of a migration: started; what it says; its end. How one is found again is in
 * migration_adopt.c. */
#include "config.h"

#include <glib/gi18n.h>

#include "driver/migration_files.h"
#include "driver/migration_priv.h"
#include "driver/run_dir.h"
#include "ram/job_limits.h"
#include "util/autofd.h"

/* ---- what it says ---- */

/* Its QEMU needs nothing any more. */
static void stop_serving(Migration *migration)
{
    migration_remove_socket(migration);
    migration_remove_disks(migration);
    g_clear_pointer(&migration->speed, qemu_speed_free);
}

static void hear_state(Migration *migration, const char *state, const char *reason,
                       const char *ended_by)
{
    gboolean failed = g_str_equal(state, "failed");

    log_message(&migration->log, failed ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "state %s%s%s", state,
                *reason ? ": " : "", reason);
    if (g_str_equal(state, "active") && !migration->record->streaming) {
        migration->record->streaming = TRUE;
        migration_save(migration);
    }
    if (failed && !migration->error)
        migration->error = g_strdup(reason);
    if (*ended_by)
        migration->ended_by = g_str_equal(ended_by, "qemu") ? MIGRATION_ENDED_BY_QEMU
                                                            : MIGRATION_ENDED_BY_OTHERS;
    migration->completed = g_str_equal(state, "completed");
    migration->over = failed || migration->completed || g_str_equal(state, "cancelled");
    if (!migration->over)
        return;
    migration_wake_waiters(migration);
    stop_serving(migration);
    migration_forget_placed(migration);
    /* One that has completed may still have to tell its peer. */
    if (!migration->completed)
        migration_stop_redialling(migration);
    /* What broke before has been recovered from. */
    if (migration->completed)
        migration_set_forget(migration->set, migration_side(migration),
                             migration_domain(migration));
}

static const char *text_or_null(const char *text)
{
    return text && *text ? text : NULL;
}

static void on_state_changed(HelperProcess *helper, const char *state, const char *reason,
                             const char *ended_by, gpointer data)
{
    Migration *migration = data;
    gboolean was_over = migration->over;
    g_autofree char *summary = NULL;

    hear_state(migration, state, reason, ended_by);
    /* One that is found again says what it has said before. */
    if (!was_over)
        migration_notify(migration, MIGRATION_NOTICE_STATE, state, text_or_null(reason));
    if (!migration->over)
        return;
    summary = helper_process_summary(helper);
    log_info(&migration->log, "summary domain=%s state=%s %s", migration_domain(migration), state,
             summary);
}

static void on_qemu_needed(HelperProcess *helper, gpointer data)
{
    migration_attach_qemu(data);
}

void migration_hear_phase(Migration *migration, const char *phase)
{
    if (g_str_equal(phase, "postcopy-active"))
        migration->postcopy_active = TRUE;
    if (g_str_equal(phase, "discard"))
        migration->switching = TRUE;
    if (migration->record->postcopy || !migration_phase_is_postcopy(migration, phase))
        return;
    migration->record->postcopy = TRUE;
    migration_save(migration);
    migration_wake_waiters(migration);
}

static void on_phase_changed(HelperProcess *helper, const char *phase, gpointer data)
{
    Migration *migration = data;

    log_info(&migration->log, "QEMU's migration: %s", phase);
    migration_hear_phase(migration, phase);
    migration_offer_memory(migration, phase);
    migration_place_pages(migration, phase);
    migration_notify(migration, MIGRATION_NOTICE_PHASE, phase, NULL);
    if (!migration->record->memory &&
        (g_str_equal(phase, "device") || g_str_equal(phase, "postcopy-active")))
        migration_switched_over(migration);
}

static void on_qemu_connected(HelperProcess *helper, gpointer data)
{
    Migration *migration = data;
    const JobRecord *record = migration->record;

    log_info(&migration->log, record->qemu_connections == 0
                                  ? "the source QEMU's stream has connected"
                                  : "the source QEMU's preempt connection is there");
    migration_count_connection(migration);
    /* What the try before has set for its link may be too slow for the helper to notice this
     * one. */
    if (record->speed_limit.again && record->qemu_connections == 1)
        migration_want_speed(migration, 0);
}

static void on_return_path_opened(HelperProcess *helper, gpointer data)
{
    Migration *migration = data;

    migration->return_path = TRUE;
    migration_wake_waiters(migration);
}

static void on_source_rate_wanted(HelperProcess *helper, guint64 bytes_per_second, gpointer data)
{
    migration_want_speed(data, bytes_per_second);
}

/* ---- its channels ---- */

static LogContext channel_log(const Migration *migration, const Channel *channel)
{
    LogContext log = migration->log;

    log.channel = channel->kind;
    return log;
}

/* The destination has agreed to a channel when it comes up; the source hears of that agreement as
 * the answer to its call. */
static void on_channels_changed(HelperProcess *helper, gpointer data)
{
    Migration *migration = data;

    if (migration_side(migration) == MIGRATION_SIDE_SOURCE || migration->adopting)
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(migration->channels); i++) {
        HelperChannel known;

        if (helper_process_channel(helper, migration->channels[i].kind, &known))
            migration_channel_opened(migration, migration->channels[i].kind);
    }
}

static void on_channel_lost(HelperProcess *helper, const char *kind, const char *reason,
                            gpointer data)
{
    Migration *migration = data;
    Channel *channel = migration_find_channel(migration, kind);
    LogContext log;

    if (!channel || (migration->over && !migration->completed))
        return;
    log = channel_log(migration, channel);
    if (channel->lost_at == 0) {
        channel->lost_at = g_get_monotonic_time();
        log_warning(&log, "the connection to the other host is lost: %s", reason);
        migration_notify(migration, MIGRATION_NOTICE_LINK_LOST, kind, reason);
    } else {
        log_debug(&log, "still without a connection: %s", reason);
    }
    if (migration_side(migration) == MIGRATION_SIDE_SOURCE)
        migration_redial(migration, channel);
}

static void on_channel_resumed(HelperProcess *helper, const char *kind, gpointer data)
{
    Migration *migration = data;
    Channel *channel = migration_find_channel(migration, kind);
    LogContext log;

    if (!channel || channel->lost_at == 0)
        return;
    log = channel_log(migration, channel);
    channel->lost_ms = (g_get_monotonic_time() - channel->lost_at) / 1000;
    log_info(&log, "the connection to the other host is back after %" G_GINT64_FORMAT " ms",
             channel->lost_ms);
    channel->lost_at = 0;
    migration_notify(migration, MIGRATION_NOTICE_LINK_RESTORED, kind, NULL);
    if (channel->redial)
        redial_resumed(channel->redial);
}

static void on_channel_refused(HelperProcess *helper, const char *address, const char *reason,
                               gpointer data)
{
    Migration *migration = data;

    log_warning(&migration->log, "channel from %s refused: %s", address, reason);
}

static void on_disks_wanted(HelperProcess *helper, guint number, gpointer data)
{
    migration_want_disks(data, number);
}

static void on_disks_ended(HelperProcess *helper, guint number, const char *reason, gpointer data)
{
    migration_disks_ended(data, number, reason);
}

/* ---- its end ---- */

/* What it could not tell any more: it was killed, or nobody listened. */
static void read_outcome(Migration *migration)
{
    g_auto(JobOutcomeText) outcome = { 0 };

    if (migration->over || !migration->recorded ||
        !job_record_load_outcome(migration->set->run_dir, migration->record->uri.session, &outcome))
        return;
    migration_hear_phase(migration, outcome.phase);
    log_info(&migration->log, "the last that the helper has left: state=%s phase=%s",
             outcome.state, outcome.phase);
    if (!g_str_equal(outcome.state, "active"))
        hear_state(migration, outcome.state, outcome.reason, outcome.ended_by);
}

/* In words of the helper's, also where it could not say it. */
static const char *end_state(const Migration *migration)
{
    if (migration->completed)
        return "completed";
    return migration->cancelled ? "cancelled" : "failed";
}

/* The process is gone. */
void migration_helper_ended(Migration *migration, gboolean success, const char *how)
{
    gboolean was_over = migration->over;

    migration_ref(migration);
    read_outcome(migration);
    if (!success && !migration->over && !migration->error && !migration->cancelled)
        migration->error = g_strdup_printf(_("the %s helper ended unexpectedly (%s)"),
                                           migration_side_name(migration), how);
    if (!was_over)
        migration_notify(migration, MIGRATION_NOTICE_STATE, end_state(migration),
                         migration_error(migration));
    migration->ended = TRUE;
    migration_notify(migration, MIGRATION_NOTICE_ENDED, NULL, migration_error(migration));
    stop_serving(migration);
    migration_stop_redialling(migration);
    g_ptr_array_remove(migration->set->migrations, migration);
    migration_keep_or_remove(migration);
    migration_wake_waiters(migration);
    migration_unref(migration);
}

static void on_exited(HelperProcess *helper, gboolean success, const char *how, gpointer data)
{
    Migration *migration = data;

    if (migration_look_again(migration))
        return;
    log_message(&migration->log,
                success || migration->cancelled ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR,
                "the helper ended: %s", how);
    migration_helper_ended(migration, success, how);
}

const HelperHandlers migration_helper_handlers = {
    .state_changed = on_state_changed,
    .phase_changed = on_phase_changed,
    .qemu_needed = on_qemu_needed,
    .qemu_connected = on_qemu_connected,
    .return_path_opened = on_return_path_opened,
    .source_rate_wanted = on_source_rate_wanted,
    .channels_changed = on_channels_changed,
    .channel_lost = on_channel_lost,
    .channel_resumed = on_channel_resumed,
    .channel_refused = on_channel_refused,
    .disks_wanted = on_disks_wanted,
    .disks_ended = on_disks_ended,
    .exited = on_exited,
};

/* ---- starting the helper ---- */

static gboolean open_credentials(const Migration *migration, TlsFiles *files, GError **error)
{
    TlsEndpoint endpoint = migration_side(migration) == MIGRATION_SIDE_DESTINATION
                               ? TLS_ENDPOINT_SERVER
                               : TLS_ENDPOINT_CLIENT;

    return migration_files_open(migration->set->settings, endpoint, files, error);
}

static GVariant *bytes_variant(const guint8 *bytes, gsize len)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, bytes, len, 1);
}

/* How it notices and endures a link that breaks. */
static void add_link_options(GVariantBuilder *options, const Migration *migration)
{
    const Settings *s = migration->set->settings;

    g_variant_builder_add(options, "{sv}", "heartbeat-interval",
                          g_variant_new_uint32(s->keepalive_interval));
    g_variant_builder_add(options, "{sv}", "heartbeat-count",
                          g_variant_new_uint32(s->keepalive_count));
    g_variant_builder_add(options, "{sv}", "reconnect-timeout",
                          g_variant_new_uint32(s->reconnect_timeout));
    g_variant_builder_add(options, "{sv}", "recovers",
                          g_variant_new_boolean(migration->record->recovers));
    g_variant_builder_add(options, "{sv}", "memory",
                          g_variant_new_boolean(migration->record->memory));
    g_variant_builder_add(options, "{sv}", "rekey-records",
                          g_variant_new_uint32(s->migration_rekey_records));
}

static void add_compression_wishes(GVariantBuilder *options, const MigrateCompression *c)
{
    if (c->methods[0])
        g_variant_builder_add(options, "{sv}", "compression-methods",
                              g_variant_new_strv(c->methods, -1));
    if (c->zlib_level > 0)
        g_variant_builder_add(options, "{sv}", "compression-zlib-level",
                              g_variant_new_int32(c->zlib_level));
    if (c->threads > 0)
        g_variant_builder_add(options, "{sv}", "compression-threads",
                              g_variant_new_uint32(MIN(c->threads, JOB_COMPRESSION_THREADS_MAX)));
}

/* What the user asks for goes before what virtpostcopyd.conf has. */
static void add_compression_options(GVariantBuilder *options, const Migration *migration)
{
    static const char *const words[] = {
        [MIGRATION_COMPRESSION_AUTO] = "auto",
        [MIGRATION_COMPRESSION_ON] = "on",
        [MIGRATION_COMPRESSION_OFF] = "off",
    };
    const Settings *s = migration->set->settings;
    const MigrateCompression *c = &migration->wishes.compression;
    const char *word = words[s->migration_compression];
    gint level = c->zstd_level > 0 ? c->zstd_level : (gint)s->migration_compression_level;

    if (c->wish != MIGRATE_COMPRESSION_UNSAID)
        word = c->wish == MIGRATE_COMPRESSION_ASKED ? "on" : "off";
    g_variant_builder_add(options, "{sv}", "compression", g_variant_new_string(word));
    g_variant_builder_add(options, "{sv}", "compression-level", g_variant_new_int32(level));
    add_compression_wishes(options, c);
}

static GVariant *helper_options(const Migration *migration)
{
    const Settings *s = migration->set->settings;
    const char *auth = s->migration_auth == MIGRATION_AUTH_PSK ? "psk" : "x509";
    GVariantBuilder options;

    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&options, "{sv}", "session",
                          bytes_variant(migration->record->uri.session, MIGRATION_SESSION_LEN));
    g_variant_builder_add(&options, "{sv}", "token",
                          bytes_variant(migration->record->uri.token, MIGRATION_TOKEN_LEN));
    g_variant_builder_add(&options, "{sv}", "domain",
                          g_variant_new_string(migration_domain(migration)));
    g_variant_builder_add(&options, "{sv}", "window", g_variant_new_uint64(s->migration_window));
    g_variant_builder_add(&options, "{sv}", "stage", g_variant_new_uint64(s->migration_stage));
    g_variant_builder_add(&options, "{sv}", "paced", g_variant_new_boolean(s->migration_pace_qemu));
    add_compression_options(&options, migration);
    g_variant_builder_add(&options, "{sv}", "bulk",
                          g_variant_new_uint32(MIN(migration->wishes.bulk, JOB_BULK_MAX)));
    add_link_options(&options, migration);
    g_variant_builder_add(&options, "{sv}", "auth", g_variant_new_string(auth));
    if (s->migration_psk_identity)
        g_variant_builder_add(&options, "{sv}", "psk-identity",
                              g_variant_new_string(s->migration_psk_identity));
    if (s->migration_allowed_dn_list)
        g_variant_builder_add(
            &options, "{sv}", "allowed-dns",
            g_variant_new_strv((const char *const *)s->migration_allowed_dn_list, -1));
    return g_variant_builder_end(&options);
}

static void on_configured(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Migration *migration = g_task_get_task_data(task);
    GError *error = NULL;

    if (!helper_process_finish(migration->helper, result, &error))
        g_task_return_error(task, error);
    else
        g_task_return_boolean(task, TRUE);
}

/* With the files of its record: they are there before it is. */
static gboolean spawn(Migration *migration, GError **error)
{
    MigrationSet *set = migration->set;
    int listener = -1, outcome = -1;

    if (!migration_make_record(migration, &listener, &outcome, error))
        return FALSE;
    migration->helper = helper_process_spawn(set->settings, set->helper_user, listener, outcome,
                                             &migration_helper_handlers, migration, error);
    if (!migration->helper) {
        migration_remove_record(migration);
        return FALSE;
    }
    migration->record->helper_pid = helper_process_pid(migration->helper);
    migration_save(migration);
    migration->ended = FALSE;
    g_ptr_array_add(set->migrations, migration_ref(migration));
    return TRUE;
}

void migration_start_helper(Migration *migration, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    GError *error = NULL;

    g_task_set_task_data(task, migration_ref(migration), (GDestroyNotify)migration_unref);
    if (!open_credentials(migration, &files, &error) || !spawn(migration, &error)) {
        g_task_return_error(task, error);
        return;
    }
    helper_process_configure(migration->helper, migration_side_name(migration),
                             helper_options(migration), &files, on_configured,
                             g_steal_pointer(&task));
}

gboolean migration_start_helper_finish(Migration *migration, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}
