/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A daemon that starts takes the helpers over that the one before has started. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#include "driver/run_dir.h"
#include "tests/support/fake-port.h"
#include "tests/support/left-behind.h"

static void a_helper_that_lives_is_taken_over_and_heard_to_its_end(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);
    g_auto(FakeHelper) helper = { 0 };

    record->postcopy = FALSE;
    left_start_with(f, &helper, record);
    assert_false(migration_is_reachable(left_source_of(f)));
    wait_until(migration_is_reachable(left_source_of(f)));
    assert_true(migration_in_postcopy(left_source_of(f)));
    fake_helper_end(&helper, "completed", "");
    wait_until(!left_has_files(f));
    assert_null(left_source_of(f));
    assert_string_equal(f->told->str, "");
}

static void one_that_fails_after_it_was_taken_over_is_told(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(left_source_of(f)));
    fake_helper_end(&helper, "failed", "because");
    wait_until(f->told->len == 1);
    assert_null(left_source_of(f));
}

static void one_that_is_killed_after_it_was_taken_over_is_told(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(left_source_of(f)));
    fake_helper_leave(&helper);
    wait_until(f->told->len == 1);
}

static gboolean is_flagged(Left *f, guint8 number)
{
    return left_find(f, MIGRATION_SIDE_SOURCE, number)->reading_failed;
}

/* And so are its recoveries, which have not even read. */
static void one_whose_reading_failed_is_kept_as_such(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 2);
    g_auto(FakeHelper) first = { 0 };
    g_auto(FakeHelper) second = { 0 };

    left_start_with(f, &first, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(left_source_of(f)));
    g_object_set(first.object, "reading", "failed", NULL);
    fake_helper_end(&first, "failed", "because");
    wait_until(f->told->len == 1);
    assert_true(is_flagged(f, 1));
    migration_set_free(g_steal_pointer(&f->set));

    record->recovers = TRUE;
    left_start_with(f, &second, record);
    wait_until(migration_is_reachable(left_source_of(f)));
    assert_true(is_flagged(f, 1)); /* also from disk */
    g_object_set(second.object, "reading", "off", NULL);
    fake_helper_end(&second, "failed", "because");
    wait_until(left_find(f, MIGRATION_SIDE_SOURCE, 2)->broken);
    assert_true(is_flagged(f, 2));
}

static void one_that_reads_until_it_fails_is_not_kept_so(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(left_source_of(f)));
    g_object_set(helper.object, "reading", "reading", NULL);
    fake_helper_end(&helper, "failed", "because");
    wait_until(f->told->len == 1);
    assert_false(is_flagged(f, 1));
}

static void one_that_never_came_to_stream_is_cancelled(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_DESTINATION, 1);
    g_auto(FakeHelper) helper = { 0 };

    record->postcopy = FALSE;
    record->streaming = FALSE;
    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "state", "setup", "phase", "none", NULL);
    left_save(f, record);
    left_start(f);
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    fake_helper_end(&helper, "cancelled", "it was");
    wait_until(!left_has_files(f));
}

static Migration *destination_of(Left *f)
{
    return migration_set_lookup(f->set, left_find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session);
}

/* ---- a resume is asked for ---- */

static void supersede(Left *f, MigrationSide side, gboolean also_whole, gint64 not_after)
{
    migration_set_supersede(f->set, side, DOMAIN_NAME, also_whole, not_after, left_on_called, f);
}

static void lose_main(FakeHelper *helper)
{
    static const char *const lost[] = { "main", NULL };

    g_object_set(helper->object, "channels-lost", lost, NULL);
}

static void assert_left_alone(Left *f, FakeHelper *helper, MigrationSide side, gboolean also_whole,
                              gint64 not_after)
{
    guint before = f->calls;

    supersede(f, side, also_whole, not_after);
    wait_until(f->calls == before + 1);
    assert_string_equal(helper->calls->str, "");
}

