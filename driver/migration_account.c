/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/migration_account.h"

#include "driver/helper_process.h"
#include "tls/hello.h"

/* Between two looks at the bytes that have come, at least. */
#define RATE_INTERVAL_US G_USEC_PER_SEC

typedef struct {
    MigrationSide side;
    char *key; /* see migration_accounts_figures() */
    char *domain;
    Migration *migration; /* of the session, until its helper has ended; or NULL */
    gint64 session_begun; /* of it, or of the one that was the last */
    guint64 expected_ram;
    gboolean counted;     /* that session is a recovery, which has come through */
    MigrationHistory history;
    gint64 begun_us; /* monotonic, as all below */
    gint64 ended_us; /* 0: it goes on, or may be recovered */
    JobOutcome outcome;
    gboolean kept;
    gboolean broken; /* ended in post-copy; another session may recover it */
    guint lost;      /* channels without a connection, a bit each */
    gint64 lost_since_us;
    JobCounters before; /* of sessions whose helpers have ended */
    JobFigures said;    /* the words of the last session; numbers are not used */
    gint64 rate_at_us;
    guint64 rate_bytes;
    guint64 rate;
} Account;

struct MigrationAccounts {
    GPtrArray *all; /* Account, the newest last */
};

static void account_free(gpointer data)
{
    Account *a = data;

    migration_unref(a->migration);
    job_figures_clear(&a->said);
    g_free(a->key);
    g_free(a->domain);
    g_free(a);
}

MigrationAccounts *migration_accounts_new(void)
{
    MigrationAccounts *accounts = g_new0(MigrationAccounts, 1);

    accounts->all = g_ptr_array_new_with_free_func(account_free);
    return accounts;
}

void migration_accounts_free(MigrationAccounts *accounts)
{
    if (!accounts)
        return;
    g_ptr_array_unref(accounts->all);
    g_free(accounts);
}

/* Memory clients choose their names, so that several may have the same. */
static char *key_of(const Migration *migration)
{
    return migration_is_memory(migration) ? migration_session_text(migration)
                                          : g_strdup(migration_domain(migration));
}

static Account *find(MigrationAccounts *accounts, const char *key)
{
    for (guint i = accounts->all->len; i > 0; i--) {
        Account *a = g_ptr_array_index(accounts->all, i - 1);

        if (g_str_equal(a->key, key))
            return a;
    }
    return NULL;
}

static void prune(MigrationAccounts *accounts)
{
    gint64 oldest = g_get_monotonic_time() - (gint64)MIGRATION_ACCOUNT_KEEP_S * G_USEC_PER_SEC;
    guint ended = 0;

    for (guint i = accounts->all->len; i > 0; i--) {
        const Account *a = g_ptr_array_index(accounts->all, i - 1);

        if (a->migration)
            continue;
        if (++ended > MIGRATION_ACCOUNTS_MAX || (a->ended_us && a->ended_us < oldest))
            g_ptr_array_remove_index(accounts->all, i - 1);
    }
}

/* ---- what the helper of the session says ---- */

static void set_text(char **at, const char *text)
{
    if (g_strcmp0(*at, text) == 0)
        return;
    g_free(*at);
    *at = g_strdup(text);
}

static char *tls_text(const HelperReport *report)
{
    return report->tls_version && *report->tls_version
               ? g_strdup_printf("%s %s", report->tls_version, report->tls_cipher)
               : NULL;
}

/* A session that comes after another one does not know at once what that knew. */
static void set_unless_empty(char **at, const char *text)
{
    if (text && *text)
        set_text(at, text);
}

static void look(Account *a, JobCounters *ret_session)
{
    g_autofree char *tls = NULL;
    g_autofree char *features = NULL;
    HelperReport report;

    *ret_session = (JobCounters){ 0 };
    if (!a->migration || !migration_report(a->migration, &report))
        return;
    tls = tls_text(&report);
    features = g_strjoinv(",", (char **)report.features);
    set_text(&a->said.state, report.state);
    set_text(&a->said.phase, report.phase);
    set_text(&a->said.session, migration_id(a->migration));
    set_unless_empty(&a->said.peer, report.peer);
    set_unless_empty(&a->said.tls, tls);
    set_unless_empty(&a->said.features, features);
    a->said.channels = report.channels;
    job_counters_read(ret_session, report.statistics);
}

/* The session's helper has ended, or makes way for another. */
static void close_session(Account *a)
{
    JobCounters session;

    look(a, &session);
    job_counters_add(&a->before, &session);
    a->before.requests_outstanding = 0;
    g_clear_pointer(&a->migration, migration_unref);
}

