/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/channel.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "tls/channel_priv.h"

/* RFC 8446, section 5.1: what one record carries. */
#define RECORD_MAX 16384
/* Records that carry nothing for us (key updates, warnings) taken by one call: a peer that sends
 * them without end must not keep the thread from its other work. */
#define EMPTY_TURNS_MAX 32
/* gnutls peers end a connection that changes keys more than 8 times in a second, and each end may
 * cause as many: stay far below, also when the network delays some and delivers them together. */
#define KEY_UPDATE_INTERVAL_US G_USEC_PER_SEC

typedef enum {
    CHANNEL_HANDSHAKE,
    CHANNEL_OPEN,
    CHANNEL_READ_CLOSED, /* the peer said it sends nothing more; we may */
    CHANNEL_FAILED,
} ChannelState;

struct TlsChannel {
    TlsSessionLink link; /* first: gnutls_session_get_ptr() gives the channel and this */
    ChannelState state;
    TlsTransport transport;
    TlsCredentials *creds;
    gnutls_session_t session;
    TlsEndpoint endpoint;
    char *hostname;
    char *alpn;
    char **allowed_dns;
    char *peer_name;
    gboolean peer_verified;
    GError *verdict; /* why the peer's certificate is not accepted; the alert goes with it */
    gnutls_alert_description_t verdict_alert;
    GError *failure;  /* CHANNEL_FAILED: what each later call reports again */
    GByteArray *late; /* read while looking for the reason of a failed write */
    gboolean opened;  /* the handshake succeeded, whatever came later */
    gboolean talked;  /* the peer has sent data */
    gboolean said_bye;
    gint64 key_update_us; /* when the last one was sent, or 0 */
};

/* FALSE, with the channel failed for good. Takes failure. */
static gboolean channel_fail(TlsChannel *channel, GError *failure, GError **error)
{
    channel->state = CHANNEL_FAILED;
    g_clear_error(&channel->failure);
    channel->failure = failure;
    g_propagate_error(error, g_error_copy(failure));
    return FALSE;
}

static GError *channel_error_new(const TlsChannel *channel, int ret)
{
    const TlsErrorContext ctx = {
        .session = channel->session,
        .creds = channel->creds,
        .transport = &channel->transport,
        .unknown_identity = channel->link.unknown_identity,
        .alpn = channel->alpn,
        .handshake = channel->state == CHANNEL_HANDSHAKE,
        .talked = channel->talked,
    };

    return tls_channel_error_new(&ctx, ret);
}

static gboolean would_block(GError **error)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, _("the peer is not ready"));
    return FALSE;
}

/* Every call but the handshake needs a verified peer. */
static gboolean check_usable(const TlsChannel *channel, GError **error)
{
    if (channel->state == CHANNEL_FAILED) {
        g_propagate_error(error, g_error_copy(channel->failure));
        return FALSE;
    }
    if (channel->state == CHANNEL_HANDSHAKE) {
        g_set_error_literal(error, TLS_ERROR, TLS_ERROR_HANDSHAKE,
                            _("the TLS handshake is not finished"));
        return FALSE;
    }
    return TRUE;
}

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

static int session_init(TlsChannel *channel)
{
    guint flags = GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS;
    gnutls_datum_t alpn = { (unsigned char *)channel->alpn, 0 };
    int ret;

    /* A client that has no certificate of an authority the server lists would send none, and
     * the server would have nothing to name in its error. */
    flags |= channel->endpoint == TLS_ENDPOINT_CLIENT ? GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT
                                                      : GNUTLS_SERVER;
    ret = gnutls_init(&channel->session, flags);
    if (ret < 0)
        return ret;
    gnutls_session_set_ptr(channel->session, channel);
    gnutls_handshake_set_timeout(channel->session, GNUTLS_INDEFINITE_TIMEOUT);
    tls_transport_attach(&channel->transport, channel->session);
    if (tls_credentials_auth(channel->creds) == TLS_AUTH_X509)
        gnutls_session_set_verify_function(channel->session, verify_peer);
    if (channel->alpn) {
        alpn.size = (unsigned int)strlen(channel->alpn);
        ret = gnutls_alpn_set_protocols(channel->session, &alpn, 1, GNUTLS_ALPN_MANDATORY);
    }
    return ret;
}

