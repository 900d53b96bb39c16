/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is kept of a migration: over several sessions, over a daemon's restart, and for how long
 * after its end. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "driver/migration_account.h"
#include "driver/migration_priv.h"

#define DOMAIN "vm1"

/* begun: later ones are newer. */
static Migration *session(MigrationSide side, const char *domain, gint64 begun, gboolean recovers)
{
    JobRecord *record = job_record_new();
    Migration *migration;

    record->side = side;
    record->domain = g_strdup(domain);
    record->begun = begun;
    record->recovers = recovers;
    record->postcopy = recovers;
    migration = migration_alloc(NULL, record);
    return migration;
}

static void says(MigrationAccounts *accounts, Migration *migration, const char *state)
{
    migration_accounts_notice(accounts, migration, MIGRATION_NOTICE_STATE, state);
}

static void ends(MigrationAccounts *accounts, Migration *migration)
{
    migration_accounts_notice(accounts, migration, MIGRATION_NOTICE_ENDED, NULL);
}

static void link_is(MigrationAccounts *accounts, Migration *migration, gboolean up,
                    const char *kind)
{
    MigrationNotice notice = up ? MIGRATION_NOTICE_LINK_RESTORED : MIGRATION_NOTICE_LINK_LOST;

    migration_accounts_notice(accounts, migration, notice, kind);
}

static JobFigures figures_of(MigrationAccounts *accounts, const char *domain)
{
    JobFigures figures = { 0 };

    if (!migration_accounts_figures(accounts, domain, &figures))
        fail_msg("nothing is known of %s", domain);
    return figures;
}

static gboolean is_known(MigrationAccounts *accounts, const char *domain)
{
    g_auto(JobFigures) figures = { 0 };

    return migration_accounts_figures(accounts, domain, &figures);
}

static void it_lives_from_begin_to_end(void **state)
{
    g_autoptr(MigrationAccounts) accounts = migration_accounts_new();
    g_autoptr(Migration) migration =
        session(MIGRATION_SIDE_SOURCE, DOMAIN, g_get_real_time() - 5 * G_USEC_PER_SEC, FALSE);

    assert_false(is_known(accounts, DOMAIN));
    says(accounts, migration, "setup");
    says(accounts, migration, "active");
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_int_equal(f.outcome, JOB_OUTCOME_NONE);
        assert_true(f.connected && !f.kept && !f.link_lost);
        assert_true(f.elapsed_us >= 5 * G_USEC_PER_SEC);
    }
    says(accounts, migration, "completed");
    ends(accounts, migration);
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);
        g_auto(JobFigures) again = figures_of(accounts, DOMAIN);

        assert_int_equal(f.outcome, JOB_OUTCOME_COMPLETED);
        assert_true(f.kept && !f.connected && f.ended_us > 0);
        assert_int_equal(f.elapsed_us, again.elapsed_us);
    }
    migration_accounts_clear(accounts, DOMAIN);
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_false(f.kept);
    }
    migration_accounts_forget(accounts, DOMAIN);
    assert_false(is_known(accounts, DOMAIN));
}

static void a_link_is_lost_while_any_channel_is(void **state)
{
    g_autoptr(MigrationAccounts) accounts = migration_accounts_new();
    g_autoptr(Migration) migration = session(MIGRATION_SIDE_SOURCE, DOMAIN, 1, FALSE);
    MigrationHistory history;

    says(accounts, migration, "active");
    link_is(accounts, migration, FALSE, "main");
    link_is(accounts, migration, FALSE, "preempt");
    link_is(accounts, migration, TRUE, "main");
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_true(f.link_lost);
    }
    g_usleep(2000);
    link_is(accounts, migration, TRUE, "preempt");
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);
        g_auto(JobFigures) later = figures_of(accounts, DOMAIN);

        assert_true(!f.link_lost && f.lost_us >= 2000);
        assert_int_equal(f.lost_us, later.lost_us);
        /* The record has it for a daemon that comes later. */
        assert_true(migration_get_history(migration, &history));
        assert_int_equal(history.lost_us, f.lost_us);
        assert_int_equal(history.begun, 1);
    }
}

static void a_recovery_goes_on_with_the_account(void **state)
{
    g_autoptr(MigrationAccounts) accounts = migration_accounts_new();
    g_autoptr(Migration) first = session(MIGRATION_SIDE_DESTINATION, DOMAIN, 10, TRUE);
    g_autoptr(Migration) failed = session(MIGRATION_SIDE_DESTINATION, DOMAIN, 20, TRUE);
    g_autoptr(Migration) second = session(MIGRATION_SIDE_DESTINATION, DOMAIN, 30, TRUE);
    MigrationHistory history;

    first->record->recovers = FALSE;
    says(accounts, first, "active");
    ends(accounts, first); /* it died */
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_int_equal(f.outcome, JOB_OUTCOME_NONE);
        assert_true(f.link_lost && !f.connected && f.recoveries == 0);
    }
    says(accounts, failed, "setup");
    says(accounts, failed, "failed");
    ends(accounts, failed);
    says(accounts, second, "setup");
    ends(accounts, first); /* too late to matter */
    says(accounts, second, "active");
    says(accounts, second, "active");
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_true(!f.link_lost && f.connected && f.lost_us > 0);
        assert_int_equal(f.recoveries, 1);
    }
    assert_true(migration_get_history(second, &history));
    assert_int_equal(history.recoveries, 1);
    assert_int_equal(history.begun, 10);
    says(accounts, second, "completed");
    ends(accounts, second);
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_true(f.kept && f.recoveries == 1);
    }
}

