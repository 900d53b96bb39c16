/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Channels that are silent, late or lost: when they are, and what is done about it. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/relay_priv.h"

void relay_lose_channel(Relay *relay, RelayChannel *channel)
{
    relay_forget_link(relay, channel);
    if (!channel->lost_us)
        channel->lost_us = g_get_monotonic_time();
    relay_report_channel(relay, RELAY_REPORT_CHANNEL_LOST, channel);
}

void relay_channel_resumed(Relay *relay, RelayChannel *channel)
{
    if (channel->pump.link)
        channel->pump.link->deadline_us =
            relay->finishing ? relay_in_ms(relay->timeouts.linger_ms) : 0;
    if (!channel->lost_us)
        return;
    channel->lost_us = 0;
    relay_report_channel(relay, RELAY_REPORT_CHANNEL_RESUMED, channel);
}

/* ---- giving up ---- */

static void give_up(Relay *relay, RelayChannel *channel, const char *reason)
{
    relay_forget_link(relay, channel);
    pump_channel_give_up(&channel->pump, reason);
    relay_watch_lanes(relay);
    channel->lost_us = 0;
    relay_act(relay);
}

void relay_abandon_peer(Relay *relay, RelayCommand *command)
{
    /* The main one first: its end is the end of all. */
    if (relay->main.lost_us)
        give_up(relay, &relay->main, command->text);
    for (guint i = 0; i < RELAY_LANES_MAX; i++) {
        if (relay->lanes[i].lost_us)
            give_up(relay, &relay->lanes[i], command->text);
    }
    relay_reply(relay, command->call, NULL);
}

static char *gone_reason(const Relay *relay, const RelayChannel *channel)
{
    guint seconds = relay->timeouts.reconnect_ms / 1000;

    return g_strdup_printf(ngettext("%s; it did not come back within %u second",
                                    "%s; it did not come back within %u seconds", seconds),
                           channel->pump.lost_why ? channel->pump.lost_why : _("lost the peer"),
                           seconds);
}

/* ---- what is due ---- */

/* A source QEMU (of 7.2 at least) whose stream ends while it recovers waits for an answer for ever, and
 * cannot be resumed any more: better it waits for the link. */
static gboolean must_not_give_up(const Relay *relay)
{
    return relay->recovers && session_state_is_active(session_state(relay->session)) &&
           engine_is_recovering(relay->engine);
}

/* For a completed side that waits for ever otherwise: it only wants to be asked, and a peer that has all it
 * needs may not come. */
#define COMPLETED_WAIT_MS (60 * 1000)

static gint64 reconnect_due(const Relay *relay, const RelayChannel *channel)
{
    guint ms = relay->timeouts.reconnect_ms;
    gint64 from = channel->lost_us;

    if (!channel->lost_us || must_not_give_up(relay))
        return G_MAXINT64;
    if (session_state(relay->session) == SESSION_COMPLETED) {
        from = MAX(from, relay->ended_us);
        ms = ms == 0 ? COMPLETED_WAIT_MS : ms;
    }
    return ms == 0 ? G_MAXINT64 : from + (gint64)ms * 1000;
}

/* Both sides have agreed on the connection, and each may ask the other whether it is there. */
static gboolean has_heartbeat(const Relay *relay, const RelayChannel *channel)
{
    SessionState state = session_state(relay->session);

    if (!channel->pump.link || channel->pump.link->state != LINK_OPEN ||
        channel->pump.link->deadline_us || relay->finishing || relay->timeouts.heartbeat_ms == 0)
        return FALSE;
    if (channel->kind == CHANNEL_MAIN)
        return session_state_is_active(state) ||
               (state == SESSION_AWAIT_QEMU && relay->side == SESSION_SOURCE);
    return lane_state(channel->pump.lane) == LANE_OPEN;
}