/* ---- the link ---- */

static guint channel_bit(const char *kind)
{
    ChannelKind channel;
    guint16 number;

    if (!kind || !channel_from_name(kind, &channel, &number) || channel == CHANNEL_MAIN)
        return 1;
    return channel == CHANNEL_BULK ? 2u << number : 2;
}

static void save_history(Account *a)
{
    if (a->migration)
        migration_set_history(a->migration, &a->history);
}

static void link_lost(Account *a, guint channels)
{
    if (!a->lost)
        a->lost_since_us = g_get_monotonic_time();
    a->lost |= channels;
}

static void link_back(Account *a, guint channels)
{
    guint before = a->lost;

    a->lost &= ~channels;
    if (!before || a->lost)
        return;
    a->history.lost_us += g_get_monotonic_time() - a->lost_since_us;
    save_history(a);
}

#define ALL_CHANNELS ((4u << CHANNEL_BULK_MAX) - 1)

/* ---- begin and end ---- */

static void take_session(Account *a, Migration *migration)
{
    a->migration = migration_ref(migration);
    a->session_begun = migration_begun(migration);
    a->expected_ram = migration_expected_ram(migration);
    a->counted = FALSE;
}

/* Of a new migration: newer than whatever the domain had before. */
static Account *begin(MigrationAccounts *accounts, Migration *migration)
{
    Account *old, *a = g_new0(Account, 1);
    gint64 age;

    a->key = key_of(migration);
    while ((old = find(accounts, a->key)))
        g_ptr_array_remove(accounts->all, old);
    a->side = migration_side(migration);
    a->domain = g_strdup(migration_domain(migration));
    take_session(a, migration);
    /* Taken over from the daemon before: that has counted it. */
    a->counted = migration_get_history(migration, &a->history);
    age = g_get_real_time() - a->history.begun;
    a->begun_us = g_get_monotonic_time() - MAX(age, 0);
    g_ptr_array_add(accounts->all, a);
    prune(accounts);
    return a;
}

/* NULL: it is none of a session that counts (any more). */
static Account *account_of(MigrationAccounts *accounts, Migration *migration,
                           MigrationNotice notice)
{
    g_autofree char *key = key_of(migration);
    Account *a = find(accounts, key);

    if (a && a->migration == migration)
        return a;
    if (notice == MIGRATION_NOTICE_ENDED ||
        (a && a->side == migration_side(migration) &&
         a->session_begun >= migration_begun(migration)))
        return NULL;
    if (!a || a->side != migration_side(migration) || !a->broken ||
        !migration_recovers(migration))
        return begin(accounts, migration);
    close_session(a);
    take_session(a, migration);
    return a;
}

static void end(Account *a, JobOutcome outcome)
{
    link_back(a, ALL_CHANNELS);
    a->broken = FALSE;
    a->outcome = outcome;
    a->kept = outcome == JOB_OUTCOME_COMPLETED;
    a->ended_us = g_get_monotonic_time();
}

/* libvirt's job goes on, waiting to be resumed. */
static void break_off(Account *a)
{
    a->broken = TRUE;
    link_lost(a, ALL_CHANNELS);
}

static void end_badly(Account *a, JobOutcome outcome)
{
    if (a->ended_us || a->broken)
        return;
    /* Memory clients begin their recoveries anew. */
    if (!migration_is_memory(a->migration) &&
        (migration_in_postcopy(a->migration) || migration_recovers(a->migration)))
        break_off(a);
    else
        end(a, migration_is_aborted(a->migration) ? JOB_OUTCOME_CANCELLED : outcome);
}

static void hear_active(Account *a)
{
    if (!migration_recovers(a->migration) || a->counted)
        return;
    a->counted = TRUE;
    a->broken = FALSE;
    a->history.recoveries++;
    link_back(a, ALL_CHANNELS);
    save_history(a);
}

static void hear_state(Account *a, const char *state)
{
    if (g_str_equal(state, "active"))
        hear_active(a);
    else if (g_str_equal(state, "completed"))
        end(a, JOB_OUTCOME_COMPLETED);
    else if (g_str_equal(state, "cancelled"))
        end_badly(a, JOB_OUTCOME_CANCELLED);
    else if (g_str_equal(state, "failed"))
        end_badly(a, JOB_OUTCOME_FAILED);
}

