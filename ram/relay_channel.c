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

static void set_error_code(Relay *relay, const RelayChannel *channel, JobError code)
{
    if (channel->kind == CHANNEL_MAIN)
        relay->connect_error = code;
    else
        relay->channel_error = code;
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
        set_error_code(relay, channel, JOB_ERROR_TLS);
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
                                         : lane_on_channel_up(relay->lane, proof, error);
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
    set_error_code(relay, channel, JOB_ERROR_TLS);
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
    link->heard_us = g_get_monotonic_time();
    link->deadline_us = relay_in_ms(link->resumes ? relay->timeouts.handshake_ms
                                                  : relay->timeouts.hello_ack_ms);
    set_error_code(relay, channel, JOB_ERROR_REFUSED);
    relay_report_channel_up(relay, link, channel->kind);
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
    relay->connect_call = command->call;
    relay->connect_error = JOB_ERROR_FAILED;
    relay_shake_hands(relay, &relay->main);
}

/* ConnectPeer is answered when the peer has decided, one way or the other. */
void relay_answer_connect(Relay *relay)
{
    SessionState state = session_state(relay->session);
    gpointer call = relay->connect_call;

    if (state == SESSION_SETUP || state == SESSION_HELLO_SENT || !call)
        return;
    relay->connect_call = NULL;
    if (!session_state_is_end(state)) {
        /* It may be lost again already. */
        if (relay->main.pump.link)
            relay->main.pump.link->deadline_us = 0;
        relay_reply(relay, call, NULL);
        return;
    }
    if (state == SESSION_CANCELLED)
        relay->connect_error = JOB_ERROR_CANCELLED;
    relay_reply(relay, call, g_error_new_literal(JOB_ERROR, relay->connect_error,
                                                 session_reason(relay->session)));
}

/* ---- the preempt channel ---- */

void relay_connect_channel(Relay *relay, RelayCommand *command)
{
    GError *error = NULL;

    if (!relay->lane || relay->preempt.pump.link || relay->preempt.lost_us ||
        lane_state(relay->lane) != LANE_NONE ||
        session_state_is_end(session_state(relay->session))) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("a preempt channel cannot be opened")));
        return;
    }
    relay->channel_call = command->call;
    relay->channel_error = JOB_ERROR_FAILED;
    if (dial(relay, &relay->preempt, command, FALSE, &error)) {
        relay_shake_hands(relay, &relay->preempt);
    } else {
        lane_on_channel_gone(relay->lane, error->message);
        g_error_free(error);
    }
    relay_watch_lane(relay);
}

static void lane_opened(Relay *relay)
{
    relay->lane_is_open = TRUE;
    engine_set_lane(relay->engine, relay->lane);
    relay_reply(relay, g_steal_pointer(&relay->channel_call), NULL);
}

/* Before it is open that is an error of the call alone, and the caller's to judge. After that its end
 * is the end of the session: the pages that were under way on it are not here. */
static void lane_failed(Relay *relay)
{
    g_autofree char *reason =
        g_strdup_printf(_("the preempt channel: %s"), lane_reason(relay->lane));

    relay_drop_link(relay, &relay->preempt);
    relay->preempt.lost_us = 0;
    if (relay->channel_call)
        relay_reply(relay, g_steal_pointer(&relay->channel_call),
                    g_error_new_literal(JOB_ERROR, relay->channel_error, lane_reason(relay->lane)));
    else if (!session_state_is_end(session_state(relay->session)))
        session_on_channel_gone(relay->session, reason);
}

void relay_watch_lane(Relay *relay)
{
    RelayChannel *channel = &relay->preempt;
    Link *link = channel->pump.link;
    LaneState state = relay->lane ? lane_state(relay->lane) : LANE_NONE;

    if (!relay->lane)
        return;
    if (state == LANE_FAILED && (link || channel->lost_us || relay->channel_call)) {
        lane_failed(relay);
    } else if (link && link->is_lost && lane_is_lost(relay->lane)) {
        relay_lose_channel(relay, channel);
    } else if (state == LANE_OPEN && link && !lane_is_lost(relay->lane)) {
        relay_channel_resumed(relay, channel);
        if (!relay->lane_is_open)
            lane_opened(relay);
    } else if (link && lane_is_through(relay->lane)) {
        relay_drop_link(relay, channel);
    }
}

/* ---- another connection of a channel ---- */

static gboolean was_agreed(const Lane *lane)
{
    return lane && lane_state(lane) == LANE_OPEN;
}

void relay_reconnect_channel(Relay *relay, RelayCommand *command)
{
    RelayChannel *channel = command->kind == CHANNEL_MAIN ? &relay->main : &relay->preempt;
    gboolean resumes = command->kind == CHANNEL_MAIN ? session_wants_proof(relay->session)
                                                     : was_agreed(relay->lane);
    g_autoptr(GError) error = NULL;

    if (!channel->lost_us || channel->pump.link) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("the channel needs no other connection")));
        return;
    }
    relay_reply(relay, command->call, NULL);
    if (dial(relay, channel, command, resumes, &error)) {
        relay_shake_hands(relay, channel);
        relay_watch_lane(relay);
        return;
    }
    /* The machine knows of no connection yet: it is lost as before. */
    g_free(channel->pump.lost_why);
    channel->pump.lost_why = g_strdup(error->message);
    relay_lose_channel(relay, channel);
}