static void assert_ended(Left *f, FakeHelper *helper, MigrationSide side, gboolean also_whole,
                         gint64 not_after)
{
    guint before = f->calls;

    supersede(f, side, also_whole, not_after);
    wait_until(g_str_equal(helper->calls->str, "cancel "));
    assert_int_equal(f->calls, before);
    fake_helper_end(helper, "cancelled", "it was");
    wait_until(f->calls == before + 1);
}

/* Whoever asks may fail. */
static void a_resume_supersedes_what_has_lost_its_peer_and_that_is_told(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    lose_main(&helper);
    assert_ended(f, &helper, MIGRATION_SIDE_SOURCE, FALSE, G_MAXINT64);
    wait_until(f->told->len == 1);
    assert_true(left_find(f, MIGRATION_SIDE_SOURCE, 1)->broken > 0);
}

static void a_resume_of_what_has_not_failed_breaks_nothing(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    assert_left_alone(f, &helper, MIGRATION_SIDE_SOURCE, FALSE, G_MAXINT64); /* not found yet */
    assert_true(migration_is_reachable(left_source_of(f)));
    assert_left_alone(f, &helper, MIGRATION_SIDE_SOURCE, FALSE, G_MAXINT64);

    migration_set_free(g_steal_pointer(&f->set));
    lose_main(&helper);
    left_start(f);
    wait_until(migration_is_reachable(left_source_of(f)));
    assert_ended(f, &helper, MIGRATION_SIDE_SOURCE, FALSE, G_MAXINT64);
}

static void a_resume_leaves_a_destination_with_all_its_channels(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "phase", "running", NULL);
    left_save(f, left_make_record(MIGRATION_SIDE_DESTINATION, 1));
    left_start(f);
    assert_left_alone(f, &helper, MIGRATION_SIDE_DESTINATION, FALSE, G_MAXINT64);
    assert_left_alone(f, &helper, MIGRATION_SIDE_DESTINATION, TRUE, 0); /* begun at 1 */
    assert_ended(f, &helper, MIGRATION_SIDE_DESTINATION, TRUE, 1);
    assert_non_null(left_find(f, MIGRATION_SIDE_DESTINATION, 1));
}

static void a_resume_ends_a_recovery_that_has_lost_its_source(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_DESTINATION, 1);
    g_auto(FakeHelper) helper = { 0 };

    record->recovers = TRUE;
    record->postcopy = FALSE;
    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "phase", "none", NULL);
    lose_main(&helper);
    left_save(f, record);
    left_start(f);
    assert_ended(f, &helper, MIGRATION_SIDE_DESTINATION, FALSE, G_MAXINT64);
}

static void a_resume_ends_nothing_before_the_switch_over(void **state)
{
    static const MigrationSide sides[] = { MIGRATION_SIDE_SOURCE, MIGRATION_SIDE_DESTINATION };
    Left *f = *state;

    for (gsize i = 0; i < G_N_ELEMENTS(sides); i++) {
        JobRecord *record = left_make_record(sides[i], 1);
        g_auto(FakeHelper) helper = { 0 };

        record->postcopy = FALSE;
        fake_helper_init(&helper, f, 1);
        g_object_set(helper.object, "phase", "active", NULL);
        lose_main(&helper);
        left_save(f, record);
        left_start(f);
        assert_left_alone(f, &helper, sides[i], FALSE, G_MAXINT64);
        assert_left_alone(f, &helper, sides[i], TRUE, G_MAXINT64);
        fake_helper_end(&helper, "failed", "because");
        wait_until(!left_has_files(f));
        migration_set_free(g_steal_pointer(&f->set));
    }
}

/* ---- what broke under the daemon before ---- */

static void a_recovery_that_never_began_leaves_what_it_should_have_recovered(void **state)
{
    Left *f = *state;
    JobRecord *old = left_make_record(MIGRATION_SIDE_SOURCE, 1);
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 2);
    g_auto(FakeHelper) helper = { 0 };

    old->broken = g_get_real_time() / G_USEC_PER_SEC;
    left_save(f, old);
    record->streaming = FALSE;
    record->postcopy = FALSE;
    record->recovers = TRUE;
    fake_helper_init(&helper, f, 2);
    g_object_set(helper.object, "state", "hello-sent", "phase", "none", NULL);
    left_save(f, record);
    left_start(f);
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    assert_string_equal(f->told->str, ""); /* it lives */
    fake_helper_end(&helper, "cancelled", "it was");
    wait_until(f->told->len == 1);
    left_settle(f);
    assert_string_equal(f->told->str, "1");
}

