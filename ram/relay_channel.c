/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The channels to the peer: how the source makes their connections, and what becomes of both sides'. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "ram/relay_priv.h"
#include "util/autofd.h"

/* ---- connections ---- */

Link *relay_dial(Relay *relay, RelayCommand *command, GBytes *ticket, GError **error)
{
    TlsChannelConfig config = {
        .endpoint = TLS_ENDPOINT_CLIENT,
        .hostname = relay->check_host ? command->text : NULL,
        .alpn = LINK_ALPN,
        .allowed_dns = (const char *const *)relay->allowed_dns,
        .tickets = TRUE,
        .ticket = ticket,
    };
    Link *link = link_new(autofd_steal(&command->fd), relay->creds, &config, command->text,
                          relay_in_ms(relay->timeouts.handshake_ms), error);

    if (link)
        tls_channel_set_rekey(link->channel, relay->rekey_records);
    return link;
}

/* resumes: there was one before that the peer has agreed to. */
static gboolean dial(Relay *relay, RelayChannel *channel, RelayCommand *command, gboolean resumes,
                     GError **error)
{
    Link *link = relay_dial(relay, command, channel->ticket, error);

    if (!link)
        return FALSE;
    link->resumes = resumes;
    channel->pump.link = link;
    return TRUE;
}

void relay_count_wire(const RelayChannel *channel, guint64 *ret_sent, guint64 *ret_received,
                      guint64 *ret_key_updates)
{
    const Link *link = channel->pump.link;
    guint64 sent = 0;
    guint64 received = 0;

    if (link) {
        link_wire_bytes(link, &sent, &received);
        *ret_key_updates += tls_channel_key_updates(link->channel);
    }
    *ret_sent = channel->wire_sent + sent;
    *ret_received = channel->wire_received + received;
    *ret_key_updates += channel->key_updates;
}

static void keep_ticket(RelayChannel *channel)
{
    GBytes *ticket = tls_channel_ticket(channel->pump.link->channel);

    if (!ticket)
        return;
    g_clear_pointer(&channel->ticket, g_bytes_unref);
    channel->ticket = ticket;
}

void relay_forget_link(Relay *relay, RelayChannel *channel)
{
    guint64 key_updates = 0;

    if (!channel->pump.link)
        return;
    relay_count_wire(channel, &channel->wire_sent, &channel->wire_received, &key_updates);
    channel->key_updates = key_updates;
    keep_ticket(channel);
    if (channel->pump.link->tls_refused)
        channel->error = JOB_ERROR_TLS;
    g_clear_pointer(&channel->pump.link, link_free);
}

/* The last word (BYE, ERROR) goes as far as it goes at once: a peer that misses it would wait for it. It
 * may have ended its direction already. */
void relay_drop_link(Relay *relay, RelayChannel *channel)
{
    Link *link = channel->pump.link;

    if (link && link->state == LINK_OPEN) {
        link->is_lost = TRUE; /* nobody is told any more */
        pump_channel_out(&channel->pump);
        link_say_bye(link);
    }
    relay_forget_link(relay, channel);
}

/* ---- the source's HELLO ---- */

gboolean relay_take_key(Relay *relay, Link *link, GError **error)
{
    guint8 key[CHANNEL_KEY_LEN];

    if (!channel_key(link->channel, key, error))
        return FALSE;
    memcpy(relay->key, key, sizeof key);
    explicit_bzero(key, sizeof key);
    relay->has_key = TRUE;
    return TRUE;
}

static gboolean prove(Relay *relay, RelayChannel *channel, GError **error)
{
    guint8 proof[HELLO_PROOF_LEN];
    gboolean done;

    if (!channel_proof(relay->key, channel->pump.link->channel, channel->kind, channel->number,
                       proof, error))
        return FALSE;
    done = channel->kind == CHANNEL_MAIN ? session_on_channel_up(relay->session, proof, error)
                                         : lane_on_channel_up(channel->pump.lane, proof, error);
    explicit_bzero(proof, sizeof proof);
    return done;
}