TlsChannel *tls_channel_new(int fd, TlsCredentials *creds, const TlsChannelConfig *config,
                            GError **error)
{
    g_autoptr(TlsChannel) channel = g_new0(TlsChannel, 1);
    int ret;

    tls_transport_init(&channel->transport, fd);
    channel->creds = tls_credentials_ref(creds);
    channel->link.creds = creds;
    channel->endpoint = config->endpoint;
    channel->hostname = g_strdup(config->hostname);
    channel->alpn = g_strdup(config->alpn);
    channel->allowed_dns = g_strdupv((char **)config->allowed_dns);

    if (tls_credentials_endpoint(creds) != config->endpoint) {
        g_set_error_literal(error, TLS_ERROR, TLS_ERROR_HANDSHAKE,
                            _("the TLS credentials are for the other end of a connection"));
        return NULL;
    }
    ret = session_init(channel);
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE, _("TLS cannot be set up: %1$s"),
                    gnutls_strerror(ret));
        return NULL;
    }
    if (!tls_credentials_attach(creds, channel->session, error))
        return NULL;
    return g_steal_pointer(&channel);
}

void tls_channel_free(TlsChannel *channel)
{
    if (!channel)
        return;
    g_clear_pointer(&channel->session, gnutls_deinit);
    tls_transport_clear(&channel->transport);
    if (channel->transport.fd >= 0)
        close(channel->transport.fd);
    g_clear_pointer(&channel->creds, tls_credentials_unref);
    g_clear_pointer(&channel->late, g_byte_array_unref);
    g_clear_error(&channel->verdict);
    g_clear_error(&channel->failure);
    g_free(channel->link.unknown_identity);
    g_free(channel->hostname);
    g_free(channel->alpn);
    g_strfreev(channel->allowed_dns);
    g_free(channel->peer_name);
    g_free(channel);
}

int tls_channel_fd(const TlsChannel *channel)
{
    return channel->transport.fd;
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
        return channel_fail(channel, g_steal_pointer(&channel->verdict), error);
    }
    if (!peer_gone) {
        gnutls_alert_send_appropriate(channel->session, ret);
        tls_transport_flush(&channel->transport);
    }
    return channel_fail(channel, channel_error_new(channel, ret), error);
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
    return channel_fail(channel, channel_error_new(channel, GNUTLS_E_NO_APPLICATION_PROTOCOL),
                        error);
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
    if (tls_credentials_auth(channel->creds) == TLS_AUTH_PSK)
        note_psk_peer(channel);
    /* Nobody gets here unverified; if a gnutls lets one, this is where it stops. */
    if (!channel->peer_verified ||
        gnutls_protocol_get_version(channel->session) != GNUTLS_TLS1_3) {
        send_alert(channel, GNUTLS_A_ACCESS_DENIED);
        return channel_fail(channel,
                            g_error_new_literal(TLS_ERROR, TLS_ERROR_HANDSHAKE,
                                                _("the peer was not verified")),
                            error);
    }
    if (!check_alpn(channel, error))
        return FALSE;
    channel->state = CHANNEL_OPEN;
    channel->opened = TRUE;
    return TRUE;
}

gboolean tls_channel_handshake(TlsChannel *channel, GError **error)
{
    int ret = GNUTLS_E_AGAIN;
    int err;

    if (channel->state != CHANNEL_HANDSHAKE)
        return check_usable(channel, error);
    channel->transport.dry = FALSE;
    for (guint turn = 0; turn < EMPTY_TURNS_MAX && !channel->transport.dry; turn++) {
        ret = gnutls_handshake(channel->session);
        if (ret >= 0)
            return finish_handshake(channel, error);
        if (gnutls_error_is_fatal(ret))
            return fail_handshake(channel, ret, error);
    }
    err = tls_transport_flush(&channel->transport);
    if (err != 0 && err != EAGAIN)
        return fail_handshake(channel, GNUTLS_E_PUSH_ERROR, error);
    return would_block(error);
}

