/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A daemon that starts finds the migrations of the one before: helpers that live (here: an object
 * of this program's own behind the same socket), and what the dead have left. */
#include "config.h"

#include "driver/job_record.h"
#include "driver/migration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <gio/gunixfdlist.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "driver/run_dir.h"
#include "ram/job_outcome.h"
#include "ram/postcopy-dbus.h"
#include "tests/support/fake-port.h"
#include "util/autofd.h"

#define WAIT_S 10
#define DOMAIN_NAME "guest"

typedef struct {
    char *dir;
    Settings *settings;
    MigrationSet *set;
    GString *told; /* first digits of the sessions that broke, in order */
    guint calls;   /* of on_call */
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *conf = NULL;

    f->dir = g_dir_make_tmp("test-migration-keep-XXXXXX", NULL);
    conf = g_strdup_printf("helper_user = 'root'\nrun_dir = '%s'\nrecover_timeout = 600\n", f->dir);
    f->settings = settings_parse(conf, strlen(conf), "conf", NULL);
    f->told = g_string_new(NULL);
    *state = f;
    return f->settings ? 0 : -1;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    g_autoptr(GDir) dir = NULL;
    const char *name;
    int left;

    migration_set_free(f->set);
    dir = g_dir_open(f->dir, 0, NULL);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(f->dir, name, NULL);

        g_unlink(path);
    }
    left = g_rmdir(f->dir);
    settings_free(f->settings);
    g_string_free(f->told, TRUE);
    g_free(f->dir);
    g_free(f);
    return left;
}

static gboolean on_wait_over(gpointer data)
{
    gboolean *over = data;

    *over = TRUE;
    return G_SOURCE_CONTINUE;
}

#define wait_until(condition)                                                   \
    do {                                                                        \
        gboolean over_ = FALSE;                                                 \
        guint timer_ = g_timeout_add_seconds(WAIT_S, on_wait_over, &over_);     \
        while (!(condition) && !over_)                                          \
            g_main_context_iteration(NULL, TRUE);                               \
        g_source_remove(timer_);                                                \
        if (!(condition))                                                       \
            fail_msg("not in %d seconds: %s", WAIT_S, #condition);              \
    } while (0)

static void on_broken(MigrationSet *set, const JobRecord *record, gpointer data)
{
    Fixture *f = data;

    g_string_append_printf(f->told, "%x", record->uri.session[0]);
}

static gboolean on_call(gpointer data)
{
    Fixture *f = data;

    f->calls++;
    return G_SOURCE_REMOVE;
}

/* What a daemon has written of a migration in post-copy; number becomes its session id and its age. */
static JobRecord *make_record(MigrationSide side, guint8 number)
{
    JobRecord *record = job_record_new();

    record->side = side;
    record->domain = g_strdup(DOMAIN_NAME);
    record->uri.host = g_strdup("127.0.0.1");
    record->uri.port = 1;
    memset(record->uri.session, number, MIGRATION_SESSION_LEN);
    record->streaming = TRUE;
    record->postcopy = TRUE;
    record->begun = number;
    return record;
}

static void save(Fixture *f, JobRecord *record)
{
    assert_true(job_record_save(record, f->dir, NULL));
    job_record_free(record);
}

static void save_outcome(Fixture *f, guint8 number, const char *state, const char *phase)
{
    guint8 session[MIGRATION_SESSION_LEN];
    g_autofree char *text = job_outcome_text(state, phase, "", "as the test says");
    autofd fd = -1;

    memset(session, number, sizeof session);
    fd = job_record_make_outcome(f->dir, session, NULL);
    assert_true(fd >= 0);
    assert_true(job_outcome_write(fd, text, NULL));
}

static const JobRecord *find(Fixture *f, MigrationSide side, guint8 number)
{
    guint8 session[MIGRATION_SESSION_LEN];

    memset(session, number, sizeof session);
    return migration_set_find_record(f->set, side, session);
}

static guint count_files(Fixture *f)
{
    g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

static gboolean has_files(Fixture *f)
{
    return count_files(f) > 0;
}

/* As the daemon starts. */
static void start(Fixture *f)
{
    GError *error = NULL;

    f->set = migration_set_new(f->settings, &error);
    assert_non_null(f->set);
    migration_set_on_broken(f->set, on_broken, f);
    migration_set_adopt(f->set);
}

/* No helper is left: what is broken is told in the next turns of the loop, or not at all. */
static void settle(Fixture *f)
{
    migration_set_supersede(f->set, MIGRATION_SIDE_SOURCE, "nobody", on_call, f);
    wait_until(f->calls == 1);
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

/* ---- the dead ---- */

static void a_source_that_broke_in_postcopy_is_told(void **state)
{
    Fixture *f = *state;
    g_autoptr(GPtrArray) records = NULL;

    save(f, make_record(MIGRATION_SIDE_SOURCE, 1));
    save_outcome(f, 1, "active", "postcopy-active");
    start(f);
    wait_until(f->told->len == 1);
    assert_string_equal(f->told->str, "1");
    assert_non_null(find(f, MIGRATION_SIDE_SOURCE, 1));
    assert_null(find(f, MIGRATION_SIDE_DESTINATION, 1));
    assert_null(migration_set_find_source(f->set, DOMAIN_NAME));
    records = job_record_load_all(f->dir);
    assert_int_equal(records->len, 1);
    assert_int_equal(count_files(f), 1); /* only the record */
    assert_true(((const JobRecord *)g_ptr_array_index(records, 0))->broken > 0);
}

static void one_that_broke_under_the_daemon_before_is_told_again(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 2);

    record->broken = g_get_real_time() / G_USEC_PER_SEC;
    save(f, record);
    start(f);
    wait_until(f->told->len == 1);
    assert_string_equal(f->told->str, "2");
}

static void only_the_newest_of_a_domain_is_told(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 4);

    save(f, make_record(MIGRATION_SIDE_SOURCE, 3));
    save(f, make_record(MIGRATION_SIDE_SOURCE, 2));
    record->broken = g_get_real_time() / G_USEC_PER_SEC;
    record->begun = 1;
    save(f, record);
    start(f);
    wait_until(f->told->len > 0);
    settle(f);
    assert_string_equal(f->told->str, "3");
}

static void what_was_cancelled_or_paused_is_kept_and_not_told(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 1);

    record->on_purpose = TRUE;
    save(f, record);
    start(f);
    wait_until(!migration_set_find_source(f->set, DOMAIN_NAME));
    settle(f);
    assert_string_equal(f->told->str, "");
    assert_non_null(find(f, MIGRATION_SIDE_SOURCE, 1));
}