static void a_pause_that_is_refused_after_the_break_is_none(void **state)
{
    Left *f = *state;
    g_autoptr(Migration) migration = NULL;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    migration = migration_ref(left_source_of(f));
    wait_until(migration_is_reachable(migration));
    migration_set_paused(migration, TRUE);
    fake_helper_end(&helper, "failed", "because");
    wait_until(!left_source_of(f));
    left_settle(f);
    assert_string_equal(f->told->str, "");
    assert_true(left_find(f, MIGRATION_SIDE_SOURCE, 1)->on_purpose);
    migration_set_paused(migration, FALSE);
    assert_string_equal(f->told->str, "1");
    assert_false(left_find(f, MIGRATION_SIDE_SOURCE, 1)->on_purpose);
}

/* ---- whether it lives ---- */

static void become_helper(Left *f)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)getpid());

    g_free(f->settings->helper_path);
    f->settings->helper_path = NULL;
    assert_true(g_file_get_contents(path, &f->settings->helper_path, NULL, NULL));
}

static void one_whose_connection_ends_is_not_dead_for_that(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);
    g_auto(FakeHelper) helper = { 0 };

    become_helper(f);
    record->helper_pid = getpid();
    left_start_with(f, &helper, record);
    wait_until(migration_is_reachable(left_source_of(f)));
    fake_helper_leave(&helper);
    wait_until(!migration_is_reachable(left_source_of(f)));
    wait_until(migration_is_reachable(left_source_of(f)));
    assert_non_null(helper.connection);
    fake_helper_end(&helper, "completed", ""); /* which it is found to be the next time */
    wait_until(helper.connection);
    g_free(f->settings->helper_path);
    f->settings->helper_path = g_strdup("/gone");
    fake_helper_leave(&helper);
    wait_until(!left_has_files(f));
    assert_string_equal(f->told->str, "");
}

static gboolean on_caller(GSocketService *service, GSocketConnection *connection, GObject *source,
                          gpointer data)
{
    return TRUE; /* and it is closed */
}

static void one_that_does_not_speak_as_a_helper_is_killed(void **state)
{
    static const char *const argv[] = { "/bin/sleep", "100", NULL };
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);
    g_autofree char *path = job_record_control_path(f->dir, record->uri.session);
    g_autoptr(GSocket) socket = g_socket_new_from_fd(run_dir_listen(path, NULL), NULL);
    g_autoptr(GSocketService) service = g_socket_service_new();
    g_autoptr(GSubprocess) process =
        g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_NONE, NULL);

    assert_non_null(process);
    g_free(f->settings->helper_path);
    f->settings->helper_path = g_strdup(argv[0]);
    record->helper_pid = (pid_t)atoi(g_subprocess_get_identifier(process));
    assert_true(g_socket_listener_add_socket(G_SOCKET_LISTENER(service), socket, NULL, NULL));
    g_signal_connect(service, "incoming", G_CALLBACK(on_caller), NULL);
    left_save(f, record);
    left_start(f);
    wait_until(f->told->len == 1);
    assert_true(g_subprocess_wait(process, NULL, NULL));
    assert_true(g_subprocess_get_if_signaled(process));
    g_socket_service_stop(service);
}

static void on_prepared(GObject *source, GAsyncResult *result, gpointer data)
{
    GError **error = data;

    assert_false(g_task_propagate_boolean(G_TASK(result), error));
}

static char *put_file(Left *f, const char *name, const char *text, int mode)
{
    char *path = g_build_filename(f->dir, name, NULL);

    assert_true(g_file_set_contents_full(path, text, (gssize)strlen(text),
                                         G_FILE_SET_CONTENTS_NONE, mode, NULL));
    return path;
}