static void a_daemon_that_comes_later_goes_on_counting(void **state)
{
    g_autoptr(MigrationAccounts) accounts = migration_accounts_new();
    g_autoptr(Migration) found = session(MIGRATION_SIDE_SOURCE, DOMAIN, 30, TRUE);
    const MigrationHistory history = { .begun = 10, .recoveries = 2, .lost_us = 777 };

    migration_set_history(found, &history);
    says(accounts, found, "active");
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_int_equal(f.recoveries, 2);
        assert_int_equal(f.lost_us, 777);
    }
}

static void a_failure_before_the_switch_is_the_end(void **state)
{
    g_autoptr(MigrationAccounts) accounts = migration_accounts_new();
    g_autoptr(Migration) failed = session(MIGRATION_SIDE_SOURCE, DOMAIN, 1, FALSE);
    g_autoptr(Migration) aborted = session(MIGRATION_SIDE_SOURCE, DOMAIN, 2, FALSE);

    says(accounts, failed, "active");
    says(accounts, failed, "failed");
    ends(accounts, failed);
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_int_equal(f.outcome, JOB_OUTCOME_FAILED);
        assert_false(f.kept);
    }
    says(accounts, aborted, "active");
    migration_set_aborted(aborted);
    says(accounts, aborted, "failed");
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_int_equal(f.outcome, JOB_OUTCOME_CANCELLED);
    }
}

static void what_will_not_be_recovered_has_failed(void **state)
{
    g_autoptr(MigrationAccounts) accounts = migration_accounts_new();
    g_autoptr(Migration) migration = session(MIGRATION_SIDE_SOURCE, DOMAIN, 1, FALSE);

    migration->record->postcopy = TRUE;
    says(accounts, migration, "active");
    migration_accounts_give_up(accounts, MIGRATION_SIDE_SOURCE, DOMAIN); /* it lives */
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_true(f.outcome == JOB_OUTCOME_NONE && f.connected);
    }
    ends(accounts, migration);
    migration_accounts_give_up(accounts, MIGRATION_SIDE_DESTINATION, DOMAIN);
    migration_accounts_forget(accounts, DOMAIN); /* it may still be recovered */
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_true(f.outcome == JOB_OUTCOME_NONE && f.link_lost);
    }
    migration_accounts_give_up(accounts, MIGRATION_SIDE_SOURCE, DOMAIN);
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_int_equal(f.outcome, JOB_OUTCOME_FAILED);
        assert_true(!f.link_lost && f.ended_us > 0 && !f.kept);
    }
    migration_accounts_forget(accounts, DOMAIN);
    assert_false(is_known(accounts, DOMAIN));
}

static void the_newest_of_a_domain_counts(void **state)
{
    g_autoptr(MigrationAccounts) accounts = migration_accounts_new();
    g_autoptr(Migration) in = session(MIGRATION_SIDE_DESTINATION, DOMAIN, 1, FALSE);
    g_autoptr(Migration) out = session(MIGRATION_SIDE_SOURCE, DOMAIN, 2, FALSE);

    says(accounts, in, "active");
    says(accounts, in, "completed");
    ends(accounts, in);
    says(accounts, out, "setup");
    {
        g_auto(JobFigures) f = figures_of(accounts, DOMAIN);

        assert_int_equal(f.side, MIGRATION_SIDE_SOURCE);
        assert_false(f.kept);
    }
    /* Somebody may look at it: a migration that lives is not forgotten. */
    migration_accounts_forget(accounts, DOMAIN);
    assert_true(is_known(accounts, DOMAIN));
}

static void no_more_than_64_are_kept(void **state)
{
    g_autoptr(MigrationAccounts) accounts = migration_accounts_new();
    guint known = 0;

    for (guint i = 0; i < MIGRATION_ACCOUNTS_MAX + 10; i++) {
        g_autofree char *name = g_strdup_printf("vm%u", i);
        g_autoptr(Migration) migration = session(MIGRATION_SIDE_SOURCE, name, i + 1, FALSE);

        says(accounts, migration, "active");
        says(accounts, migration, "completed");
        ends(accounts, migration);
    }
    for (guint i = 0; i < MIGRATION_ACCOUNTS_MAX + 10; i++) {
        g_autofree char *name = g_strdup_printf("vm%u", i);

        known += is_known(accounts, name);
        assert_int_equal(is_known(accounts, name), i >= 10);
    }
    assert_int_equal(known, MIGRATION_ACCOUNTS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_lives_from_begin_to_end),
        cmocka_unit_test(a_link_is_lost_while_any_channel_is),
        cmocka_unit_test(a_recovery_goes_on_with_the_account),
        cmocka_unit_test(a_daemon_that_comes_later_goes_on_counting),
        cmocka_unit_test(a_failure_before_the_switch_is_the_end),
        cmocka_unit_test(what_will_not_be_recovered_has_failed),
        cmocka_unit_test(the_newest_of_a_domain_counts),
        cmocka_unit_test(no_more_than_64_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