static void a_destination_is_kept_and_not_told(void **state)
{
    Fixture *f = *state;

    save(f, make_record(MIGRATION_SIDE_DESTINATION, 1));
    start(f);
    wait_until(find(f, MIGRATION_SIDE_DESTINATION, 1)->broken);
    settle(f);
    assert_string_equal(f->told->str, "");
}

static void one_that_ended_before_the_switch_over_is_removed(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 1);
    g_autofree char *path = run_dir_socket_path(f->dir, "out-");
    autofd fd = run_dir_listen(path, NULL);

    assert_true(fd >= 0);
    record->postcopy = FALSE;
    record->socket_path = g_strdup(path);
    save(f, record);
    save_outcome(f, 1, "failed", "failed");
    start(f);
    assert_int_equal(access(path, F_OK), 0);
    wait_until(!has_files(f));
    assert_string_equal(f->told->str, "");
}

static void the_outcome_knows_of_a_switch_over_that_nobody_saw(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 1);

    record->postcopy = FALSE;
    save(f, record);
    save_outcome(f, 1, "failed", "postcopy-paused");
    start(f);
    wait_until(f->told->len == 1);
}

static void one_that_completed_takes_the_broken_ones_before_it_along(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 1);

    record->broken = g_get_real_time() / G_USEC_PER_SEC;
    save(f, record);
    save(f, make_record(MIGRATION_SIDE_SOURCE, 2));
    save_outcome(f, 2, "completed", "completed");
    start(f);
    wait_until(!has_files(f));
    assert_string_equal(f->told->str, "");
}

