/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections that the destination has accepted, until they are a channel or are refused. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/relay_priv.h"
#include "tls/proof.h"
#include "util/autofd.h"

void relay_accept_peer(Relay *relay, RelayCommand *command)
{
    TlsChannelConfig config = {
        .endpoint = TLS_ENDPOINT_SERVER,
        .alpn = LINK_ALPN,
        .allowed_dns = (const char *const *)relay->allowed_dns,
    };
    g_autoptr(GError) error = NULL;
    Link *link;

    relay_reply(relay, command->call, NULL);
    if (session_state_is_end(session_state(relay->session))) {
        relay_report_refused(relay, command->text, _("the migration is over"));
        return;
    }
    if (relay->candidates->len >= RELAY_CANDIDATES_MAX) {
        relay_report_refused(relay, command->text, _("too many channels are being set up"));
        return;
    }
    link = link_new(autofd_steal(&command->fd), relay->creds, &config, command->text,
                    relay_in_ms(relay->timeouts.handshake_ms), &error);
    if (link)
        g_ptr_array_add(relay->candidates, link);
    else
        relay_report_refused(relay, command->text, error->message);
}

static gboolean drop_candidate(Relay *relay, Link *link, const char *reason)
{
    if (reason)
        relay_report_refused(relay, link->address, reason);
    g_ptr_array_remove(relay->candidates, link);
    return FALSE;
}

static gboolean refuse_candidate(Relay *relay, Link *link, const GError *why)
{
    relay_report_refused(relay, link->address, why->message);
    link_refuse(link, why, relay_in_ms(relay->timeouts.linger_ms));
    return link_see_off(link) || drop_candidate(relay, link, NULL);
}

static void take_candidate(Relay *relay, Link *link, ChannelKind kind)
{
    g_ptr_array_set_free_func(relay->candidates, NULL);
    g_ptr_array_remove(relay->candidates, link);
    g_ptr_array_set_free_func(relay->candidates, (GDestroyNotify)link_free);
    link->state = LINK_OPEN;
    link->deadline_us = 0;
    relay_report_channel_up(relay, link, kind);
}

static gboolean promote_main(Relay *relay, Link *link, const HelloBody *hello)
{
    g_autoptr(GError) error = NULL;

    if (!session_judge_hello(relay->session, hello, &error))
        return refuse_candidate(relay, link, error);
    take_candidate(relay, link, CHANNEL_MAIN);
    relay->main.link = link;
    session_on_hello(relay->session, hello, NULL);
    return FALSE;
}

static gboolean judge_preempt(Relay *relay, Link *link, const HelloBody *hello, GError **error)
{
    guint8 proof[HELLO_PROOF_LEN];

    return channel_proof(relay->main.link->channel, link->channel, CHANNEL_PREEMPT,
                         RELAY_PREEMPT_CHANNEL, proof, error) &&
           lane_judge_hello(relay->lane, hello, proof, error);
}

static gboolean promote_preempt(Relay *relay, Link *link, const HelloBody *hello)
{
    g_autoptr(GError) error = NULL;

    if (!judge_preempt(relay, link, hello, &error))
        return refuse_candidate(relay, link, error);
    take_candidate(relay, link, CHANNEL_PREEMPT);
    relay->preempt.link = link;
    lane_on_hello(relay->lane, hello, NULL);
    relay_watch_lane(relay);
    return FALSE;
}

/* What is not (yet) another channel is judged as the main one, whose errors say why not. */
static gboolean promote_candidate(Relay *relay, Link *link, const HelloBody *hello)
{
    if (hello->kind == CHANNEL_PREEMPT && relay->lane && relay->main.link)
        return promote_preempt(relay, link, hello);
    return promote_main(relay, link, hello);
}

gboolean relay_greet_candidate(Relay *relay, Link *link)
{
    g_auto(HelloBody) hello = { 0 };
    g_autoptr(GError) error = NULL;
    gboolean late = g_get_monotonic_time() >= link->deadline_us;

    if (link->state == LINK_REFUSED)
        return (!late && link_see_off(link)) || drop_candidate(relay, link, NULL);
    if (link_greet(link, &hello, &error))
        return promote_candidate(relay, link, &hello);
    if (error->domain == HELLO_ERROR)
        return refuse_candidate(relay, link, error);
    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        return drop_candidate(relay, link, error->message);
    if (late)
        return drop_candidate(relay, link,
                              link->state == LINK_HANDSHAKE
                                  ? _("the TLS handshake took too long")
                                  : _("no HELLO in time"));
    return TRUE;
}