static void one_that_never_answers_after_its_start_is_killed(void **state)
{
    static const char script[] = "#!/bin/sh\ntrap '' TERM\nexec sleep 100\n";
    Left *f = *state;
    MigrationUri uri = { .host = (char *)"127.0.0.1", .port = 1 };
    SpeedLimit limit = { 0 };
    g_autoptr(Migration) migration = NULL;
    g_autoptr(GError) error = NULL;

    g_free(f->settings->helper_path);
    f->settings->helper_path = put_file(f, "mute", script, 0700);
    f->settings->migration_auth = MIGRATION_AUTH_PSK;
    f->settings->migration_psk_file = put_file(f, "psk", "name:00\n", 0600);
    left_start(f);
    migration = migration_new_source(f->set, DOMAIN_NAME, &uri, &limit);
    migration_connect(migration, NULL, on_prepared, &error);
    wait_until(error || left_source_of(f));
    assert_null(error);
    wait_until(error); /* in ten seconds */
    assert_non_null(strstr(error->message, "does not answer"));
    wait_until(!left_source_of(f));
}

/* ---- what QEMU and libvirt want of one ---- */

static void what_was_wanted_of_qemu_meanwhile_is_answered(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "qemu-wanted", 1, NULL);
    left_save(f, left_make_record(MIGRATION_SIDE_DESTINATION, 1)); /* it has no socket */
    left_start(f);
    wait_until(g_str_equal(helper.calls->str, "refuse "));
    fake_helper_end(&helper, "completed", "");
    wait_until(!left_has_files(f));
}

static void giving_up_before_the_switch_over_ends_one_that_lost_its_peer(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_DESTINATION, 1);
    g_auto(FakeHelper) helper = { 0 };
    Migration *migration;

    record->postcopy = FALSE;
    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "phase", "advise", "channels-lost", lost, NULL);
    left_save(f, record);
    left_start(f);
    migration = destination_of(f);
    wait_until(migration_is_reachable(migration));
    migration_give_up(migration, "because");
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    fake_helper_end(&helper, "cancelled", "it was");
    wait_until(!left_has_files(f));
}

static void giving_up_leaves_what_is_in_postcopy(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };
    Migration *migration;

    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "phase", "running", "channels-lost", lost, NULL);
    left_save(f, left_make_record(MIGRATION_SIDE_DESTINATION, 1));
    left_start(f);
    migration = destination_of(f);
    wait_until(migration_is_reachable(migration));
    migration_give_up(migration, "because");
    postcopy_migration_emit_qemu_needed(helper.object); /* is refused: there is no socket */
    wait_until(helper.calls->len > 0);
    assert_string_equal(helper.calls->str, "refuse ");
    fake_helper_end(&helper, "completed", "");
    wait_until(!left_has_files(f));
}

static void the_daemon_stops_and_starts_and_finds_it_again(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(left_source_of(f)));
    migration_set_free(g_steal_pointer(&f->set));
    assert_true(left_has_files(f));
    left_start(f);
    wait_until(migration_is_reachable(left_source_of(f)));
    fake_helper_end(&helper, "completed", "");
    wait_until(!left_has_files(f));
}

/* ---- the other host, dialled again ---- */

static void a_channel_lost_meanwhile_is_dialled_again(void **state)
{
    static const char *const lost[] = { "preempt", NULL };
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 0x5a);
    g_auto(FakeHelper) helper = { 0 };
    g_auto(FakePort) port = { 0 };

    fake_port_init(&port, "\003\001"); /* busy at first */
    record->uri.port = port.port;
    record->tls_name = g_strdup("cert.example.com");
    fake_helper_init(&helper, f, 0x5a);
    g_object_set(helper.object, "channels-lost", lost, NULL);
    left_save(f, record);
    left_start(f);
    wait_until(helper.calls->len > 0);
    assert_string_equal(helper.calls->str, "preempt@cert.example.com ");
    assert_true(helper.fd >= 0);
    assert_int_equal(port.callers, 2);
    assert_memory_equal(port.preamble, SESSION_PREAMBLE_MAGIC, SESSION_PREAMBLE_MAGIC_LEN);
    assert_int_equal(port.preamble[SESSION_PREAMBLE_MAGIC_LEN], 0x5a);
    postcopy_migration_emit_channel_resumed(helper.object, "preempt");
    postcopy_migration_emit_channel_lost(helper.object, "main", "again");
    wait_until(strstr(helper.calls->str, "main@"));
    fake_helper_end(&helper, "completed", "");
    wait_until(!left_has_files(f));
}

