/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the relay's thread tells the main thread. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/relay_priv.h"

void relay_report(Relay *relay, RelayReport *report)
{
    mailbox_post(relay->reports, report);
}

static void count_bulk(const RelayChannel *channel, const SessionStats *lane, RelayStats *stats)
{
    guint64 sent, received;

    relay_count_wire(channel, &sent, &received, &stats->key_updates);
    stats->wire_bulk_sent += sent;
    stats->wire_bulk_received += received;
    stats->bulk_bytes[channel->number - 1] = lane->bytes_sent + lane->bytes_received;
    if (channel->is_open)
        stats->bulk_channels = MAX(stats->bulk_channels, channel->number);
}

static void count_lane(const RelayChannel *channel, RelayStats *stats)
{
    SessionStats lane;

    if (!channel->pump.lane)
        return;
    lane_get_stats(channel->pump.lane, &lane);
    stats->resumes += lane.resumes;
    stats->bytes_sent_again += lane.bytes_sent_again;
    if (channel->kind == CHANNEL_BULK)
        count_bulk(channel, &lane, stats);
}

static void fill_stats(Relay *relay, RelayStats *stats)
{
    gint64 until = relay->ended_us ? relay->ended_us : g_get_monotonic_time();
    const PumpQemu *qemu = relay->qemu;
    guint64 in = qemu[QEMU_MAIN].bytes_in + qemu[QEMU_PREEMPT].bytes_in;
    guint64 out = qemu[QEMU_MAIN].bytes_out + qemu[QEMU_PREEMPT].bytes_out;
    gboolean source = relay->side == SESSION_SOURCE;
    SessionStats s;

    session_get_stats(relay->session, &s);
    *stats = (RelayStats){
        .stream_bytes = source ? in : out,
        .return_path_bytes = source ? out : in,
        .frames_sent = s.frames_sent,
        .frames_received = s.frames_received,
        .window_high_water = s.in_flight_high,
        .elapsed_us = relay->active_us ? until - relay->active_us : 0,
        .resumes = s.resumes,
        .bytes_sent_again = s.bytes_sent_again,
    };
    relay_count_wire(&relay->main, &stats->wire_bytes_sent, &stats->wire_bytes_received,
                     &stats->key_updates);
    relay_count_wire(&relay->lanes[RELAY_PREEMPT], &stats->wire_preempt_sent,
                     &stats->wire_preempt_received, &stats->key_updates);
    for (guint i = 0; i < RELAY_LANES_MAX; i++)
        count_lane(&relay->lanes[i], stats);
    relay_count_disks(relay, stats);
    stats->memory = relay->memory;
    engine_get_stats(relay->engine, until, &stats->ram);
}

void relay_report_stats(Relay *relay)
{
    RelayReport *report = relay_report_new(RELAY_REPORT_STATS);

    fill_stats(relay, &report->stats);
    relay_report(relay, report);
}

static void report_reading(Relay *relay)
{
    const char *why;
    DirectState state = engine_direct_state(relay->engine, &why);
    RelayReport *report;

    if (state == relay->reading)
        return;
    relay->reading = state;
    report = relay_report_new(RELAY_REPORT_READING);
    report->phase = direct_state_name(state);
    report->reason = g_strdup(why);
    relay_report(relay, report);
}

void relay_report_state(Relay *relay)
{
    RelayReport *report;

    /* Who hears of the end has to know by then. */
    report_reading(relay);
    report = relay_report_new(RELAY_REPORT_STATE);
    report->state = session_state(relay->session);
    report->reason = g_strdup(session_reason(relay->session));
    report->ended_by = session_ended_by(relay->session);
    if (session_state_is_active(report->state) && !relay->active_us)
        relay->active_us = g_get_monotonic_time();
    if (session_state_is_end(report->state)) {
        relay->ended_us = g_get_monotonic_time();
        engine_on_session_end(relay->engine, report->state, relay->ended_us);
    }
    report->phase = relay->phase = engine_phase(relay->engine);
    fill_stats(relay, &report->stats);
    relay_report(relay, report);
}

void relay_report_channel_up(Relay *relay, const Link *link, ChannelKind kind, guint16 number)
{
    RelayReport *report = relay_report_new(RELAY_REPORT_CHANNEL_UP);

    report->kind = kind;
    report->number = number;
    report->tls_version = g_strdup(tls_channel_version(link->channel));
    report->tls_cipher = g_strdup(tls_channel_cipher(link->channel));
    report->peer_name = g_strdup(tls_channel_peer_name(link->channel));
    report->address = g_strdup(link->address);
    relay_report(relay, report);
}

