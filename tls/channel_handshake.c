/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A TLS channel from its first byte to a verified peer, by a full handshake or by a ticket. */
#include "config.h"

#include "tls/channel.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <string.h>

#include "tls/channel_priv.h"

/* Of gnutls, inside the handshake, when the peer has shown its certificate and proved that it has
 * the key: on a client before ours is sent. */
static int verify_peer(gnutls_session_t session)
{
    TlsChannel *channel = gnutls_session_get_ptr(session);
    const TlsPeerRules rules = {
        .hostname = channel->hostname,
        .allowed_dns = (const char *const *)channel->allowed_dns,
        .ca_name = tls_credentials_file_name(channel->creds, TLS_FILE_CA_CERT),
        .peer_endpoint = channel->endpoint == TLS_ENDPOINT_CLIENT ? TLS_ENDPOINT_SERVER
                                                                  : TLS_ENDPOINT_CLIENT,
    };

    g_clear_error(&channel->verdict);
    g_clear_pointer(&channel->peer_name, g_free);
    channel->peer_verified = tls_peer_verify(session, &rules, &channel->peer_name,
                                             &channel->verdict_alert, &channel->verdict);
    return channel->peer_verified ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

/* Of gnutls, on each message of a handshake and after it. */
static int note_message(gnutls_session_t session, unsigned int type, unsigned int when,
                        unsigned int incoming, const gnutls_datum_t *body)
{
    TlsChannel *channel = gnutls_session_get_ptr(session);

    if (type == GNUTLS_HANDSHAKE_KEY_UPDATE && when == GNUTLS_HOOK_PRE)
        tls_rekey_note_update(&channel->rekey, incoming != 0, body);
    /* Kept now: of a connection that has broken gnutls gives no ticket. */
    if (type == GNUTLS_HANDSHAKE_NEW_SESSION_TICKET && when == GNUTLS_HOOK_POST && incoming &&
        channel->tickets) {
        g_clear_pointer(&channel->ticket, g_bytes_unref);
        channel->ticket = tls_ticket_take(channel);
    }
    return 0;
}

static int session_init(TlsChannel *channel)
{
    guint flags = GNUTLS_NONBLOCK;
    gnutls_datum_t alpn = { (unsigned char *)channel->alpn, 0 };
    int ret;

    /* A server gives its ticket when it has verified the peer, not in the handshake. */
    flags |= channel->tickets ? GNUTLS_NO_AUTO_SEND_TICKET : GNUTLS_NO_TICKETS;
    /* A client that has no certificate of an authority the server lists would send none, and
     * the server would have nothing to name in its error. */
    flags |= channel->endpoint == TLS_ENDPOINT_CLIENT ? GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT
                                                      : GNUTLS_SERVER;
    ret = gnutls_init(&channel->session, flags);
    if (ret < 0)
        return ret;
    gnutls_session_set_ptr(channel->session, channel);
    gnutls_handshake_set_timeout(channel->session, GNUTLS_INDEFINITE_TIMEOUT);
    gnutls_handshake_set_hook_function(channel->session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_BOTH,
                                       note_message);
    tls_transport_attach(&channel->transport, channel->session);
    if (tls_credentials_auth(channel->creds) == TLS_AUTH_X509)
        gnutls_session_set_verify_function(channel->session, verify_peer);
    if (channel->alpn) {
        alpn.size = (unsigned int)strlen(channel->alpn);
        ret = gnutls_alpn_set_protocols(channel->session, &alpn, 1, GNUTLS_ALPN_MANDATORY);
    }
    return ret;
}

gboolean tls_channel_prepare(TlsChannel *channel, GBytes *ticket, GError **error)
{
    int ret = session_init(channel);

    if (ret >= 0 && channel->tickets && channel->endpoint == TLS_ENDPOINT_SERVER)
        ret = gnutls_session_ticket_enable_server(channel->session,
                                                  tls_credentials_secret(channel->creds));
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE, _("TLS cannot be set up: %1$s"),
                    gnutls_strerror(ret));
        return FALSE;
    }
    if (!tls_credentials_attach(channel->creds, channel->session, error))
        return FALSE;
    if (ticket && channel->tickets && channel->endpoint == TLS_ENDPOINT_CLIENT)
        tls_ticket_show(channel, ticket);
    return TRUE;
}

/* The peer knows why it is let down, if the socket takes the alert. */
static void send_alert(TlsChannel *channel, gnutls_alert_description_t alert)
{
    gnutls_alert_send(channel->session, GNUTLS_AL_FATAL, alert);
    tls_transport_flush(&channel->transport);
}

