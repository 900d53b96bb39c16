/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which of two reasons a migration is said to have failed for: its helper's, or the loss of a
 * connection that copied a disk. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "driver/migration_priv.h"

static Migration *source(void)
{
    JobRecord *record = job_record_new();

    record->side = MIGRATION_SIDE_SOURCE;
    record->domain = g_strdup("vm1");
    return migration_alloc(NULL, record);
}

static Migration *with_lost_disk(void)
{
    Migration *migration = source();

    migration_disks_ended(migration, 1, "Connection reset by peer");
    return migration;
}

static gboolean says(const Migration *migration, const char *words)
{
    const char *error = migration_error(migration);

    return error && strstr(error, words);
}

static void a_lost_disk_is_the_reason_where_the_helper_has_none(void **state)
{
    g_autoptr(Migration) migration = with_lost_disk();

    assert_true(says(migration, "copies a disk"));
    assert_true(says(migration, "reset by peer"));
}

static void a_lost_disk_is_the_reason_where_the_helpers_only_saw_a_qemu_go(void **state)
{
    static const MigrationEndedBy rows[] = { MIGRATION_ENDED_BY_QEMU, MIGRATION_ENDED_BY_OTHERS };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Migration) migration = with_lost_disk();

        migration->error = g_strdup("QEMU has closed its stream");
        migration->ended_by = rows[i];
        assert_true(says(migration, "copies a disk"));
    }
}

static void a_helpers_death_keeps_its_own_words(void **state)
{
    g_autoptr(Migration) migration = with_lost_disk();

    migration->error = g_strdup("the helper ended unexpectedly");
    assert_true(says(migration, "ended unexpectedly"));
}

static void a_failure_in_postcopy_keeps_its_own_words(void **state)
{
    g_autoptr(Migration) migration = with_lost_disk();

    migration->record->postcopy = TRUE;
    assert_null(migration_error(migration));
    migration->error = g_strdup("the link is lost");
    migration->ended_by = MIGRATION_ENDED_BY_OTHERS;
    assert_true(says(migration, "the link is lost"));
}

static void a_disk_that_ends_in_order_is_no_reason(void **state)
{
    g_autoptr(Migration) migration = source();

    migration_disks_ended(migration, 1, "");
    assert_null(migration_error(migration));
}

static void in_postcopy_no_disk_is_copied_any_more(void **state)
{
    g_autoptr(Migration) migration = source();

    migration->record->postcopy = TRUE;
    migration_disks_ended(migration, 1, "Connection reset by peer");
    assert_null(migration_error(migration));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_disk_is_the_reason_where_the_helper_has_none),
        cmocka_unit_test(a_lost_disk_is_the_reason_where_the_helpers_only_saw_a_qemu_go),
        cmocka_unit_test(a_helpers_death_keeps_its_own_words),
        cmocka_unit_test(a_failure_in_postcopy_keeps_its_own_words),
        cmocka_unit_test(a_disk_that_ends_in_order_is_no_reason),
        cmocka_unit_test(in_postcopy_no_disk_is_copied_any_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
