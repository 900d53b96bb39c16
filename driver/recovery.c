/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When a recovery tries, and when it ends. What one attempt does is in recovery_attempt.c. */
#include "config.h"

#include "driver/recovery.h"

#include <glib/gi18n.h>
#include <string.h>

#include "driver/driver_events.h"
#include "driver/job_record.h"
#include "driver/recovery_attempt.h"
#include "util/log.h"

/* From the end of a session to the first attempt: both libvirtds have to learn of it from their
 * QEMU. */
#define FIRST_PAUSE_MS 500

/* For a user's resume that has been asked for: until libvirtd has agreed to it, and it is left to
 * them. */
#define USERS_PAUSE_MS 5000

/* Between attempts; the last one for all that follow. */
static const guint pauses_ms[] = { 500, 1000, 2000, 4000, 5000 };

/* Answers in a row that the domain is in another state, until that is believed: libvirtd may be in
 * the midst of changing its mind. */
#define ANSWERS_BELIEVED 3

/* An attempt whose session has lasted that long has moved memory: what breaks it is a break of its
 * own. */
#define ANEW_AFTER_S 30

/* Answers in a row that the destination does not know a session, until that is believed: they are
 * in clear, and anybody on the way can give one. */
#define UNKNOWN_BELIEVED 3

/* Sessions that an attempt may go by. */
#define RECORDS_MAX 5

struct RecoverySet {
    Driver *driver;
    GPtrArray *recoveries; /* Recovery */
};

typedef struct {
    Proxy *proxy; /* a reference */
    RecoveryFunc func;
    gpointer data;
} Waiter;

typedef struct {
    RecoverySet *set;
    char *domain;
    GArray *waiters;
    GPtrArray *records; /* JobRecord, of sessions the destination may still know; the newest last */
    gint64 broken_at; /* monotonic, us: what recover_timeout is counted from */
    guint attempts;
    char *session; /* that the last attempt went by, as in log lines; or NULL */
    guint pause;  /* of pauses_ms, the next */
    guint denied; /* answers in a row that it is in another state */
    guint unknown; /* the same: that the destination does not know the newest record's session */
    gboolean last; /* no other attempt after this one */
    guint timer;
    RecoveryAttempt *attempt; /* NULL between attempts */
    gboolean handed_over; /* libvirtd goes on with that whatever becomes of it here */
    LogContext log;
} Recovery;

/* ---- who waits ---- */

static void tell_waiter(Recovery *recovery, guint index, gboolean arrived)
{
    Waiter waiter = g_array_index(recovery->waiters, Waiter, index);

    g_array_remove_index(recovery->waiters, index);
    waiter.func(arrived, waiter.data);
    proxy_unref(waiter.proxy);
}

static void tell_waiters(Recovery *recovery, gboolean arrived)
{
    while (recovery->waiters->len > 0)
        tell_waiter(recovery, 0, arrived);
}

static void drop_gone_waiters(Recovery *recovery)
{
    for (guint i = recovery->waiters->len; i > 0; i--) {
        if (proxy_is_closed(g_array_index(recovery->waiters, Waiter, i - 1).proxy))
            tell_waiter(recovery, i - 1, FALSE);
    }
}

static void recovery_free(gpointer data)
{
    Recovery *recovery = data;

    g_clear_handle_id(&recovery->timer, g_source_remove);
    recovery_attempt_free(recovery->attempt);
    tell_waiters(recovery, FALSE);
    g_array_unref(recovery->waiters);
    g_ptr_array_unref(recovery->records);
    g_free(recovery->session);
    g_free(recovery->domain);
    g_free(recovery);
}

static void recovery_end(Recovery *recovery)
{
    g_ptr_array_remove_fast(recovery->set->recoveries, recovery);
}

static Recovery *find(RecoverySet *set, const char *domain)
{
    for (guint i = 0; i < set->recoveries->len; i++) {
        Recovery *recovery = g_ptr_array_index(set->recoveries, i);

        if (g_str_equal(recovery->domain, domain))
            return recovery;
    }
    return NULL;
}

