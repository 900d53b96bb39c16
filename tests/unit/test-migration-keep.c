/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A daemon that starts finds what helpers have left that are dead by then. Those that live are in
 * test-migration-adopt.c. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "driver/run_dir.h"
#include "tests/support/left-behind.h"
#include "util/autofd.h"

static void a_source_that_broke_in_postcopy_is_told(void **state)
{
    Left *f = *state;
    g_autoptr(GPtrArray) records = NULL;

    left_save(f, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    left_save_outcome(f, 1, "active", "postcopy-active");
    left_start(f);
    wait_until(f->told->len == 1);
    assert_string_equal(f->told->str, "1");
    assert_non_null(left_find(f, MIGRATION_SIDE_SOURCE, 1));
    assert_null(left_find(f, MIGRATION_SIDE_DESTINATION, 1));
    assert_null(migration_set_find_source(f->set, DOMAIN_NAME));
    records = job_record_load_all(f->dir);
    assert_int_equal(records->len, 1);
    assert_int_equal(left_count_files(f), 1); /* only the record */
    assert_true(((const JobRecord *)g_ptr_array_index(records, 0))->broken > 0);
}

static void one_that_broke_under_the_daemon_before_is_told_again(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 2);

    record->broken = g_get_real_time() / G_USEC_PER_SEC;
    left_save(f, record);
    left_start(f);
    wait_until(f->told->len == 1);
    assert_string_equal(f->told->str, "2");
}

static void all_of_a_domain_are_told_the_oldest_first(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 4);

    left_save(f, left_make_record(MIGRATION_SIDE_SOURCE, 3));
    left_save(f, left_make_record(MIGRATION_SIDE_SOURCE, 2));
    record->broken = g_get_real_time() / G_USEC_PER_SEC;
    record->begun = 1;
    record->on_purpose = TRUE; /* a user has resumed it since */
    left_save(f, record);
    left_start(f);
    wait_until(f->told->len > 0);
    left_settle(f);
    assert_string_equal(f->told->str, "423");
}

static void none_is_told_of_a_domain_whose_last_was_paused(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 2);

    left_save(f, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    record->on_purpose = TRUE;
    left_save(f, record);
    left_start(f);
    wait_until(!left_source_of(f));
    left_settle(f);
    assert_string_equal(f->told->str, "");
}

static void an_end_that_cannot_be_recorded_is_found_by_the_next_daemon(void **state)
{
    Left *f = *state;
    g_autoptr(GPtrArray) records = NULL;
    g_autofree char *outcome = NULL;
    g_autofree char *conf = NULL;
    g_autofree char *saved = NULL;
    guint8 session[MIGRATION_SESSION_LEN];

    memset(session, 1, sizeof session);
    outcome = job_record_outcome_path(f->dir, session);
    conf = g_strdup_printf("%.*sconf", (int)(strlen(outcome) - strlen("outcome")), outcome);
    saved = g_build_filename(f->dir, "saved", NULL);
    left_save(f, left_make_record(MIGRATION_SIDE_SOURCE, 1));
    left_save_outcome(f, 1, "failed", "postcopy-active");
    left_start(f);
    assert_int_equal(g_rename(conf, saved), 0);
    assert_int_equal(g_mkdir(conf, 0700), 0); /* which a file cannot replace */
    wait_until(f->told->len == 1);
    assert_int_equal(access(outcome, F_OK), 0);

    assert_int_equal(g_rmdir(conf), 0);
    assert_int_equal(g_rename(saved, conf), 0);
    migration_set_free(g_steal_pointer(&f->set));
    left_start(f);
    wait_until(f->told->len == 2);
    assert_int_not_equal(access(outcome, F_OK), 0);
    records = job_record_load_all(f->dir);
    assert_int_equal(records->len, 1);
}

static void what_was_cancelled_or_paused_is_kept_and_not_told(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);

    record->on_purpose = TRUE;
    left_save(f, record);
    left_start(f);
    wait_until(!migration_set_find_source(f->set, DOMAIN_NAME));
    left_settle(f);
    assert_string_equal(f->told->str, "");
    assert_non_null(left_find(f, MIGRATION_SIDE_SOURCE, 1));
}

static void a_destination_is_kept_and_not_told(void **state)
{
    Left *f = *state;

    left_save(f, left_make_record(MIGRATION_SIDE_DESTINATION, 1));
    left_start(f);
    wait_until(left_find(f, MIGRATION_SIDE_DESTINATION, 1)->broken);
    left_settle(f);
    assert_string_equal(f->told->str, "");
}