/* Like tls_channel_read(), on an open channel and straight from gnutls. */
static gssize receive(TlsChannel *channel, void *buf, gsize len, GError **error)
{
    channel->transport.dry = FALSE;
    for (guint turn = 0; turn < EMPTY_TURNS_MAX && !channel->transport.dry; turn++) {
        ssize_t n = gnutls_record_recv(channel->session, buf, len);

        if (n > 0) {
            channel->talked = TRUE;
            return n;
        }
        if (n == 0) {
            channel->state = CHANNEL_READ_CLOSED;
            return 0;
        }
        if (gnutls_error_is_fatal((int)n)) {
            GError *failure = channel_error_new(channel, (int)n);

            if (n != GNUTLS_E_FATAL_ALERT_RECEIVED && n != GNUTLS_E_PREMATURE_TERMINATION &&
                n != GNUTLS_E_PULL_ERROR)
                gnutls_alert_send_appropriate(channel->session, (int)n);
            channel_fail(channel, failure, error);
            return -1;
        }
    }
    would_block(error);
    return -1;
}

/* What a failed write found on the way to its reason. */
static gssize take_late(TlsChannel *channel, void *buf, gsize len)
{
    gsize n = MIN(len, channel->late->len);

    memcpy(buf, channel->late->data, n);
    g_byte_array_remove_range(channel->late, 0, (guint)n);
    if (channel->late->len == 0)
        g_clear_pointer(&channel->late, g_byte_array_unref);
    return (gssize)n;
}

gssize tls_channel_read(TlsChannel *channel, void *buf, gsize len, GError **error)
{
    g_return_val_if_fail(len > 0, -1);
    if (channel->late)
        return take_late(channel, buf, len);
    if (!check_usable(channel, error))
        return -1;
    if (channel->state == CHANNEL_READ_CLOSED)
        return 0;
    /* Who waits for an answer may not come back to write. An error of sending is left for the
     * next write: the peer may have said something before it went. */
    tls_transport_flush(&channel->transport);
    return receive(channel, buf, len, error);
}

/* The socket takes no more. A peer that refused us has said why before it closed, and that is a
 * better error than EPIPE; data that comes first is kept for tls_channel_read(). */
static gboolean fail_write(TlsChannel *channel, GError **error)
{
    GError *broken = channel_error_new(channel, GNUTLS_E_PUSH_ERROR);

    if (channel->state == CHANNEL_OPEN && !channel->late) {
        g_autofree guint8 *buf = g_malloc(RECORD_MAX);
        g_autoptr(GError) reason = NULL;
        gssize n = receive(channel, buf, RECORD_MAX, &reason);

        if (n > 0) {
            channel->late = g_byte_array_new();
            g_byte_array_append(channel->late, buf, (guint)n);
        }
        if (channel->state == CHANNEL_FAILED && reason->code == TLS_ERROR_HANDSHAKE) {
            g_clear_error(&broken);
            broken = g_steal_pointer(&reason);
        }
    }
    g_propagate_error(error, broken);
    return FALSE;
}

/* TRUE when all is out. */
static gboolean flush(TlsChannel *channel, GError **error)
{
    int err = tls_transport_flush(&channel->transport);

    if (err == EAGAIN)
        return would_block(error);
    return err == 0 || fail_write(channel, error);
}

