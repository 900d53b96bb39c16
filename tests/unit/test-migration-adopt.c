/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A daemon that starts takes the helpers over that the one before has started. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

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

static void a_resume_supersedes_what_is_there_and_nothing_is_told(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    migration_set_supersede(f->set, MIGRATION_SIDE_SOURCE, DOMAIN_NAME, left_on_called, f);
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    assert_int_equal(f->calls, 0);
    fake_helper_end(&helper, "cancelled", "it was");
    wait_until(f->calls == 1);
    assert_string_equal(f->told->str, "");
    assert_true(left_find(f, MIGRATION_SIDE_SOURCE, 1)->broken > 0);
}

static void a_resume_of_what_has_not_failed_breaks_nothing(void **state)
{
    static const char *const lost[] = { "main", NULL };
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    left_start_with(f, &helper, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    wait_until(migration_is_reachable(left_source_of(f)));
    migration_set_supersede(f->set, MIGRATION_SIDE_SOURCE, DOMAIN_NAME, left_on_called, f);
    wait_until(f->calls == 1);
    assert_string_equal(helper.calls->str, "");
    assert_non_null(left_source_of(f));

    migration_set_free(g_steal_pointer(&f->set));
    postcopy_migration_set_channels_lost(helper.object, lost);
    left_start(f);
    wait_until(migration_is_reachable(left_source_of(f)));
    migration_set_supersede(f->set, MIGRATION_SIDE_SOURCE, DOMAIN_NAME, left_on_called, f);
    wait_until(g_str_equal(helper.calls->str, "cancel "));
    fake_helper_end(&helper, "cancelled", "it was");
    wait_until(f->calls == 2);
}

static void what_was_wanted_of_qemu_meanwhile_is_answered(void **state)
{
    Left *f = *state;
    g_auto(FakeHelper) helper = { 0 };

    fake_helper_init(&helper, f, 1);
    g_object_set(helper.object, "qemu-wanted", 1, NULL);
    left_save(f, left_make_record(MIGRATION_SIDE_DESTINATION, 1)); /* without a socket: all were made */
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
    migration = migration_set_lookup(f->set, left_find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session);
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
    migration = migration_set_lookup(f->set, left_find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session);
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
    assert_int_equal(port.callers, 1);
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
    wait_until(migration_set_lookup(f->set, left_find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session) &&
               helper.connection);
    wait_until(migration_is_reachable(migration_set_lookup(
        f->set, left_find(f, MIGRATION_SIDE_DESTINATION, 1)->uri.session)));
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
