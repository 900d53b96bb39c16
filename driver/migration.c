/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a migration: made, helper heard, ended. What is particular to a side is in
 * migration_source.c and migration_destination.c. */
#include "config.h"

#include "driver/migration.h"

#include <glib/gi18n.h>
#include <pwd.h>
#include <string.h>

#include "driver/migration_priv.h"
#include "driver/run_dir.h"

/* A source that was told to stream and has not done so that long after its client left never will. */
#define ORPHAN_TIMEOUT_S 30

/* ---- waiting for something to happen ---- */

typedef enum { WAIT_ENDED, WAIT_RETURN_PATH } WaitFor;

typedef struct {
    Migration *migration;
    WaitFor what;
    MigrationFunc func;
    gpointer data;
    guint timer;
} Waiter;

static gboolean wait_is_over(const Migration *migration, WaitFor what)
{
    return migration->ended || (what == WAIT_RETURN_PATH && migration->return_path);
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

static void wake_waiters(Migration *migration)
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

void migration_when_return_path(Migration *migration, guint timeout_ms, MigrationFunc func,
                                gpointer data)
{
    wait_for(migration, WAIT_RETURN_PATH, timeout_ms, func, data);
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
    set->host_name = g_strdup(settings->host_name ? settings->host_name : g_get_host_name());
    set->run_dir = g_strdup(settings->run_dir);
    set->migrations = g_ptr_array_new_with_free_func((GDestroyNotify)migration_unref);
    return set;
}

void migration_set_free(MigrationSet *set)
{
    if (!set)
        return;
    for (guint i = 0; i < set->migrations->len; i++) {
        Migration *migration = g_ptr_array_index(set->migrations, i);

        migration_remove_socket(migration);
        if (migration->helper)
            helper_process_disown(migration->helper);
        migration->set = NULL;
    }
    g_ptr_array_unref(set->migrations);
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

        if (migration->side == MIGRATION_SIDE_DESTINATION && !migration->ended &&
            memcmp(migration->uri.session, session, MIGRATION_SESSION_LEN) == 0)
            return migration;
    }
    return NULL;
}

Migration *migration_set_find_source(MigrationSet *set, const char *domain)
{
    for (guint i = set->migrations->len; i > 0; i--) {
        Migration *migration = g_ptr_array_index(set->migrations, i - 1);

        if (migration->side == MIGRATION_SIDE_SOURCE && g_str_equal(migration->domain, domain))
            return migration;
    }
    return NULL;
}

/* ---- one migration ---- */

static const char *side_name(MigrationSide side)
{
    return side == MIGRATION_SIDE_SOURCE ? "source" : "destination";
}

Migration *migration_alloc(MigrationSet *set, MigrationSide side, const char *domain,
                           const guint8 session[MIGRATION_SESSION_LEN])
{
    Migration *migration = g_new0(Migration, 1);

    g_atomic_ref_count_init(&migration->refs);
    migration->set = set;
    migration->side = side;
    migration->domain = g_strdup(domain);
    memcpy(migration->uri.session, session, MIGRATION_SESSION_LEN);
    migration->id = g_strdup_printf("%02x%02x%02x%02x", session[0], session[1], session[2],
                                    session[3]);
    migration->waiters = g_ptr_array_new();
    migration->ended = TRUE; /* until there is a helper */
    migration->log = (LogContext){ .migration = migration->id,
                                   .side = side_name(side),
                                   .phase = "prepare",
                                   .channel = "main" };
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
    migration_remove_socket(migration);
    if (migration->helper) {
        helper_process_disown(migration->helper);
        helper_process_unref(migration->helper);
    }
    qemu_speed_free(migration->speed);
    g_ptr_array_unref(migration->waiters);
    migration_uri_clear(&migration->uri);
    g_free(migration->socket_path);
    g_free(migration->error);
    g_free(migration->domain);
    g_free(migration->id);
    g_free(migration);
}

void migration_remove_socket(Migration *migration)
{
    if (migration->socket_path && migration->set)
        run_dir_remove(migration->set->run_dir, migration->socket_path);
    g_clear_pointer(&migration->socket_path, g_free);
}