static void broken_ones_are_dropped_with_time_and_with_number(void **state)
{
    Fixture *f = *state;
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;

    for (guint8 number = 1; number <= 5; number++) {
        JobRecord *record = make_record(MIGRATION_SIDE_DESTINATION, number);

        record->broken = number == 5 ? now - 600 - 60 * 60 - 60 : now - 60 * 60;
        save(f, record);
    }
    start(f);
    assert_null(find(f, MIGRATION_SIDE_DESTINATION, 5)); /* too old */
    assert_null(find(f, MIGRATION_SIDE_DESTINATION, 1)); /* three are newer */
    assert_non_null(find(f, MIGRATION_SIDE_DESTINATION, 3));
    assert_non_null(find(f, MIGRATION_SIDE_DESTINATION, 4));
    settle(f);
}

static void forgotten_ones_are_gone(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_DESTINATION, 1);

    record->broken = g_get_real_time() / G_USEC_PER_SEC;
    save(f, record);
    start(f);
    migration_set_forget(f->set, MIGRATION_SIDE_SOURCE, DOMAIN_NAME);
    assert_non_null(find(f, MIGRATION_SIDE_DESTINATION, 1));
    migration_set_forget(f->set, MIGRATION_SIDE_DESTINATION, DOMAIN_NAME);
    assert_null(find(f, MIGRATION_SIDE_DESTINATION, 1));
    assert_false(has_files(f));
    settle(f);
}

/* ---- the living ---- */

typedef struct {
    GSocketService *service;
    GDBusConnection *connection;
    PostcopyMigration *object;
    GString *calls;
    int fd; /* of the last call, or -1 */
} Helper;

static void on_helper_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    Helper *helper = data;
    GError *error = NULL;

    helper->connection = g_dbus_connection_new_finish(result, &error);
    assert_non_null(helper->connection);
    assert_true(g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(helper->object),
                                                 helper->connection,
                                                 "/org/libvirt/Postcopy1/Migration", NULL));
    g_dbus_connection_start_message_processing(helper->connection);
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *connection,
                            GObject *source, gpointer data)
{
    g_dbus_connection_new(G_IO_STREAM(connection), NULL,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                              G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                          NULL, NULL, on_helper_connected, data);
    return TRUE;
}

static gboolean on_cancel(PostcopyMigration *object, GDBusMethodInvocation *call,
                          const char *reason, gpointer data)
{
    Helper *helper = data;

    g_string_append(helper->calls, "cancel ");
    postcopy_migration_complete_cancel(object, call);
    return TRUE;
}

static gboolean on_refuse(PostcopyMigration *object, GDBusMethodInvocation *call,
                          const char *reason, gpointer data)
{
    Helper *helper = data;

    g_string_append(helper->calls, "refuse ");
    postcopy_migration_complete_refuse_qemu(object, call);
    return TRUE;
}

static gboolean on_abandon(PostcopyMigration *object, GDBusMethodInvocation *call,
                           const char *reason, gpointer data)
{
    Helper *helper = data;

    g_string_append(helper->calls, "abandon ");
    postcopy_migration_complete_abandon_peer(object, call);
    return TRUE;
}

static gboolean on_reconnect(PostcopyMigration *object, GDBusMethodInvocation *call,
                             GUnixFDList *fds, GVariant *handle, const char *host,
                             const char *kind, gpointer data)
{
    Helper *helper = data;

    g_string_append_printf(helper->calls, "%s@%s ", kind, host);
    autofd_clear(&helper->fd);
    helper->fd = g_unix_fd_list_get(fds, 0, NULL);
    postcopy_migration_complete_reconnect_channel(object, call, NULL);
    return TRUE;
}

static void helper_init(Helper *helper, Fixture *f, guint8 number)
{
    static const char *const none[] = { NULL };
    guint8 session[MIGRATION_SESSION_LEN];
    g_autofree char *path = NULL;
    g_autoptr(GSocket) socket = NULL;

    memset(session, number, sizeof session);
    path = job_record_control_path(f->dir, session);
    socket = g_socket_new_from_fd(run_dir_listen(path, NULL), NULL);
    assert_non_null(socket);
    helper->fd = -1;
    helper->calls = g_string_new(NULL);
    helper->service = g_socket_service_new();
    assert_true(g_socket_listener_add_socket(G_SOCKET_LISTENER(helper->service), socket, NULL,
                                             NULL));
    g_signal_connect(helper->service, "incoming", G_CALLBACK(on_incoming), helper);
    helper->object = postcopy_migration_skeleton_new();
    g_object_set(helper->object, "state", "active", "phase", "postcopy-active", "last-error", "",
                 "ended-by", "", "tls-version", "", "tls-cipher", "", "peer-name", "",
                 "channels-lost", none, NULL);
    g_signal_connect(helper->object, "handle-cancel", G_CALLBACK(on_cancel), helper);
    g_signal_connect(helper->object, "handle-refuse-qemu", G_CALLBACK(on_refuse), helper);
    g_signal_connect(helper->object, "handle-abandon-peer", G_CALLBACK(on_abandon), helper);
    g_signal_connect(helper->object, "handle-reconnect-channel", G_CALLBACK(on_reconnect), helper);
}