static gint64 heartbeat_due(const Relay *relay, const RelayChannel *channel)
{
    const Link *link = channel->pump.link;

    if (!has_heartbeat(relay, channel))
        return G_MAXINT64;
    return MAX(link->heard_us, link->asked_us) + (gint64)relay->timeouts.heartbeat_ms * 1000;
}

static gint64 channel_due(const Relay *relay, const RelayChannel *channel)
{
    gint64 due = MIN(reconnect_due(relay, channel), heartbeat_due(relay, channel));

    if (channel->pump.link && channel->pump.link->deadline_us)
        due = MIN(due, channel->pump.link->deadline_us);
    return due;
}

gint64 relay_channels_due(const Relay *relay)
{
    gint64 due = channel_due(relay, &relay->main);

    for (guint i = 0; i < RELAY_LANES_MAX; i++)
        due = MIN(due, channel_due(relay, &relay->lanes[i]));
    return due;
}

/* ---- doing it ---- */

static void lose_late(Relay *relay, RelayChannel *channel, const char *reason)
{
    channel->pump.link->is_lost = TRUE;
    pump_channel_lose(&channel->pump, reason);
    relay_watch_lanes(relay);
    relay_act(relay);
}

static gboolean awaits_first_answer(const Relay *relay, const RelayChannel *channel)
{
    return channel->pump.link->state == LINK_OPEN &&
           (channel->kind == CHANNEL_MAIN ? session_state(relay->session) == SESSION_HELLO_SENT
                                          : lane_state(channel->pump.lane) == LANE_HELLO_SENT &&
                                                !channel->is_open);
}

/* A connection that did not get anywhere in its time. */
static void turn_late(Relay *relay, RelayChannel *channel)
{
    Link *link = channel->pump.link;
    g_autofree char *reason = NULL;

    link->deadline_us = 0;
    reason = g_strdup_printf(link->state == LINK_HANDSHAKE
                                 ? _("the peer %s did not answer the TLS handshake in time")
                                 : _("the peer %s did not answer in time"),
                             link->address);
    if (relay->finishing && channel->kind != CHANNEL_MAIN) {
        relay_drop_link(relay, channel);
        relay_act(relay);
    } else if (awaits_first_answer(relay, channel)) {
        /* It is there, and does not want to speak to us, or cannot. */
        give_up(relay, channel, reason);
    } else {
        lose_late(relay, channel, reason);
    }
}

/* Intervals in which nothing was asked do not count: it may be this side that stood still. */
static void turn_heartbeat(Relay *relay, RelayChannel *channel, gint64 now_us)
{
    Link *link = channel->pump.link;
    gint64 interval = (gint64)relay->timeouts.heartbeat_ms * 1000;
    g_autofree char *reason = NULL;

    if (link->asked_us < link->heard_us) {
        link->asked = 0;
        link->asked_us = link->heard_us;
    }
    if (now_us - link->asked_us < interval)
        return;
    link->asked_us = now_us;
    if (link->asked++ < relay->timeouts.heartbeats - 1) {
        pump_channel_ping(&channel->pump);
        return;
    }
    reason = g_strdup_printf(_("lost the peer %s: it has said nothing for %u s"), link->address,
                             (guint)((now_us - link->heard_us) / G_USEC_PER_SEC));
    lose_late(relay, channel, reason);
}

static void turn_channel(Relay *relay, RelayChannel *channel)
{
    gint64 now_us = g_get_monotonic_time();

    if (reconnect_due(relay, channel) <= now_us) {
        g_autofree char *reason = gone_reason(relay, channel);

        give_up(relay, channel, reason);
    } else if (channel->pump.link && channel->pump.link->deadline_us &&
               channel->pump.link->deadline_us <= now_us) {
        turn_late(relay, channel);
    } else if (has_heartbeat(relay, channel)) {
        turn_heartbeat(relay, channel, now_us);
    }
}

void relay_turn_channels(Relay *relay)
{
    turn_channel(relay, &relay->main);
    for (guint i = 0; i < RELAY_LANES_MAX; i++)
        turn_channel(relay, &relay->lanes[i]);
}