void migration_count_connection(Migration *migration)
{
    migration->streaming = TRUE;
    if (++migration->qemu_connections >= QEMU_CONNECTIONS_MAX)
        migration_remove_socket(migration);
}

MigrationSide migration_side(const Migration *migration)
{
    return migration->side;
}

const char *migration_domain(const Migration *migration)
{
    return migration->domain;
}

const char *migration_id(const Migration *migration)
{
    return migration->id;
}

const char *migration_error(const Migration *migration)
{
    return migration->error;
}

MigrationEndedBy migration_ended_by(const Migration *migration)
{
    return migration->ended_by;
}

void migration_set_aborted(Migration *migration)
{
    migration->aborted = TRUE;
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

void migration_cancel(Migration *migration, const char *reason)
{
    if (migration->ended || migration->cancelled || !migration->helper)
        return;
    log_info(&migration->log, "cancelled: %s", reason);
    migration->cancelled = TRUE;
    helper_process_cancel(migration->helper, reason);
}

void migration_give_up(Migration *migration, const char *reason)
{
    if (!migration->streaming)
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
             migration->streaming ? "the migration goes on" : "waiting whether it begins");
    if (!migration->streaming)
        g_timeout_add_seconds_full(G_PRIORITY_DEFAULT, ORPHAN_TIMEOUT_S, on_orphan_timeout,
                                   migration_ref(migration), (GDestroyNotify)migration_unref);
}

/* ---- what the helper says ---- */

static void on_state_changed(HelperProcess *helper, const char *state, const char *reason,
                             const char *ended_by, gpointer data)
{
    Migration *migration = data;
    gboolean failed = g_str_equal(state, "failed");

    log_message(&migration->log, failed ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "state %s%s%s", state,
                *reason ? ": " : "", reason);
    if (g_str_equal(state, "active"))
        migration->streaming = TRUE;
    if (failed && !migration->error)
        migration->error = g_strdup(reason);
    if (*ended_by)
        migration->ended_by = g_str_equal(ended_by, "qemu") ? MIGRATION_ENDED_BY_QEMU
                                                            : MIGRATION_ENDED_BY_OTHERS;
    if (failed || g_str_equal(state, "completed") || g_str_equal(state, "cancelled")) {
        g_autofree char *summary = helper_process_summary(helper);

        migration->over = TRUE;
        migration_remove_socket(migration);
        g_clear_pointer(&migration->speed, qemu_speed_free);
        log_info(&migration->log, "summary domain=%s state=%s %s", migration->domain, state,
                 summary);
    }
}

static void on_qemu_needed(HelperProcess *helper, gpointer data)
{
    migration_attach_qemu(data);
}

static void on_phase_changed(HelperProcess *helper, const char *phase, gpointer data)
{
    Migration *migration = data;

    log_info(&migration->log, "QEMU's migration: %s", phase);
    if (g_str_equal(phase, "device") || g_str_equal(phase, "postcopy-active"))
        migration_switched_over(migration);
}

static void on_qemu_connected(HelperProcess *helper, gpointer data)
{
    Migration *migration = data;

    log_info(&migration->log, migration->qemu_connections == 0
                                  ? "the source QEMU's stream has connected"
                                  : "the source QEMU's preempt connection is there");
    migration_count_connection(migration);
    /* What the try before has set for its link may be too slow for the helper to notice this one. */
    if (migration->speed_limit.again && migration->qemu_connections == 1)
        migration_want_speed(migration, 0);
}

static void on_return_path_opened(HelperProcess *helper, gpointer data)
{
    Migration *migration = data;

    migration->return_path = TRUE;
    wake_waiters(migration);
}

static void on_source_rate_wanted(HelperProcess *helper, guint64 bytes_per_second, gpointer data)
{
    migration_want_speed(data, bytes_per_second);
}

static void on_channel_refused(HelperProcess *helper, const char *address, const char *reason,
                               gpointer data)
{
    Migration *migration = data;

    log_warning(&migration->log, "channel from %s refused: %s", address, reason);
}

