/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections that the destination has accepted, until they are a channel or are refused. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "ram/relay_priv.h"
#include "util/autofd.h"

/* A completed side may have to tell a peer that lost its channel that all is well. */
static gboolean is_over(const Relay *relay)
{
    SessionState state = session_state(relay->session);

    return session_state_is_end(state) && state != SESSION_COMPLETED;
}

static gboolean drop_candidate(Relay *relay, Link *link, const char *reason)
{
    if (reason)
        relay_report_refused(relay, link->address, reason);
    g_ptr_array_remove(relay->candidates, link);
    return FALSE;
}

/* The oldest has had its time. Somebody who fills the places, and has no key, must not be able to keep
 * the peer out. */
static void make_room(Relay *relay)
{
    if (relay->candidates->len >= RELAY_CANDIDATES_MAX)
        drop_candidate(relay, relay->candidates->pdata[0],
                       _("too many channels are being set up"));
}

void relay_accept_peer(Relay *relay, RelayCommand *command)
{
    TlsChannelConfig config = {
        .endpoint = TLS_ENDPOINT_SERVER,
        .alpn = LINK_ALPN,
        .allowed_dns = (const char *const *)relay->allowed_dns,
        .tickets = TRUE,
    };
    g_autoptr(GError) error = NULL;
    Link *link;

    relay_reply(relay, command->call, NULL);
    if (is_over(relay)) {
        relay_report_refused(relay, command->text, _("the migration is over"));
        return;
    }
    make_room(relay);
    link = link_new(autofd_steal(&command->fd), relay->creds, &config, command->text,
                    relay_in_ms(relay->timeouts.handshake_ms), &error);
    if (!link) {
        relay_report_refused(relay, command->text, error->message);
        return;
    }
    link->number = ++relay->accepted;
    tls_channel_set_rekey(link->channel, relay->rekey_records);
    g_ptr_array_add(relay->candidates, link);
}

static void refuse(Relay *relay, Link *link, const GError *why)
{
    g_autoptr(GError) told =
        why->domain == HELLO_ERROR
            ? g_error_copy(why)
            : g_error_new_literal(HELLO_ERROR, HELLO_ERROR_INTERNAL, why->message);

    relay_report_refused(relay, link->address, why->message);
    link_refuse(link, told, relay_in_ms(relay->timeouts.linger_ms));
}

static gboolean refuse_candidate(Relay *relay, Link *link, const GError *why)
{
    refuse(relay, link, why);
    return link_see_off(link) || drop_candidate(relay, link, NULL);
}

void relay_refuse_link(Relay *relay, Link *link, const GError *why)
{
    refuse(relay, link, why);
    if (!link_see_off(link)) {
        link_free(link);
        return;
    }
    make_room(relay);
    g_ptr_array_add(relay->candidates, link);
}

/* Out of the candidates, whole. */
static void steal_candidate(Relay *relay, Link *link)
{
    g_ptr_array_set_free_func(relay->candidates, NULL);
    g_ptr_array_remove(relay->candidates, link);
    g_ptr_array_set_free_func(relay->candidates, (GDestroyNotify)link_free);
}

/* It is the channel's connection from here on. One that is still there is one that the peer has given up:
 * it would not have dialled otherwise. */
static void take_candidate(Relay *relay, Link *link, RelayChannel *channel)
{
    steal_candidate(relay, link);
    relay_forget_link(relay, channel);
    link->state = LINK_OPEN;
    tls_channel_set_busy(link->channel);
    link->deadline_us = 0;
    link->heard_us = g_get_monotonic_time();
    channel->pump.link = link;
    channel->newest = link->number;
    relay_report_channel_up(relay, link, channel->kind, channel->number);
}

static gboolean judge_main(Relay *relay, Link *link, const HelloBody *hello, GError **error)
{
    guint8 proof[HELLO_PROOF_LEN];

    gboolean good;

    if (relay->has_key &&
        !channel_proof(relay->key, link->channel, CHANNEL_MAIN, 0, proof, error))
        return FALSE;
    good = session_judge_hello(relay->session, hello, relay->has_key ? proof : NULL, error);
    explicit_bzero(proof, sizeof proof);
    if (!good)
        return FALSE;
    return hello->resume || relay_take_key(relay, link, error);
}

static gboolean promote_main(Relay *relay, Link *link, const HelloBody *hello)
{
    g_autoptr(GError) error = NULL;

    if (!judge_main(relay, link, hello, &error))
        return refuse_candidate(relay, link, error);
    take_candidate(relay, link, &relay->main);
    session_on_hello(relay->session, hello, NULL);
    return FALSE;
}

static gboolean judge_lane(Relay *relay, const RelayChannel *channel, Link *link,
                           const HelloBody *hello, GError **error)
{
    guint8 proof[HELLO_PROOF_LEN];
    gboolean good = channel_proof(relay->key, link->channel, channel->kind, channel->number, proof,
                                  error) &&
                    lane_judge_hello(channel->pump.lane, hello, proof, error);

    explicit_bzero(proof, sizeof proof);
    return good;
}

static gboolean promote_lane(Relay *relay, RelayChannel *channel, Link *link,
                             const HelloBody *hello)
{
    g_autoptr(GError) error = NULL;

    if (relay->finishing)
        return drop_candidate(relay, link, _("the migration is over"));
    if (!judge_lane(relay, channel, link, hello, &error))
        return refuse_candidate(relay, link, error);
    take_candidate(relay, link, channel);
    lane_on_hello(channel->pump.lane, hello, NULL);
    relay_watch_lanes(relay);
    return FALSE;
}

/* Who asks for one where there are none is told so as with any kind that is not known here. */
static gboolean promote_disks(Relay *relay, Link *link, const HelloBody *hello)
{
    g_autoptr(GError) error = NULL;

    if (!relay_judge_disks(relay, link, hello, &error))
        return refuse_candidate(relay, link, error);
    steal_candidate(relay, link);
    link->state = LINK_OPEN;
    link->deadline_us = 0;
    relay_take_disks(relay, link, hello->channel);
    return FALSE;
}

/* The source dials one after the other: what comes on an older connection than the channel's was given
 * up long ago, and would take the place, and the key, of one that is alive. */
static gboolean is_outdated(const RelayChannel *channel, const Link *link)
{
    return link->number < channel->newest;
}

/* What is not (yet) another channel is judged as the main one, whose errors say why not. */
static gboolean promote_candidate(Relay *relay, Link *link, const HelloBody *hello)
{
    RelayChannel *channel;

    if (hello->kind == CHANNEL_DISKS && relay_carries_disks(relay))
        return promote_disks(relay, link, hello);
    channel = hello->kind < CHANNEL_KIND_MAX
                  ? relay_find_channel(relay, (ChannelKind)hello->kind, hello->channel)
                  : NULL;
    if (is_outdated(channel ? channel : &relay->main, link))
        return drop_candidate(relay, link, _("a later connection has taken its place"));
    if (channel && channel->pump.lane && relay->has_key)
        return promote_lane(relay, channel, link, hello);
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