gssize tls_channel_write(TlsChannel *channel, const void *buf, gsize len, GError **error)
{
    ssize_t n;

    g_return_val_if_fail(len > 0, -1);
    if (!check_usable(channel, error))
        return -1;
    if (channel->said_bye) {
        g_set_error_literal(error, TLS_ERROR, TLS_ERROR_IO,
                            _("the TLS channel was closed for writing"));
        return -1;
    }
    if (!flush(channel, error))
        return -1;
    n = gnutls_record_send(channel->session, buf, MIN(len, RECORD_MAX));
    if (n <= 0) {
        channel_fail(channel, channel_error_new(channel, (int)n), error);
        return -1;
    }
    if (channel->transport.send_errno) {
        fail_write(channel, error);
        return -1;
    }
    return n;
}

gboolean tls_channel_flush(TlsChannel *channel, GError **error)
{
    return check_usable(channel, error) && flush(channel, error);
}

gsize tls_channel_pending(const TlsChannel *channel)
{
    return (channel->late ? channel->late->len : 0) +
           gnutls_record_check_pending(channel->session);
}

gsize tls_channel_unsent(const TlsChannel *channel)
{
    return tls_transport_unsent(&channel->transport);
}

short tls_channel_poll_events(const TlsChannel *channel, gboolean want_read, gboolean want_write)
{
    gboolean handshake = channel->state == CHANNEL_HANDSHAKE;
    short events = 0;

    /* Sending never waits inside gnutls, so a handshake that waits waits to receive. */
    if (handshake || (want_read && channel->state == CHANNEL_OPEN))
        events |= POLLIN;
    if (tls_channel_unsent(channel) > 0 || (want_write && !handshake))
        events |= POLLOUT;
    return events;
}

void tls_channel_bye(TlsChannel *channel)
{
    if (channel->said_bye || channel->state == CHANNEL_FAILED ||
        channel->state == CHANNEL_HANDSHAKE)
        return;
    channel->said_bye = TRUE;
    gnutls_bye(channel->session, GNUTLS_SHUT_WR);
    tls_transport_flush(&channel->transport);
}

gboolean tls_channel_export(TlsChannel *channel, const char *label, guint8 ret_key[32],
                            GError **error)
{
    guint8 key[32];
    int ret;

    if (!check_usable(channel, error))
        return FALSE;
    ret = gnutls_prf_rfc5705(channel->session, strlen(label), label, 0, NULL, sizeof(key),
                             (char *)key);
    if (ret < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_HANDSHAKE, _("no key can be exported: %1$s"),
                    gnutls_strerror(ret));
        return FALSE;
    }
    memcpy(ret_key, key, sizeof(key));
    gnutls_memset(key, 0, sizeof(key));
    return TRUE;
}

gboolean tls_channel_update_key(TlsChannel *channel, GError **error)
{
    gint64 now = g_get_monotonic_time();
    int ret;

    if (!check_usable(channel, error) || !flush(channel, error))
        return FALSE;
    if (channel->key_update_us && now - channel->key_update_us < KEY_UPDATE_INTERVAL_US)
        return TRUE;
    /* Only the client asks for the other direction as well: when both ask at the same time,
     * gnutls takes the crossing requests for an attack and ends the connection. */
    ret = gnutls_session_key_update(
        channel->session, channel->endpoint == TLS_ENDPOINT_CLIENT ? GNUTLS_KU_PEER : 0);
    if (ret < 0)
        return channel_fail(channel, channel_error_new(channel, ret), error);
    if (channel->transport.send_errno)
        return fail_write(channel, error);
    channel->key_update_us = now;
    return TRUE;
}

const char *tls_channel_version(const TlsChannel *channel)
{
    if (!channel->opened)
        return NULL;
    return gnutls_protocol_get_name(gnutls_protocol_get_version(channel->session));
}

const char *tls_channel_cipher(const TlsChannel *channel)
{
    return channel->opened ? gnutls_cipher_get_name(gnutls_cipher_get(channel->session)) : NULL;
}

const char *tls_channel_peer_name(const TlsChannel *channel)
{
    return channel->opened ? channel->peer_name : NULL;
}
