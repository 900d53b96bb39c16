/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the relay reports: properties, signals, log lines and the outcome file. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/job_error.h"
#include "ram/job_outcome.h"
#include "ram/job_priv.h"
#include "ram/job_properties.h"

#define STATS_INTERVAL_MS 250

/* Changed properties go out before the signal that follows. */
static void flush_properties(Job *job)
{
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(job->skeleton));
}

/* Of what the properties say now; before the signals, so that one who has heard them can rely
 * on it. */
static void write_outcome(Job *job)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    if (job->outcome_fd < 0)
        return;
    text = job_outcome_text(postcopy_migration_get_state(job->skeleton),
                            postcopy_migration_get_phase(job->skeleton),
                            postcopy_migration_get_ended_by(job->skeleton),
                            postcopy_migration_get_last_error(job->skeleton));
    if (job_outcome_write(job->outcome_fd, text, &error) || job->outcome_failed)
        return;
    log_warning(&job->log, "the outcome file cannot be written: %s", error->message);
    job->outcome_failed = TRUE;
}

static gboolean on_stats_timer(gpointer data)
{
    Job *job = data;

    relay_command(job->relay, RELAY_GET_STATS, -1, NULL, NULL);
    return G_SOURCE_CONTINUE;
}

static void start_counting(Job *job)
{
    if (!job->stats_timer)
        job->stats_timer = g_timeout_add(STATS_INTERVAL_MS, on_stats_timer, job);
}

static void log_state(Job *job, const char *status, const RelayReport *report)
{
    if (report->state == SESSION_FAILED)
        log_error(&job->log, "%s: %s", status, report->reason);
    else
        log_info(&job->log, "%s%s%s", status, *report->reason ? ": " : "", report->reason);
}

/* Sets the property; returns whether that was a change, of which PhaseChanged has to tell. */
static gboolean set_phase(Job *job, const char *phase)
{
    if (!phase || g_strcmp0(phase, postcopy_migration_get_phase(job->skeleton)) == 0)
        return FALSE;
    log_info(&job->log, "QEMU's migration: %s", phase);
    postcopy_migration_set_phase(job->skeleton, phase);
    return TRUE;
}

static void on_phase(Job *job, const char *phase)
{
    if (!set_phase(job, phase))
        return;
    write_outcome(job);
    flush_properties(job);
    postcopy_migration_emit_phase_changed(job->skeleton, phase);
}

static void on_state(Job *job, const RelayReport *report)
{
    gboolean other_phase = set_phase(job, report->phase);
    const char *status = session_state_status(report->state);

    job->state = report->state;
    log_state(job, status, report);
    if (session_state_is_active(report->state))
        start_counting(job);
    if (session_state_is_end(report->state) && job->stats_timer) {
        g_source_remove(job->stats_timer);
        job->stats_timer = 0;
    }
    postcopy_migration_set_state(job->skeleton, status);
    postcopy_migration_set_last_error(job->skeleton, report->reason);
    postcopy_migration_set_ended_by(job->skeleton, session_ended_by_name(report->ended_by));
    job_properties_set_statistics(job->skeleton, &report->stats);
    if (report->state == SESSION_COMPLETED)
        job_properties_main_lost_only(job->skeleton);
    else if (session_state_is_end(report->state))
        job_properties_none_lost(job->skeleton);
    write_outcome(job);
    flush_properties(job);
    if (other_phase)
        postcopy_migration_emit_phase_changed(job->skeleton, report->phase);
    postcopy_migration_emit_state_changed(job->skeleton, status, report->reason,
                                          session_ended_by_name(report->ended_by));
}

static void on_channel_up(Job *job, const RelayReport *report)
{
    log_info(&job->log, "%s channel with %s: %s %s, peer %s", channel_name(report->kind, report->number),
             report->address, report->tls_version, report->tls_cipher, report->peer_name);
    job_properties_put_channel(job->skeleton, report);
    flush_properties(job);
}

static void on_features(Job *job, guint64 features)
{
    g_autofree const char **names = session_feature_names(features);
    g_autofree char *text = g_strjoinv(", ", (char **)names);

    log_info(&job->log, "features: %s", *text ? text : "-");
    postcopy_migration_set_features(job->skeleton, names);
    flush_properties(job);
}

static LogContext channel_log(const Job *job, const char *name)
{
    LogContext log = job->log;

    log.channel = name;
    return log;
}

static void on_channel_lost(Job *job, const RelayReport *report)
{
    const char *name = channel_name(report->kind, report->number);
    LogContext log = channel_log(job, name);

    log_warning(&log, "the connection is lost: %s", report->reason);
    job_properties_set_lost(job->skeleton, name, TRUE);
    flush_properties(job);
    postcopy_migration_emit_channel_lost(job->skeleton, name, report->reason);
}

static void on_channel_resumed(Job *job, const RelayReport *report)
{
    const char *name = channel_name(report->kind, report->number);
    LogContext log = channel_log(job, name);

    log_info(&log, "goes on over another connection");
    job_properties_set_lost(job->skeleton, name, FALSE);
    flush_properties(job);
    postcopy_migration_emit_channel_resumed(job->skeleton, name);
}

static void on_qemu_needed(Job *job)
{
    guint wanted = postcopy_migration_get_qemu_wanted(job->skeleton);

    postcopy_migration_set_qemu_wanted(job->skeleton, wanted + 1);
    flush_properties(job);
    postcopy_migration_emit_qemu_needed(job->skeleton);
}