static gboolean fail_handshake(TlsChannel *channel, int ret, GError **error)
{
    gboolean peer_gone = ret == GNUTLS_E_FATAL_ALERT_RECEIVED ||
                         ret == GNUTLS_E_PREMATURE_TERMINATION || ret == GNUTLS_E_PULL_ERROR ||
                         ret == GNUTLS_E_PUSH_ERROR;

    if (channel->verdict) {
        send_alert(channel, channel->verdict_alert);
        return tls_channel_fail(channel, g_steal_pointer(&channel->verdict), error);
    }
    if (!peer_gone) {
        gnutls_alert_send_appropriate(channel->session, ret);
        tls_transport_flush(&channel->transport);
    }
    return tls_channel_fail(channel, tls_channel_failure(channel, ret), error);
}

/* What gnutls does not insist on: it lets a peer without ALPN pass. */
static gboolean check_alpn(TlsChannel *channel, GError **error)
{
    gnutls_datum_t chosen = { NULL, 0 };

    if (!channel->alpn)
        return TRUE;
    if (gnutls_alpn_get_selected_protocol(channel->session, &chosen) >= 0 &&
        chosen.size == strlen(channel->alpn) &&
        memcmp(chosen.data, channel->alpn, chosen.size) == 0)
        return TRUE;
    send_alert(channel, GNUTLS_A_NO_APPLICATION_PROTOCOL);
    return tls_channel_fail(
        channel, tls_channel_failure(channel, GNUTLS_E_NO_APPLICATION_PROTOCOL), error);
}

/* The key was proved by the handshake itself. */
static void note_psk_peer(TlsChannel *channel)
{
    gnutls_datum_t identity = { NULL, 0 };

    channel->peer_verified = gnutls_auth_get_type(channel->session) == GNUTLS_CRD_PSK;
    if (channel->endpoint == TLS_ENDPOINT_CLIENT)
        channel->peer_name = g_strdup(tls_credentials_own_name(channel->creds));
    else if (gnutls_psk_server_get_username2(channel->session, &identity) >= 0)
        channel->peer_name = tls_psk_identity_text(identity.data, identity.size);
}

static gboolean finish_handshake(TlsChannel *channel, GError **error)
{
    gboolean resumed = gnutls_session_is_resumed(channel->session) != 0;

    if (tls_credentials_auth(channel->creds) == TLS_AUTH_PSK)
        note_psk_peer(channel);
    /* gnutls asks for a verdict on what it was shown, and here nothing was: the certificate is the
     * one in the ticket, the rules and the date are of today. */
    else if (resumed && verify_peer(channel->session) != 0)
        return fail_handshake(channel, GNUTLS_E_CERTIFICATE_ERROR, error);
    /* Nobody gets here unverified; if a gnutls lets one, this is where it stops. */
    if (!channel->peer_verified ||
        gnutls_protocol_get_version(channel->session) != GNUTLS_TLS1_3) {
        send_alert(channel, GNUTLS_A_ACCESS_DENIED);
        return tls_channel_fail(channel,
                                g_error_new_literal(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                                                    _("the peer was not verified")),
                                error);
    }
    if (!check_alpn(channel, error))
        return FALSE;
    channel->state = CHANNEL_OPEN;
    channel->opened = TRUE;
    channel->resumed = resumed;
    /* A peer that gets none does a full handshake the next time. */
    if (channel->tickets && channel->endpoint == TLS_ENDPOINT_SERVER)
        gnutls_session_ticket_send(channel->session, 1, 0);
    return TRUE;
}

gboolean tls_channel_handshake(TlsChannel *channel, GError **error)
{
    int ret = GNUTLS_E_AGAIN;
    int err;

    if (channel->state != CHANNEL_HANDSHAKE)
        return tls_channel_check_usable(channel, error);
    channel->transport.dry = FALSE;
    for (guint turn = 0; turn < TLS_EMPTY_TURNS_MAX && !channel->transport.dry; turn++) {
        ret = gnutls_handshake(channel->session);
        if (ret >= 0)
            return finish_handshake(channel, error);
        if (gnutls_error_is_fatal(ret))
            return fail_handshake(channel, ret, error);
    }
    err = tls_transport_flush(&channel->transport);
    if (err != 0 && err != EAGAIN)
        return fail_handshake(channel, GNUTLS_E_PUSH_ERROR, error);
    return tls_channel_would_block(error);
}