/* As if it had ended. */
static void helper_leave(Helper *helper)
{
    if (helper->connection)
        g_dbus_connection_close_sync(helper->connection, NULL, NULL);
    g_clear_object(&helper->connection);
}

static void helper_end(Helper *helper, const char *state, const char *reason)
{
    postcopy_migration_set_state(helper->object, state);
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(helper->object));
    postcopy_migration_emit_state_changed(helper->object, state, reason, "");
    g_dbus_connection_flush_sync(helper->connection, NULL, NULL);
    helper_leave(helper);
}

static void helper_clear(Helper *helper)
{
    helper_leave(helper);
    g_socket_service_stop(helper->service);
    g_socket_listener_close(G_SOCKET_LISTENER(helper->service));
    g_object_unref(helper->service);
    g_object_unref(helper->object);
    g_string_free(helper->calls, TRUE);
    autofd_clear(&helper->fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Helper, helper_clear)

static void start_with(Fixture *f, Helper *helper, JobRecord *record)
{
    helper_init(helper, f, record->uri.session[0]);
    save(f, record);
    start(f);
}

static Migration *source_of(Fixture *f)
{
    return migration_set_find_source(f->set, DOMAIN_NAME);
}

static void a_helper_that_lives_is_taken_over_and_heard_to_its_end(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 1);
    g_auto(Helper) helper = { 0 };

    record->postcopy = FALSE;
    start_with(f, &helper, record);
    assert_false(migration_is_reachable(source_of(f)));
    wait_until(migration_is_reachable(source_of(f)));
    assert_true(migration_in_postcopy(source_of(f)));
    helper_end(&helper, "completed", "");
    wait_until(!has_files(f));
    assert_null(source_of(f));
    assert_string_equal(f->told->str, "");
}

static void one_that_fails_after_it_was_taken_over_is_told(void **state)
{
    Fixture *f = *state;
    g_auto(Helper) helper = { 0 };

    start_with(f, &helper, make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(source_of(f)));
    helper_end(&helper, "failed", "because");
    wait_until(f->told->len == 1);
    assert_null(source_of(f));
}

static void one_that_is_killed_after_it_was_taken_over_is_told(void **state)
{
    Fixture *f = *state;
    g_auto(Helper) helper = { 0 };

    start_with(f, &helper, make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(source_of(f)));
    helper_leave(&helper);
    wait_until(f->told->len == 1);
}

static void one_that_never_came_to_stream_is_cancelled(void **state)
{
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_DESTINATION, 1);
    g_auto(Helper) helper = { 0 };

    record->postcopy = FALSE;
    record->streaming = FALSE;
    helper_init(&helper, f, 1);
    g_object_set(helper.object, "state", "setup", "phase", "none", NULL);
    save(f, record);
    start(f);
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    helper_end(&helper, "cancelled", "it was");
    wait_until(!has_files(f));
}

static void a_resume_supersedes_what_is_there_and_nothing_is_told(void **state)
{
    Fixture *f = *state;
    g_auto(Helper) helper = { 0 };

    start_with(f, &helper, make_record(MIGRATION_SIDE_SOURCE, 1));
    migration_set_supersede(f->set, MIGRATION_SIDE_SOURCE, DOMAIN_NAME, on_call, f);
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    assert_int_equal(f->calls, 0);
    helper_end(&helper, "cancelled", "it was");
    wait_until(f->calls == 1);
    assert_string_equal(f->told->str, "");
    assert_true(find(f, MIGRATION_SIDE_SOURCE, 1)->broken > 0);
}