void relay_report_channel(Relay *relay, RelayReportType type, const RelayChannel *channel)
{
    RelayReport *report = relay_report_new(type);

    report->kind = channel->kind;
    report->number = channel->number;
    report->reason = g_strdup(channel->pump.lost_why ? channel->pump.lost_why : "");
    relay_report(relay, report);
}

void relay_report_features(Relay *relay)
{
    SessionState state = session_state(relay->session);
    RelayReport *report;

    if (relay->features_reported ||
        (state != SESSION_AWAIT_QEMU && !session_state_is_active(state)))
        return;
    relay->features_reported = TRUE;
    report = relay_report_new(RELAY_REPORT_FEATURES);
    report->features = session_features(relay->session);
    relay_report(relay, report);
}

void relay_report_refused(Relay *relay, const char *address, const char *reason)
{
    RelayReport *report = relay_report_new(RELAY_REPORT_CHANNEL_REFUSED);

    report->address = g_strdup(address);
    report->reason = g_strdup(reason);
    relay_report(relay, report);
}

static void report_phase(Relay *relay)
{
    const char *phase = engine_phase(relay->engine);
    RelayReport *report;

    if (phase == relay->phase)
        return;
    relay->phase = phase;
    report = relay_report_new(RELAY_REPORT_PHASE);
    report->phase = phase;
    relay_report(relay, report);
}

static void report_warning(Relay *relay)
{
    const char *warning = engine_warning(relay->engine);
    RelayReport *report;

    if (!warning || relay->warned)
        return;
    relay->warned = TRUE;
    report = relay_report_new(RELAY_REPORT_WARNING);
    report->reason = g_strdup_printf(_("QEMU's stream is passed on unread from here on: %s"),
                                     warning);
    relay_report(relay, report);
}

static void report_placing(Relay *relay)
{
    const char *why;
    PlacingState state = engine_placing_state(relay->engine, &why);
    RelayReport *report;

    if (state == relay->placing)
        return;
    relay->placing = state;
    report = relay_report_new(RELAY_REPORT_PLACING);
    report->phase = placing_state_name(state);
    report->reason = g_strdup(why);
    relay_report(relay, report);
}

static void report_return_path(Relay *relay)
{
    const PumpQemu *qemu = &relay->qemu[QEMU_MAIN];

    if (relay->return_path_reported ||
        (relay->side == SESSION_SOURCE ? qemu->bytes_out : qemu->bytes_in) == 0)
        return;
    relay->return_path_reported = TRUE;
    relay_report(relay, relay_report_new(RELAY_REPORT_RETURN_PATH));
}

static void report_source_rate(Relay *relay)
{
    RelayReport *report;
    guint64 rate;

    if (!session_state_is_active(session_state(relay->session)) ||
        !engine_source_rate(relay->engine, g_get_monotonic_time(), &rate))
        return;
    report = relay_report_new(RELAY_REPORT_SOURCE_RATE);
    report->rate = rate;
    relay_report(relay, report);
}

void relay_report_progress(Relay *relay)
{
    report_source_rate(relay);
    report_phase(relay);
    report_warning(relay);
    report_reading(relay);
    report_placing(relay);
    report_return_path(relay);
}

void relay_reply(Relay *relay, gpointer call, GError *error)
{
    const RelayChannel *preempt = &relay->lanes[RELAY_PREEMPT];
    RelayReport *report;

    if (!call) {
        g_clear_error(&error);
        return;
    }
    report = relay_report_new(RELAY_REPORT_REPLY);
    report->call = call;
    report->error = error;
    /* Only the source has a lane before its first call is answered. */
    report->wants_preempt = !error && preempt->pump.lane && relay->side == SESSION_SOURCE &&
                            lane_state(preempt->pump.lane) == LANE_NONE && !preempt->pump.link &&
                            !preempt->lost_us;
    for (guint i = 1; report->wants_preempt && i < RELAY_LANES_MAX; i++)
        report->wants_bulk += relay_has_lane(relay, i);
    relay_report(relay, report);
}

GError *relay_wrong_state(Relay *relay, const char *what)
{
    const char *reason = session_reason(relay->session);

    return g_error_new(JOB_ERROR, JOB_ERROR_WRONG_STATE, _("%s in state %s%s%s"), what,
                       session_state_status(session_state(relay->session)), *reason ? ": " : "",
                       reason);
}