static gboolean say_hello(Relay *relay, RelayChannel *channel, GError **error)
{
    if (channel->kind != CHANNEL_MAIN || session_wants_proof(relay->session))
        return prove(relay, channel, error);
    return relay_take_key(relay, channel->pump.link, error) &&
           session_on_channel_up(relay->session, NULL, error);
}

static void handshake_failed(Relay *relay, RelayChannel *channel, const GError *error)
{
    Link *link = channel->pump.link;

    link->is_lost = TRUE;
    /* Somebody else may answer on the way to a peer that has agreed already: that is one more loss. */
    if (link->resumes || g_error_matches(error, TLS_ERROR, TLS_ERROR_IO)) {
        pump_channel_lose(&channel->pump, error->message);
        return;
    }
    channel->error = JOB_ERROR_TLS;
    pump_channel_give_up(&channel->pump, error->message);
}

void relay_shake_hands(Relay *relay, RelayChannel *channel)
{
    Link *link = channel->pump.link;
    g_autoptr(GError) error = NULL;

    if (!tls_channel_handshake(link->channel, &error)) {
        if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            handshake_failed(relay, channel, error);
        return;
    }
    link->state = LINK_OPEN;
    tls_channel_set_busy(link->channel);
    link->heard_us = g_get_monotonic_time();
    link->deadline_us = relay_in_ms(link->resumes ? relay->timeouts.handshake_ms
                                                  : relay->timeouts.hello_ack_ms);
    channel->error = JOB_ERROR_REFUSED;
    relay_report_channel_up(relay, link, channel->kind, channel->number);
    if (!say_hello(relay, channel, &error))
        pump_channel_give_up(&channel->pump, error->message);
}

/* ---- the main channel ---- */

void relay_connect_peer(Relay *relay, RelayCommand *command)
{
    GError *error = NULL;

    if (relay->main.pump.link || relay->main.lost_us ||
        session_state(relay->session) != SESSION_SETUP) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("a peer cannot be connected")));
        return;
    }
    if (!dial(relay, &relay->main, command, FALSE, &error)) {
        session_on_channel_gone(relay->session, error->message);
        relay_reply(relay, command->call,
                    g_error_new_literal(JOB_ERROR, JOB_ERROR_TLS, error->message));
        g_error_free(error);
        return;
    }
    relay->main.call = command->call;
    relay->main.error = JOB_ERROR_FAILED;
    relay_shake_hands(relay, &relay->main);
}

/* ConnectPeer is answered when the peer has decided, one way or the other. */
void relay_answer_connect(Relay *relay)
{
    SessionState state = session_state(relay->session);
    gpointer call = relay->main.call;

    if (state == SESSION_SETUP || state == SESSION_HELLO_SENT || !call)
        return;
    relay->main.call = NULL;
    if (!session_state_is_end(state)) {
        /* It may be lost again already. */
        if (relay->main.pump.link)
            relay->main.pump.link->deadline_us = 0;
        relay_reply(relay, call, NULL);
        return;
    }
    if (state == SESSION_CANCELLED)
        relay->main.error = JOB_ERROR_CANCELLED;
    relay_reply(relay, call, g_error_new_literal(JOB_ERROR, relay->main.error,
                                                 session_reason(relay->session)));
}

/* ---- the other channels ---- */

RelayChannel *relay_find_channel(Relay *relay, ChannelKind kind, guint16 number)
{
    guint lane = kind == CHANNEL_PREEMPT ? RELAY_PREEMPT : number;

    if (kind == CHANNEL_MAIN)
        return &relay->main;
    if ((kind != CHANNEL_PREEMPT && kind != CHANNEL_BULK) || lane >= RELAY_LANES_MAX ||
        (kind == CHANNEL_BULK && number == 0))
        return NULL;
    return relay_has_lane(relay, lane) ? &relay->lanes[lane] : NULL;
}