static void on_qemu_connected(Job *job)
{
    guint connected = postcopy_migration_get_qemu_connections(job->skeleton);

    log_info(&job->log, "QEMU has connected");
    postcopy_migration_set_qemu_connections(job->skeleton, connected + 1);
    flush_properties(job);
    postcopy_migration_emit_qemu_connected(job->skeleton);
}

/* A disk may be copied long before QEMU's stream begins. */
static void on_disks_wanted(Job *job, guint16 number)
{
    start_counting(job);
    job_properties_want_disks(job->skeleton, number);
    flush_properties(job);
    postcopy_migration_emit_disks_wanted(job->skeleton, number);
}

static void on_disks_ended(Job *job, const RelayReport *report)
{
    LogContext log = channel_log(job, channel_kind_name(CHANNEL_DISKS));

    if (*report->reason)
        log_warning(&log, "disk connection %u: %s", report->number, report->reason);
    else
        log_info(&log, "disk connection %u has ended", report->number);
    job_properties_disks_answered(job->skeleton, report->number);
    flush_properties(job);
    postcopy_migration_emit_disks_ended(job->skeleton, report->number, report->reason);
}

static void on_source_rate(Job *job, guint64 rate)
{
    postcopy_migration_set_source_rate(job->skeleton, rate);
    postcopy_migration_emit_source_rate_wanted(job->skeleton, rate);
}

static void on_reading(Job *job, const RelayReport *report)
{
    if (report->reason)
        log_warning(&job->log, "%s; its pages come on its stream", report->reason);
    else
        log_info(&job->log, "reading the source QEMU's memory: %s", report->phase);
    postcopy_migration_set_reading(job->skeleton, report->phase);
    flush_properties(job);
}

static void on_placing(Job *job, const RelayReport *report)
{
    if (report->reason)
        log_info(&job->log, "%s", report->reason);
    else
        log_info(&job->log, "pages are placed in QEMU's memory directly");
    postcopy_migration_set_placing(job->skeleton, report->phase);
    flush_properties(job);
}

static void answer(Job *job, GDBusMethodInvocation *call, const GError *error)
{
    g_ptr_array_remove_fast(job->calls, call);
    if (error) {
        g_dbus_method_invocation_return_gerror(call, error);
        return;
    }
    /* The methods without results answer alike. */
    g_dbus_method_invocation_return_value(call, NULL);
}

static void on_ended(Job *job)
{
    g_autoptr(GError) gone =
        g_error_new_literal(JOB_ERROR, JOB_ERROR_WRONG_STATE, _("the migration is over"));

    job->ended = TRUE;
    while (job->calls->len)
        answer(job, job->calls->pdata[0], gone);
    job->func(job->state == SESSION_COMPLETED   ? JOB_COMPLETED
              : job->state == SESSION_CANCELLED ? JOB_CANCELLED
                                                : JOB_FAILED,
              job->data);
}

static void on_reply(Job *job, const RelayReport *report)
{
    if (report->wants_preempt) {
        job_properties_want_channels(job->skeleton, report->wants_bulk);
        flush_properties(job); /* before the answer */
    }
    answer(job, report->call, report->error);
}

/* Of QEMU's connections. */
static void on_qemu_report(Job *job, const RelayReport *report)
{
    switch (report->type) {
    case RELAY_REPORT_QEMU_NEEDED:
        on_qemu_needed(job);
        break;
    case RELAY_REPORT_QEMU_CONNECTED:
        on_qemu_connected(job);
        break;
    case RELAY_REPORT_RETURN_PATH:
        postcopy_migration_set_return_path_opened(job->skeleton, TRUE);
        flush_properties(job);
        break;
    case RELAY_REPORT_SOURCE_RATE:
        on_source_rate(job, report->rate);
        break;
    default:
        g_assert_not_reached();
    }
}

void job_on_report(const RelayReport *report, gpointer data)
{
    Job *job = data;

    switch (report->type) {
    case RELAY_REPORT_STATE:
        on_state(job, report);
        break;
    case RELAY_REPORT_PHASE:
        on_phase(job, report->phase);
        break;
    case RELAY_REPORT_REPLY:
        on_reply(job, report);
        break;
    case RELAY_REPORT_FEATURES:
        on_features(job, report->features);
        break;
    case RELAY_REPORT_CHANNEL_UP:
        on_channel_up(job, report);
        break;
    case RELAY_REPORT_CHANNEL_REFUSED:
        log_warning(&job->log, "channel with %s refused: %s", report->address, report->reason);
        postcopy_migration_emit_channel_refused(job->skeleton, report->address, report->reason);
        break;
    case RELAY_REPORT_CHANNEL_LOST:
        on_channel_lost(job, report);
        break;
    case RELAY_REPORT_CHANNEL_RESUMED:
        on_channel_resumed(job, report);
        break;
    case RELAY_REPORT_WARNING:
        log_warning(&job->log, "%s", report->reason);
        break;
    case RELAY_REPORT_READING:
        on_reading(job, report);
        break;
    case RELAY_REPORT_PLACING:
        on_placing(job, report);
        break;
    case RELAY_REPORT_QEMU_NEEDED:
    case RELAY_REPORT_QEMU_CONNECTED:
    case RELAY_REPORT_RETURN_PATH:
    case RELAY_REPORT_SOURCE_RATE:
        on_qemu_report(job, report);
        break;
    case RELAY_REPORT_DISKS_WANTED:
        on_disks_wanted(job, report->number);
        break;
    case RELAY_REPORT_DISKS_ENDED:
        on_disks_ended(job, report);
        break;
    case RELAY_REPORT_STATS:
        job_properties_set_statistics(job->skeleton, &report->stats);
        break;
    case RELAY_REPORT_ENDED:
        flush_properties(job);
        on_ended(job);
        break;
    }
}