static const JobRecord *newest(const Recovery *recovery)
{
    guint n = recovery->records->len;

    return n > 0 ? g_ptr_array_index(recovery->records, n - 1) : NULL;
}

static void log_by_hand(const LogContext *log, const char *domain)
{
    log_info(log,
             _("to resume it by hand: virsh -c %1$s migrate --live --postcopy --postcopy-resume "
               "%2$s DESTINATION, with what else was given to the migration"),
             DRIVER_URI, domain);
}

static void tell_event(const Recovery *recovery, MonitorEventKind kind, const char *reason,
                       gboolean will_retry)
{
    MonitorDetails details = MONITOR_DETAILS_INIT;

    details.side = "source";
    details.session = recovery->session;
    details.attempt = recovery->attempts;
    details.reason = reason;
    details.will_retry = will_retry;
    driver_events_recovery(recovery->set->driver->events, kind, recovery->domain, &details);
}

/* ---- the end ---- */

static void give_up(Recovery *recovery, const char *reason)
{
    log_error(&recovery->log, _("recovery of domain %1$s given up after %2$u attempts: %3$s"),
              recovery->domain, recovery->attempts, reason);
    tell_event(recovery, MONITOR_EVENT_RECOVERY_FAILED, reason, FALSE);
    log_by_hand(&recovery->log, recovery->domain);
    recovery_end(recovery);
}

static void arrived(Recovery *recovery)
{
    gint64 elapsed = (g_get_monotonic_time() - recovery->broken_at) / 1000;

    log_info(&recovery->log,
             "domain %s recovered at attempt %u, %" G_GINT64_FORMAT ".%03u s after the break",
             recovery->domain, recovery->attempts, elapsed / 1000, (guint)(elapsed % 1000));
    tell_event(recovery, MONITOR_EVENT_RECOVERY_DONE, NULL, FALSE);
    migration_set_forget(recovery->set->driver->set, MIGRATION_SIDE_SOURCE, recovery->domain);
    tell_waiters(recovery, TRUE);
    recovery_end(recovery);
}

/* Neither is for this daemon to mend. */
static void end_of_the_matter(Recovery *recovery, RecoveryOutcome outcome, const char *reason)
{
    if (outcome == RECOVERY_NO_DOMAIN_THERE)
        log_error(&recovery->log,
                  _("domain %1$s cannot be recovered: the destination has lost it, and what is "
                    "here is not whole without what it did there (%2$s); it is left as it is: when "
                    "nothing of it is needed any more, virsh destroy ends it"),
                  recovery->domain, reason);
    else
        log_info(&recovery->log, "nothing to recover of domain %s: %s", recovery->domain, reason);
    tell_event(recovery, MONITOR_EVENT_RECOVERY_FAILED, reason, FALSE);
    if (outcome != RECOVERY_NOT_FAILED)
        migration_set_forget(recovery->set->driver->set, MIGRATION_SIDE_SOURCE, recovery->domain);
    recovery_end(recovery);
}

/* ---- attempts ---- */

static void try_later(Recovery *recovery, guint ms);

static void on_attempted(RecoveryOutcome outcome, const char *reason, gpointer data)
{
    Recovery *recovery = data;

    g_clear_pointer(&recovery->attempt, recovery_attempt_free);
    if (outcome == RECOVERY_ARRIVED) {
        arrived(recovery);
        return;
    }
    recovery->denied = outcome == RECOVERY_FAILED ? 0 : recovery->denied + 1;
    if (outcome == RECOVERY_NO_DOMAIN || outcome == RECOVERY_NO_DOMAIN_THERE ||
        recovery->denied >= ANSWERS_BELIEVED) {
        end_of_the_matter(recovery, outcome, reason);
        return;
    }
    log_warning(&recovery->log, "recovery of domain %s: attempt %u failed: %s", recovery->domain,
                recovery->attempts, reason);
    tell_event(recovery, MONITOR_EVENT_RECOVERY_FAILED, reason, !recovery->last);
    if (recovery->last) {
        recovery_end(recovery);
        return;
    }
    try_later(recovery, pauses_ms[recovery->pause]);
    recovery->pause = MIN(recovery->pause + 1, G_N_ELEMENTS(pauses_ms) - 1);
}