static void on_exited(HelperProcess *helper, gboolean success, const char *how, gpointer data)
{
    g_autoptr(Migration) migration = migration_ref(data);

    log_message(&migration->log, success || migration->cancelled ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR,
                "the helper ended: %s", how);
    if (!success && !migration->error && !migration->cancelled)
        migration->error = g_strdup_printf(_("the %s helper ended unexpectedly (%s)"),
                                           side_name(migration->side), how);
    migration->ended = TRUE;
    migration_remove_socket(migration);
    g_clear_pointer(&migration->speed, qemu_speed_free);
    wake_waiters(migration);
    if (migration->set)
        g_ptr_array_remove(migration->set->migrations, migration);
}

static const HelperHandlers helper_handlers = {
    .state_changed = on_state_changed,
    .phase_changed = on_phase_changed,
    .qemu_needed = on_qemu_needed,
    .qemu_connected = on_qemu_connected,
    .return_path_opened = on_return_path_opened,
    .source_rate_wanted = on_source_rate_wanted,
    .channel_refused = on_channel_refused,
    .exited = on_exited,
};

/* ---- starting the helper ---- */

static gboolean open_credentials(const Migration *migration, TlsFiles *files, GError **error)
{
    const Settings *s = migration->set->settings;
    gboolean server = migration->side == MIGRATION_SIDE_DESTINATION;

    if (s->migration_auth == MIGRATION_AUTH_PSK)
        return tls_files_open(files, TLS_FILE_PSK, s->migration_psk_file, FALSE, error);
    return tls_files_open(files, TLS_FILE_CA_CERT, s->ca_file, FALSE, error) &&
           tls_files_open(files, TLS_FILE_CA_CRL, s->crl_file, !s->crl_required, error) &&
           tls_files_open(files, TLS_FILE_CERT, server ? s->cert_file : s->client_cert_file, FALSE,
                          error) &&
           tls_files_open(files, TLS_FILE_KEY, server ? s->key_file : s->client_key_file, FALSE,
                          error);
}

static GVariant *bytes_variant(const guint8 *bytes, gsize len)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, bytes, len, 1);
}

static GVariant *helper_options(const Migration *migration)
{
    static const char *const compression_words[] = {
        [MIGRATION_COMPRESSION_AUTO] = "auto",
        [MIGRATION_COMPRESSION_ON] = "on",
        [MIGRATION_COMPRESSION_OFF] = "off",
    };
    const Settings *s = migration->set->settings;
    const char *auth = s->migration_auth == MIGRATION_AUTH_PSK ? "psk" : "x509";
    GVariantBuilder options;

    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&options, "{sv}", "session",
                          bytes_variant(migration->uri.session, MIGRATION_SESSION_LEN));
    g_variant_builder_add(&options, "{sv}", "token",
                          bytes_variant(migration->uri.token, MIGRATION_TOKEN_LEN));
    g_variant_builder_add(&options, "{sv}", "domain", g_variant_new_string(migration->domain));
    g_variant_builder_add(&options, "{sv}", "window", g_variant_new_uint64(s->migration_window));
    g_variant_builder_add(&options, "{sv}", "stage", g_variant_new_uint64(s->migration_stage));
    g_variant_builder_add(&options, "{sv}", "paced", g_variant_new_boolean(s->migration_pace_qemu));
    g_variant_builder_add(&options, "{sv}", "compression",
                          g_variant_new_string(compression_words[s->migration_compression]));
    g_variant_builder_add(&options, "{sv}", "compression-level",
                          g_variant_new_int32((gint32)s->migration_compression_level));
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

void migration_start_helper(Migration *migration, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
    g_auto(TlsFiles) files = TLS_FILES_INIT;
    GError *error = NULL;

    g_task_set_task_data(task, migration_ref(migration), (GDestroyNotify)migration_unref);
    if (!open_credentials(migration, &files, &error)) {
        g_task_return_error(task, error);
        return;
    }
    migration->helper =
        helper_process_spawn(migration->set->settings, migration->set->helper_user,
                             &helper_handlers, migration, &error);
    if (!migration->helper) {
        g_task_return_error(task, error);
        return;
    }
    migration->ended = FALSE;
    g_ptr_array_add(migration->set->migrations, migration_ref(migration));
    helper_process_configure(migration->helper, side_name(migration->side),
                             helper_options(migration), &files, on_configured,
                             g_steal_pointer(&task));
}

gboolean migration_start_helper_finish(Migration *migration, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}