/* It has told its last state, or never will. */
static void hear_end(MigrationAccounts *accounts, Account *a)
{
    if (!a->ended_us)
        end_badly(a, JOB_OUTCOME_FAILED);
    /* Before the record goes to who may recover it. */
    save_history(a);
    close_session(a);
    prune(accounts);
}

void migration_accounts_notice(MigrationAccounts *accounts, Migration *migration,
                               MigrationNotice notice, const char *detail)
{
    Account *a = account_of(accounts, migration, notice);

    if (!a)
        return;
    switch (notice) {
    case MIGRATION_NOTICE_STATE:
        hear_state(a, detail);
        break;
    case MIGRATION_NOTICE_LINK_LOST:
        if (!a->ended_us)
            link_lost(a, channel_bit(detail));
        break;
    case MIGRATION_NOTICE_LINK_RESTORED:
        link_back(a, channel_bit(detail));
        break;
    case MIGRATION_NOTICE_ENDED:
        hear_end(accounts, a);
        break;
    case MIGRATION_NOTICE_CHANNEL_OPENED:
    case MIGRATION_NOTICE_PHASE:
        break;
    }
}

/* ---- asking ---- */

/* The source's helper measures its link; at the destination it is what comes. */
static guint64 current_rate(Account *a, const JobCounters *c, gint64 now_us)
{
    guint64 bytes = c->main_received + c->preempt_received + c->bulk_received;

    if (a->side == MIGRATION_SIDE_SOURCE || a->ended_us)
        return c->rate;
    if (a->rate_at_us && now_us - a->rate_at_us < RATE_INTERVAL_US)
        return a->rate;
    if (a->rate_at_us && bytes >= a->rate_bytes)
        a->rate = (guint64)((double)(bytes - a->rate_bytes) * G_USEC_PER_SEC /
                            (double)(now_us - a->rate_at_us));
    a->rate_at_us = now_us;
    a->rate_bytes = bytes;
    return a->rate;
}

static void copy_words(const Account *a, JobFigures *ret)
{
    gboolean died = (a->broken || a->outcome == JOB_OUTCOME_FAILED) &&
                    g_strcmp0(a->said.state, "active") == 0;

    ret->state = g_strdup(died ? "failed" : a->said.state);
    ret->phase = g_strdup(a->said.phase);
    ret->session = g_strdup(a->said.session);
    ret->peer = g_strdup(a->said.peer);
    ret->tls = g_strdup(a->said.tls);
    ret->features = g_strdup(a->said.features);
    ret->channels = a->said.channels;
}

gboolean migration_accounts_figures(MigrationAccounts *accounts, const char *key,
                                    JobFigures *ret)
{
    gint64 now = g_get_monotonic_time();
    Account *a = find(accounts, key);
    JobCounters session;

    if (!a)
        return FALSE;
    look(a, &session);
    *ret = (JobFigures){
        .side = a->side,
        .outcome = a->outcome,
        .connected = a->migration && !a->broken && !a->ended_us,
        .begun_us = a->begun_us,
        .elapsed_us = (a->ended_us ? a->ended_us : now) - a->begun_us,
        .ended_us = a->ended_us ? MAX(now - a->ended_us, 1) : 0,
        .kept = a->kept,
        .recoveries = a->history.recoveries,
        .link_lost = a->lost != 0,
        .lost_us = a->history.lost_us + (a->lost ? now - a->lost_since_us : 0),
        .expected_ram = a->expected_ram,
        .counters = a->before,
    };
    copy_words(a, ret);
    job_counters_add(&ret->counters, &session);
    ret->counters.rate = current_rate(a, &ret->counters, now);
    return TRUE;
}

void migration_accounts_each(MigrationAccounts *accounts, MigrationAccountFunc func, gpointer data)
{
    prune(accounts);
    for (guint i = 0; i < accounts->all->len; i++) {
        const Account *a = g_ptr_array_index(accounts->all, i);

        func(a->key, a->domain, data);
    }
}

void migration_accounts_clear(MigrationAccounts *accounts, const char *domain)
{
    Account *a = find(accounts, domain);

    if (a)
        a->kept = FALSE;
}

void migration_accounts_forget(MigrationAccounts *accounts, const char *domain)
{
    Account *a = find(accounts, domain);

    if (a && !a->migration && !a->broken)
        g_ptr_array_remove(accounts->all, a);
}

void migration_accounts_give_up(MigrationAccounts *accounts, MigrationSide side,
                                const char *domain)
{
    Account *a = find(accounts, domain);

    if (a && a->side == side && a->broken && !a->migration)
        end(a, JOB_OUTCOME_FAILED);
}