static gboolean is_too_late(const Recovery *recovery)
{
    guint limit = recovery->set->driver->settings->recover_timeout;
    gint64 elapsed = g_get_monotonic_time() - recovery->broken_at;

    return limit > 0 && elapsed >= (gint64)limit * G_USEC_PER_SEC;
}

static gboolean attempt(gpointer data)
{
    Recovery *recovery = data;
    const JobRecord *record = newest(recovery);

    recovery->timer = 0;
    drop_gone_waiters(recovery);
    if (!record) {
        migration_set_forget(recovery->set->driver->set, MIGRATION_SIDE_SOURCE, recovery->domain);
        give_up(recovery, _("the destination's virtpostcopyd knows nothing of it any more"));
    } else if (recovery->attempts > 0 && is_too_late(recovery)) {
        give_up(recovery, _("recover_timeout is over"));
    } else {
        recovery->attempts++;
        recovery->handed_over = FALSE;
        g_free(recovery->session);
        recovery->session = job_record_id(record);
        log_info(&recovery->log, "recovery of domain %s: attempt %u, by way of %s port %u",
                 recovery->domain, recovery->attempts, record->uri.host, record->uri.port);
        tell_event(recovery, MONITOR_EVENT_RECOVERY_STARTED, NULL, FALSE);
        recovery->attempt = recovery_attempt_new(recovery->set->driver->settings, record,
                                                 on_attempted, recovery);
    }
    return G_SOURCE_REMOVE;
}

static void try_later(Recovery *recovery, guint ms)
{
    g_clear_handle_id(&recovery->timer, g_source_remove);
    recovery->timer = g_timeout_add(ms, attempt, recovery);
}

/* ---- what the set is told ---- */

static Recovery *recovery_new(RecoverySet *set, const char *domain)
{
    Recovery *recovery = g_new0(Recovery, 1);

    recovery->set = set;
    recovery->domain = g_strdup(domain);
    recovery->records = g_ptr_array_new_with_free_func((GDestroyNotify)job_record_free);
    recovery->waiters = g_array_new(FALSE, FALSE, sizeof(Waiter));
    recovery->log = (LogContext){ .side = "source", .phase = "recover" };
    g_ptr_array_add(set->recoveries, recovery);
    return recovery;
}

/* Found after a start of the daemon, it may be of long ago. */
static void begin_clock(Recovery *recovery, const JobRecord *record)
{
    gint64 elapsed = g_get_real_time() / G_USEC_PER_SEC - record->broken;

    recovery->broken_at = g_get_monotonic_time() - MAX(elapsed, 0) * G_USEC_PER_SEC;
    recovery->pause = 0;
}

static void add_record(Recovery *recovery, const JobRecord *record)
{
    if (recovery->records->len == RECORDS_MAX)
        g_ptr_array_remove_index(recovery->records, 0);
    g_ptr_array_add(recovery->records, job_record_copy(record));
}

/* While an attempt runs this is about its own session: it fails by itself, and the next one has
 * this record first. */
static void on_broken(MigrationSet *migrations, const JobRecord *record, gpointer data)
{
    RecoverySet *set = data;
    Recovery *recovery = find(set, record->domain);
    LogContext log = { .side = "source", .phase = "recover" };

    if (!set->driver->settings->auto_recover || record->perform_procedure == 0 ||
        !record->perform_args) {
        log_info(&log, "the migration of domain %s waits to be resumed", record->domain);
        log_by_hand(&log, record->domain);
        return;
    }
    if (!recovery) {
        recovery = recovery_new(set, record->domain);
        begin_clock(recovery, record);
    } else if (record->broken - record->begun / G_USEC_PER_SEC > ANEW_AFTER_S) {
        begin_clock(recovery, record);
    }
    add_record(recovery, record);
    recovery->unknown = 0;
    recovery->last = FALSE;
    if (!recovery->attempt)
        try_later(recovery, FIRST_PAUSE_MS);
}