static void a_peer_that_does_not_know_the_session_is_abandoned(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);
    g_auto(FakeHelper) helper = { 0 };
    g_auto(FakePort) port = { 0 };

    fake_port_init(&port, "\002");
    record->uri.port = port.port;
    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "channels-lost", lost, NULL);
    left_save(f, record);
    left_start(f);
    wait_until(helper.calls->len > 0);
    assert_string_equal(helper.calls->str, "abandon ");
    postcopy_migration_emit_channel_lost(helper.object, "main", "once more");
    fake_helper_end(&helper, "failed", "abandoned");
    wait_until(f->told->len == 1);
    assert_int_equal(port.callers, 3);
}

static void one_that_has_completed_may_still_want_its_peer(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);
    g_auto(FakeHelper) helper = { 0 };
    g_auto(FakePort) port = { 0 };

    fake_port_init(&port, "\001");
    record->uri.port = port.port;
    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "state", "completed", "channels-lost", lost, NULL);
    left_save(f, record);
    left_start(f);
    wait_until(helper.calls->len > 0);
    assert_string_equal(helper.calls->str, "main@127.0.0.1 ");
    fake_helper_leave(&helper);
    wait_until(!left_has_files(f));
    assert_string_equal(f->told->str, "");
}

static void a_destination_is_not_dialled(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };
    g_auto(FakePort) port = { 0 };
    JobRecord *record = left_make_record(MIGRATION_SIDE_DESTINATION, 1);

    fake_port_init(&port, "\001");
    record->uri.port = port.port;
    left_start_with(f, &helper, record);
    wait_until(destination_of(f) && helper.connection);
    wait_until(migration_is_reachable(destination_of(f)));
    postcopy_migration_emit_channel_lost(helper.object, "main", "a cut");
    postcopy_migration_emit_channel_resumed(helper.object, "main");
    fake_helper_end(&helper, "completed", "");
    wait_until(!left_has_files(f));
    assert_int_equal(port.callers, 0);
}

#define WITH_SET(f) cmocka_unit_test_setup_teardown(f, left_setup, left_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SET(a_helper_that_lives_is_taken_over_and_heard_to_its_end),
        WITH_SET(one_that_fails_after_it_was_taken_over_is_told),
        WITH_SET(one_that_is_killed_after_it_was_taken_over_is_told),
        WITH_SET(one_whose_reading_failed_is_kept_as_such),
        WITH_SET(one_that_reads_until_it_fails_is_not_kept_so),
        WITH_SET(one_that_never_came_to_stream_is_cancelled),
        WITH_SET(a_resume_supersedes_what_has_lost_its_peer_and_that_is_told),
        WITH_SET(a_resume_of_what_has_not_failed_breaks_nothing),
        WITH_SET(a_resume_leaves_a_destination_with_all_its_channels),
        WITH_SET(a_resume_ends_a_recovery_that_has_lost_its_source),
        WITH_SET(a_resume_ends_nothing_before_the_switch_over),
        WITH_SET(a_recovery_that_never_began_leaves_what_it_should_have_recovered),
        WITH_SET(a_pause_that_is_refused_after_the_break_is_none),
        WITH_SET(one_whose_connection_ends_is_not_dead_for_that),
        WITH_SET(one_that_does_not_speak_as_a_helper_is_killed),
        WITH_SET(one_that_never_answers_after_its_start_is_killed),
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