void relay_connect_channel(Relay *relay, RelayCommand *command)
{
    RelayChannel *channel = relay_find_channel(relay, command->kind, command->number);
    GError *error = NULL;

    if (!channel || channel->pump.link || channel->lost_us ||
        lane_state(channel->pump.lane) != LANE_NONE ||
        session_state_is_end(session_state(relay->session))) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("such a channel cannot be opened")));
        return;
    }
    channel->call = command->call;
    channel->error = JOB_ERROR_FAILED;
    if (dial(relay, channel, command, FALSE, &error)) {
        relay_shake_hands(relay, channel);
    } else {
        lane_on_channel_gone(channel->pump.lane, error->message);
        g_error_free(error);
    }
    relay_watch_lanes(relay);
}

static void lane_opened(Relay *relay, RelayChannel *channel)
{
    channel->is_open = TRUE;
    if (channel->kind == CHANNEL_PREEMPT)
        engine_set_lane(relay->engine, channel->pump.lane);
    else
        engine_add_bulk(relay->engine, channel->pump.lane);
    relay_reply(relay, g_steal_pointer(&channel->call), NULL);
}

/* Before it is open that is an error of the call alone, and the caller's to judge. After that its end
 * is the end of the session: the pages that were under way on it are not here. */
static void lane_failed(Relay *relay, RelayChannel *channel)
{
    const Lane *lane = channel->pump.lane;
    g_autofree char *reason =
        g_strdup_printf(_("the %s channel: %s"), lane_name(lane), lane_reason(lane));

    relay_drop_link(relay, channel);
    channel->lost_us = 0;
    if (channel->call)
        relay_reply(relay, g_steal_pointer(&channel->call),
                    g_error_new_literal(JOB_ERROR, channel->error, lane_reason(lane)));
    else if (!session_state_is_end(session_state(relay->session)))
        session_on_channel_gone(relay->session, reason);
}

static void watch_lane(Relay *relay, RelayChannel *channel)
{
    Link *link = channel->pump.link;
    const Lane *lane = channel->pump.lane;
    LaneState state = lane_state(lane);

    if (state == LANE_FAILED && (link || channel->lost_us || channel->call)) {
        lane_failed(relay, channel);
    } else if (link && link->is_lost && lane_is_lost(lane)) {
        relay_lose_channel(relay, channel);
    } else if (state == LANE_OPEN && link && !lane_is_lost(lane)) {
        relay_channel_resumed(relay, channel);
        if (!channel->is_open)
            lane_opened(relay, channel);
    } else if (link && lane_is_through(lane)) {
        relay_drop_link(relay, channel);
    }
}

void relay_watch_lanes(Relay *relay)
{
    for (guint i = 0; i < RELAY_LANES_MAX; i++) {
        if (relay_has_lane(relay, i))
            watch_lane(relay, &relay->lanes[i]);
    }
}

/* ---- another connection of a channel ---- */

void relay_reconnect_channel(Relay *relay, RelayCommand *command)
{
    RelayChannel *channel = relay_find_channel(relay, command->kind, command->number);
    gboolean resumes;
    g_autoptr(GError) error = NULL;

    if (!channel || !channel->lost_us || channel->pump.link) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("the channel needs no other connection")));
        return;
    }
    relay_reply(relay, command->call, NULL);
    resumes = channel->kind == CHANNEL_MAIN ? session_wants_proof(relay->session)
                                            : lane_state(channel->pump.lane) == LANE_OPEN;
    if (dial(relay, channel, command, resumes, &error)) {
        relay_shake_hands(relay, channel);
        relay_watch_lanes(relay);
        return;
    }
    /* The machine knows of no connection yet: it is lost as before. */
    g_free(channel->pump.lost_why);
    channel->pump.lost_why = g_strdup(error->message);
    relay_lose_channel(relay, channel);
}