gboolean recovery_set_hand_over(RecoverySet *set, const char *domain)
{
    Recovery *recovery = find(set, domain);

    if (!recovery || !recovery->attempt || !recovery_attempt_is_under_way(recovery->attempt))
        return FALSE;
    recovery->handed_over = TRUE;
    recovery->unknown = 0;
    return TRUE;
}

gboolean recovery_set_is_trying(RecoverySet *set, const char *domain)
{
    const Recovery *recovery = find(set, domain);

    return recovery && recovery->attempt && recovery_attempt_is_under_way(recovery->attempt);
}

void recovery_set_leave(RecoverySet *set, const char *domain)
{
    Recovery *recovery = find(set, domain);

    if (!recovery || recovery->last)
        return;
    log_info(&recovery->log, "recovery of domain %s left to a user", domain);
    recovery->last = TRUE;
    tell_waiters(recovery, FALSE);
    if (recovery->attempt && !recovery->handed_over)
        tell_event(recovery, MONITOR_EVENT_RECOVERY_FAILED, _("it is left to a user"), FALSE);
    if (!recovery->attempt || !recovery->handed_over)
        recovery_end(recovery);
}

void recovery_set_users_turn(RecoverySet *set, const char *domain)
{
    Recovery *recovery = find(set, domain);

    if (recovery && !recovery->attempt)
        try_later(recovery, USERS_PAUSE_MS);
}

static gboolean is_session(const JobRecord *record, const guint8 session[MIGRATION_SESSION_LEN])
{
    return memcmp(record->uri.session, session, MIGRATION_SESSION_LEN) == 0;
}

void recovery_set_session_gone(RecoverySet *set, const guint8 session[MIGRATION_SESSION_LEN])
{
    for (guint i = 0; i < set->recoveries->len; i++) {
        Recovery *recovery = g_ptr_array_index(set->recoveries, i);

        for (guint n = recovery->records->len; n > 0; n--) {
            if (!is_session(g_ptr_array_index(recovery->records, n - 1), session))
                continue;
            g_ptr_array_remove_index(recovery->records, n - 1);
            recovery->unknown = 0;
        }
    }
}

void recovery_set_session_unknown(RecoverySet *set, const guint8 session[MIGRATION_SESSION_LEN])
{
    for (guint i = 0; i < set->recoveries->len; i++) {
        Recovery *recovery = g_ptr_array_index(set->recoveries, i);
        const JobRecord *record = newest(recovery);

        if (record && is_session(record, session) && ++recovery->unknown == UNKNOWN_BELIEVED)
            recovery_set_session_gone(set, session);
    }
}

gboolean recovery_set_wait(RecoverySet *set, const char *domain, Proxy *proxy, RecoveryFunc func,
                           gpointer data)
{
    Recovery *recovery = find(set, domain);
    Waiter waiter = { proxy, func, data };

    if (!recovery || recovery->last || proxy_is_closed(proxy))
        return FALSE;
    drop_gone_waiters(recovery);
    proxy_ref(proxy);
    g_array_append_val(recovery->waiters, waiter);
    return TRUE;
}

RecoverySet *recovery_set_new(Driver *driver)
{
    RecoverySet *set = g_new0(RecoverySet, 1);

    set->driver = driver;
    set->recoveries = g_ptr_array_new_with_free_func(recovery_free);
    migration_set_on_broken(driver->set, on_broken, set);
    return set;
}

void recovery_set_free(RecoverySet *set)
{
    if (!set)
        return;
    migration_set_on_broken(set->driver->set, NULL, NULL);
    g_ptr_array_unref(set->recoveries);
    g_free(set);
}