static void one_that_ended_before_the_switch_over_is_removed(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);
    g_autofree char *path = run_dir_socket_path(f->dir, "out-");
    autofd fd = run_dir_listen(path, NULL);

    assert_true(fd >= 0);
    record->postcopy = FALSE;
    record->socket_path = g_strdup(path);
    left_save(f, record);
    left_save_outcome(f, 1, "failed", "failed");
    left_start(f);
    assert_int_equal(access(path, F_OK), 0);
    wait_until(!left_has_files(f));
    assert_string_equal(f->told->str, "");
}

static void the_outcome_knows_of_a_switch_over_that_nobody_saw(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);

    record->postcopy = FALSE;
    left_save(f, record);
    left_save_outcome(f, 1, "failed", "postcopy-paused");
    left_start(f);
    wait_until(f->told->len == 1);
}

static void the_last_phases_of_both_qemus_belong_to_postcopy(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);

    record->postcopy = FALSE;
    left_save(f, record);
    left_save_outcome(f, 1, "failed", "completed");
    record = left_make_record(MIGRATION_SIDE_DESTINATION, 2);
    record->postcopy = FALSE;
    left_save(f, record);
    left_save_outcome(f, 2, "failed", "end");
    left_start(f);
    wait_until(f->told->len == 1);
    assert_non_null(left_find(f, MIGRATION_SIDE_DESTINATION, 2));
}

static void one_that_completed_takes_the_broken_ones_before_it_along(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_SOURCE, 1);

    record->broken = g_get_real_time() / G_USEC_PER_SEC;
    left_save(f, record);
    left_save(f, left_make_record(MIGRATION_SIDE_SOURCE, 2));
    left_save_outcome(f, 2, "completed", "completed");
    left_start(f);
    wait_until(!left_has_files(f));
    assert_string_equal(f->told->str, "");
}

static void broken_ones_are_dropped_with_time_and_with_number(void **state)
{
    Left *f = *state;
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;

    for (guint8 number = 1; number <= 5; number++) {
        JobRecord *record = left_make_record(MIGRATION_SIDE_DESTINATION, number);

        record->broken = number == 5 ? now - 600 - 60 * 60 - 60 : now - 60 * 60;
        left_save(f, record);
    }
    left_start(f);
    assert_null(left_find(f, MIGRATION_SIDE_DESTINATION, 5)); /* too old */
    assert_null(left_find(f, MIGRATION_SIDE_DESTINATION, 1)); /* three are newer */
    assert_non_null(left_find(f, MIGRATION_SIDE_DESTINATION, 3));
    assert_non_null(left_find(f, MIGRATION_SIDE_DESTINATION, 4));
    left_settle(f);
}

static void count_forgotten(MigrationSide side, const char *domain, gpointer data)
{
    guint *count = data;

    assert_int_equal(side, MIGRATION_SIDE_DESTINATION);
    assert_string_equal(domain, DOMAIN_NAME);
    ++*count;
}

static void forgotten_ones_are_gone(void **state)
{
    Left *f = *state;
    JobRecord *record = left_make_record(MIGRATION_SIDE_DESTINATION, 1);
    guint told = 0;

    record->broken = g_get_real_time() / G_USEC_PER_SEC;
    left_save(f, record);
    left_start(f);
    migration_set_on_forgotten(f->set, count_forgotten, &told);
    migration_set_forget(f->set, MIGRATION_SIDE_SOURCE, DOMAIN_NAME);
    assert_int_equal(told, 0);
    assert_non_null(left_find(f, MIGRATION_SIDE_DESTINATION, 1));
    migration_set_forget(f->set, MIGRATION_SIDE_DESTINATION, DOMAIN_NAME);
    assert_int_equal(told, 1);
    migration_set_on_forgotten(f->set, NULL, NULL);
    assert_null(left_find(f, MIGRATION_SIDE_DESTINATION, 1));
    assert_false(left_has_files(f));
    left_settle(f);
}

#define WITH_SET(f) cmocka_unit_test_setup_teardown(f, left_setup, left_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SET(a_source_that_broke_in_postcopy_is_told),
        WITH_SET(one_that_broke_under_the_daemon_before_is_told_again),
        WITH_SET(all_of_a_domain_are_told_the_oldest_first),
        WITH_SET(none_is_told_of_a_domain_whose_last_was_paused),
        WITH_SET(an_end_that_cannot_be_recorded_is_found_by_the_next_daemon),
        WITH_SET(the_last_phases_of_both_qemus_belong_to_postcopy),
        WITH_SET(what_was_cancelled_or_paused_is_kept_and_not_told),
        WITH_SET(a_destination_is_kept_and_not_told),
        WITH_SET(one_that_ended_before_the_switch_over_is_removed),
        WITH_SET(the_outcome_knows_of_a_switch_over_that_nobody_saw),
        WITH_SET(one_that_completed_takes_the_broken_ones_before_it_along),
        WITH_SET(broken_ones_are_dropped_with_time_and_with_number),
        WITH_SET(forgotten_ones_are_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
