/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The channels to the peer: how the source makes them, and what becomes of both sides'. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/relay_priv.h"
#include "tls/proof.h"
#include "util/autofd.h"

static Link *dial(Relay *relay, RelayCommand *command, GError **error)
{
    TlsChannelConfig config = {
        .endpoint = TLS_ENDPOINT_CLIENT,
        .hostname = relay->check_host ? command->text : NULL,
        .alpn = LINK_ALPN,
        .allowed_dns = (const char *const *)relay->allowed_dns,
    };

    return link_new(autofd_steal(&command->fd), relay->creds, &config, command->text,
                    relay_in_ms(relay->timeouts.handshake_ms), error);
}

/* ---- the main channel ---- */

void relay_connect_peer(Relay *relay, RelayCommand *command)
{
    GError *error = NULL;

    if (relay->main.link || session_state(relay->session) != SESSION_SETUP) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("a peer cannot be connected")));
        return;
    }
    relay->main.link = dial(relay, command, &error);
    if (!relay->main.link) {
        session_on_channel_lost(relay->session, error->message);
        relay_reply(relay, command->call,
                    g_error_new_literal(JOB_ERROR, JOB_ERROR_TLS, error->message));
        g_error_free(error);
        return;
    }
    relay->connect_call = command->call;
    relay->connect_error = JOB_ERROR_FAILED;
    relay_shake_hands(relay);
}

void relay_shake_hands(Relay *relay)
{
    Link *link = relay->main.link;
    g_autoptr(GError) error = NULL;

    if (!tls_channel_handshake(link->channel, &error)) {
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            return;
        if (!g_error_matches(error, TLS_ERROR, TLS_ERROR_IO))
            relay->connect_error = JOB_ERROR_TLS;
        session_on_channel_lost(relay->session, error->message);
        return;
    }
    link->state = LINK_OPEN;
    link->deadline_us = relay_in_ms(relay->timeouts.hello_ack_ms);
    relay->connect_error = JOB_ERROR_REFUSED;
    relay_report_channel_up(relay, link, CHANNEL_MAIN);
    session_on_channel_up(relay->session, NULL);
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
        relay->main.link->deadline_us = 0;
        relay_reply(relay, call, NULL);
        return;
    }
    if (state == SESSION_CANCELLED)
        relay->connect_error = JOB_ERROR_CANCELLED;
    relay_reply(relay, call, g_error_new_literal(JOB_ERROR, relay->connect_error,
                                                 session_reason(relay->session)));
}

void relay_drop_main(Relay *relay)
{
    if (!relay->main.link)
        return;
    link_wire_bytes(relay->main.link, &relay->wire_sent, &relay->wire_received);
    if (relay->main.link->tls_refused)
        relay->connect_error = JOB_ERROR_TLS;
    g_clear_pointer(&relay->main.link, link_free);
}

/* ---- the preempt channel ---- */

void relay_connect_channel(Relay *relay, RelayCommand *command)
{
    GError *error = NULL;

    if (!relay->lane || relay->preempt.link || lane_state(relay->lane) != LANE_NONE ||
        session_state_is_end(session_state(relay->session))) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("a preempt channel cannot be opened")));
        return;
    }
    relay->channel_call = command->call;
    relay->channel_error = JOB_ERROR_FAILED;
    relay->preempt.link = dial(relay, command, &error);
    if (relay->preempt.link) {
        relay_shake_hands_preempt(relay);
    } else {
        lane_on_channel_lost(relay->lane, error->message);
        g_error_free(error);
    }
    relay_watch_lane(relay);
}

static gboolean open_lane(Relay *relay, GError **error)
{
    guint8 proof[HELLO_PROOF_LEN];

    return channel_proof(relay->main.link->channel, relay->preempt.link->channel, CHANNEL_PREEMPT,
                         RELAY_PREEMPT_CHANNEL, proof, error) &&
           lane_on_channel_up(relay->lane, proof, error);
}

void relay_shake_hands_preempt(Relay *relay)
{
    Link *link = relay->preempt.link;
    g_autoptr(GError) error = NULL;

    if (!tls_channel_handshake(link->channel, &error)) {
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            return;
        if (!g_error_matches(error, TLS_ERROR, TLS_ERROR_IO))
            relay->channel_error = JOB_ERROR_TLS;
        lane_on_channel_lost(relay->lane, error->message);
        return;
    }
    link->state = LINK_OPEN;
    link->deadline_us = relay_in_ms(relay->timeouts.hello_ack_ms);
    relay->channel_error = JOB_ERROR_REFUSED;
    relay_report_channel_up(relay, link, CHANNEL_PREEMPT);
    if (!open_lane(relay, &error))
        lane_on_channel_lost(relay->lane, error->message);
}

void relay_drop_preempt(Relay *relay)
{
    if (!relay->preempt.link)
        return;
    link_wire_bytes(relay->preempt.link, &relay->wire_preempt_sent,
                    &relay->wire_preempt_received);
    if (relay->preempt.link->tls_refused)
        relay->channel_error = JOB_ERROR_TLS;
    g_clear_pointer(&relay->preempt.link, link_free);
}

static void lane_opened(Relay *relay)
{
    relay->lane_is_open = TRUE;
    relay->preempt.link->deadline_us = 0;
    engine_set_lane(relay->engine, relay->lane);
    relay_reply(relay, g_steal_pointer(&relay->channel_call), NULL);
}

/* Before it is open that is an error of the call alone, and the caller's to judge. After that its loss
 * is the loss of the session: the pages that were under way on it are not here. */
static void lane_failed(Relay *relay)
{
    g_autofree char *reason =
        g_strdup_printf(_("the preempt channel: %s"), lane_reason(relay->lane));

    relay_drop_preempt(relay);
    if (relay->channel_call)
        relay_reply(relay, g_steal_pointer(&relay->channel_call),
                    g_error_new_literal(JOB_ERROR, relay->channel_error, lane_reason(relay->lane)));
    else if (!session_state_is_end(session_state(relay->session)))
        session_on_channel_lost(relay->session, reason);
}

void relay_watch_lane(Relay *relay)
{
    if (!relay->lane)
        return;
    if (lane_state(relay->lane) == LANE_OPEN && !relay->lane_is_open)
        lane_opened(relay);
    else if (lane_state(relay->lane) == LANE_FAILED && (relay->preempt.link || relay->channel_call))
        lane_failed(relay);
    else if (relay->preempt.link && lane_is_through(relay->lane))
        relay_drop_preempt(relay);
}