static void a_resume_of_what_has_not_failed_breaks_nothing(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Fixture *f = *state;
    g_auto(Helper) helper = { 0 };

    start_with(f, &helper, make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(source_of(f)));
    migration_set_supersede(f->set, MIGRATION_SIDE_SOURCE, DOMAIN_NAME, on_call, f);
    wait_until(f->calls == 1);
    assert_string_equal(helper.calls->str, "");
    assert_non_null(source_of(f));

    migration_set_free(g_steal_pointer(&f->set));
    postcopy_migration_set_channels_lost(helper.object, lost);
    start(f);
    wait_until(migration_is_reachable(source_of(f)));
    migration_set_supersede(f->set, MIGRATION_SIDE_SOURCE, DOMAIN_NAME, on_call, f);
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    helper_end(&helper, "cancelled", "it was");
    wait_until(f->calls == 2);
}

static void what_was_wanted_of_qemu_meanwhile_is_answered(void **state)
{
    Fixture *f = *state;
    g_auto(Helper) helper = { 0 };

    helper_init(&helper, f, 1);
    g_object_set(helper.object, "qemu-wanted", 1, NULL);
    save(f, make_record(MIGRATION_SIDE_DESTINATION, 1)); /* without a socket: all were made */
    start(f);
    wait_until(g_str_equal(helper.calls->str, "refuse "));
    helper_end(&helper, "completed", "");
    wait_until(!has_files(f));
}

static void giving_up_before_the_switch_over_ends_one_that_lost_its_peer(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_DESTINATION, 1);
    g_auto(Helper) helper = { 0 };
    Migration *migration;

    record->postcopy = FALSE;
    helper_init(&helper, f, 1);
    g_object_set(helper.object, "phase", "advise", "channels-lost", lost, NULL);
    save(f, record);
    start(f);
    migration = migration_set_lookup(f->set, find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session);
    wait_until(migration_is_reachable(migration));
    migration_give_up(migration, "because");
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    helper_end(&helper, "cancelled", "it was");
    wait_until(!has_files(f));
}

static void giving_up_leaves_what_is_in_postcopy(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Fixture *f = *state;
    g_auto(Helper) helper = { 0 };
    Migration *migration;

    helper_init(&helper, f, 1);
    g_object_set(helper.object, "phase", "running", "channels-lost", lost, NULL);
    save(f, make_record(MIGRATION_SIDE_DESTINATION, 1));
    start(f);
    migration = migration_set_lookup(f->set, find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session);
    wait_until(migration_is_reachable(migration));
    migration_give_up(migration, "because");
    postcopy_migration_emit_qemu_needed(helper.object); /* is refused: there is no socket */
    wait_until(helper.calls->len > 0);
    assert_string_equal(helper.calls->str, "refuse ");
    helper_end(&helper, "completed", "");
    wait_until(!has_files(f));
}

static void the_daemon_stops_and_starts_and_finds_it_again(void **state)
{
    Fixture *f = *state;
    g_auto(Helper) helper = { 0 };

    start_with(f, &helper, make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(source_of(f)));
    migration_set_free(g_steal_pointer(&f->set));
    assert_true(has_files(f));
    start(f);
    wait_until(migration_is_reachable(source_of(f)));
    helper_end(&helper, "completed", "");
    wait_until(!has_files(f));
}

/* ---- the other host, dialled again ---- */

static void a_channel_lost_meanwhile_is_dialled_again(void **state)
{
    static const char *const lost[] = { "preempt", NULL };
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 0x5a);
    g_auto(Helper) helper = { 0 };
    g_auto(FakePort) port = { 0 };

    fake_port_init(&port, "\003\001"); /* busy at first */
    record->uri.port = port.port;
    record->tls_name = g_strdup("cert.example.com");
    helper_init(&helper, f, 0x5a);
    g_object_set(helper.object, "channels-lost", lost, NULL);
    save(f, record);
    start(f);
    wait_until(helper.calls->len > 0);
    assert_string_equal(helper.calls->str, "preempt@cert.example.com ");
    assert_true(helper.fd >= 0);
    assert_int_equal(port.callers, 2);
    assert_memory_equal(port.preamble, SESSION_PREAMBLE_MAGIC, SESSION_PREAMBLE_MAGIC_LEN);
    assert_int_equal(port.preamble[SESSION_PREAMBLE_MAGIC_LEN], 0x5a);
    postcopy_migration_emit_channel_resumed(helper.object, "preempt");
    postcopy_migration_emit_channel_lost(helper.object, "main", "again");
    wait_until(strstr(helper.calls->str, "main@"));
    helper_end(&helper, "completed", "");
    wait_until(!has_files(f));
}

static void a_peer_that_does_not_know_the_session_is_abandoned(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 1);
    g_auto(Helper) helper = { 0 };
    g_auto(FakePort) port = { 0 };

    fake_port_init(&port, "\002");
    record->uri.port = port.port;
    helper_init(&helper, f, 1);
    g_object_set(helper.object, "channels-lost", lost, NULL);
    save(f, record);
    start(f);
    wait_until(helper.calls->len > 0);
    assert_string_equal(helper.calls->str, "abandon ");
    postcopy_migration_emit_channel_lost(helper.object, "main", "once more");
    helper_end(&helper, "failed", "abandoned");
    wait_until(f->told->len == 1);
    assert_int_equal(port.callers, 1);
}

static void one_that_has_completed_may_still_want_its_peer(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Fixture *f = *state;
    JobRecord *record = make_record(MIGRATION_SIDE_SOURCE, 1);
    g_auto(Helper) helper = { 0 };
    g_auto(FakePort) port = { 0 };

    fake_port_init(&port, "\001");
    record->uri.port = port.port;
    helper_init(&helper, f, 1);
    g_object_set(helper.object, "state", "completed", "channels-lost", lost, NULL);
    save(f, record);
    start(f);
    wait_until(helper.calls->len > 0);
    assert_string_equal(helper.calls->str, "main@127.0.0.1 ");
    helper_leave(&helper);
    wait_until(!has_files(f));
    assert_string_equal(f->told->str, "");
}

static void a_destination_is_not_dialled(void **state)
{
    Fixture *f = *state;
    g_auto(Helper) helper = { 0 };
    g_auto(FakePort) port = { 0 };
    JobRecord *record = make_record(MIGRATION_SIDE_DESTINATION, 1);

    fake_port_init(&port, "\001");
    record->uri.port = port.port;
    start_with(f, &helper, record);
    wait_until(migration_set_lookup(f->set, find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session) &&
               helper.connection);
    wait_until(migration_is_reachable(migration_set_lookup(
        f->set, find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session)));
    postcopy_migration_emit_channel_lost(helper.object, "main", "a cut");
    postcopy_migration_emit_channel_resumed(helper.object, "main");
    helper_end(&helper, "completed", "");
    wait_until(!has_files(f));
    assert_int_equal(port.callers, 0);
}

#define WITH_SET(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SET(a_source_that_broke_in_postcopy_is_told),
        WITH_SET(one_that_broke_under_the_daemon_before_is_told_again),
        WITH_SET(only_the_newest_of_a_domain_is_told),
        WITH_SET(what_was_cancelled_or_paused_is_kept_and_not_told),
        WITH_SET(a_destination_is_kept_and_not_told),
        WITH_SET(one_that_ended_before_the_switch_over_is_removed),
        WITH_SET(the_outcome_knows_of_a_switch_over_that_nobody_saw),
        WITH_SET(one_that_completed_takes_the_broken_ones_before_it_along),
        WITH_SET(broken_ones_are_dropped_with_time_and_with_number),
        WITH_SET(forgotten_ones_are_gone),
        WITH_SET(a_helper_that_lives_is_taken_over_and_heard_to_its_end),
        WITH_SET(one_that_fails_after_it_was_taken_over_is_told),
        WITH_SET(one_that_is_killed_after_it_was_taken_over_is_told),
        WITH_SET(one_that_never_came_to_stream_is_cancelled),
        WITH_SET(a_resume_supersedes_what_is_there_and_nothing_is_told),
        WITH_SET(a_resume_of_what_has_not_failed_breaks_nothing),
        WITH_SET(what_was_wanted_of_qemu_meanwhile_is_answered),
        WITH_SET(giving_up_before_the_switch_over_ends_one_that_lost_its_peer),
        WITH_SET(giving_up_leaves_what_is_in_postcopy),
        WITH_SET(the_daemon_stops_and_starts_and_finds_it_again),
        WITH_SET(a_channel_lost_meanwhile_is_dialled_again),
        WITH_SET(a_peer_that_does_not_know_the_session_is_abandoned),
        WITH_SET(one_that_has_completed_may_still_want_its_peer),
        WITH_SET(a_destination_is_not_dialled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
