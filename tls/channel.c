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

gboolean tls_channel_fail(TlsChannel *channel, GError *failure, GError **error)
{
    channel->state = CHANNEL_FAILED;
    g_clear_error(&channel->failure);
    channel->failure = failure;
    g_propagate_error(error, g_error_copy(failure));
    return FALSE;
}

GError *tls_channel_failure(const TlsChannel *channel, int ret)
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

gboolean tls_channel_would_block(GError **error)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, _("the peer is not ready"));
    return FALSE;
}

gboolean tls_channel_check_usable(const TlsChannel *channel, GError **error)
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

TlsChannel *tls_channel_new(int fd, TlsCredentials *creds, const TlsChannelConfig *config,
                            GError **error)
{
    g_autoptr(TlsChannel) channel = g_new0(TlsChannel, 1);

    tls_transport_init(&channel->transport, fd);
    channel->creds = tls_credentials_ref(creds);
    channel->link.creds = creds;
    channel->endpoint = config->endpoint;
    channel->hostname = g_strdup(config->hostname);
    channel->alpn = g_strdup(config->alpn);
    channel->allowed_dns = g_strdupv((char **)config->allowed_dns);
    channel->tickets = config->tickets;

    if (tls_credentials_endpoint(creds) != config->endpoint) {
        g_set_error_literal(error, TLS_ERROR, TLS_ERROR_HANDSHAKE,
                            _("the TLS credentials are for the other end of a connection"));
        return NULL;
    }
    if (!tls_channel_prepare(channel, config->ticket, error))
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
    g_clear_pointer(&channel->ticket, g_bytes_unref);
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

/* Like tls_channel_read(), on an open channel and straight from gnutls. */
static gssize receive(TlsChannel *channel, void *buf, gsize len, GError **error)
{
    channel->transport.dry = FALSE;
    for (guint turn = 0; turn < TLS_EMPTY_TURNS_MAX && !channel->transport.dry; turn++) {
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
            GError *failure = tls_channel_failure(channel, (int)n);

            if (n != GNUTLS_E_FATAL_ALERT_RECEIVED && n != GNUTLS_E_PREMATURE_TERMINATION &&
                n != GNUTLS_E_PULL_ERROR)
                gnutls_alert_send_appropriate(channel->session, (int)n);
            tls_channel_fail(channel, failure, error);
            return -1;
        }
    }
    tls_channel_would_block(error);
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
    if (!tls_channel_check_usable(channel, error))
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
    GError *broken = tls_channel_failure(channel, GNUTLS_E_PUSH_ERROR);

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
        return tls_channel_would_block(error);
    return err == 0 || fail_write(channel, error);
}

/* For another record. */
static gboolean make_room(TlsChannel *channel, GError **error)
{
    const TlsTransport *t = &channel->transport;

    return (!t->send_errno && t->gather && tls_transport_unsent(t) < t->gather) ||
           flush(channel, error);
}

/* All is flushed. */
static gboolean change_key(TlsChannel *channel, GError **error)
{
    int ret;

    /* Only the client asks for the other direction as well: when both ask at the same time,
     * gnutls takes the crossing requests for an attack and ends the connection. */
    ret = gnutls_session_key_update(
        channel->session, channel->endpoint == TLS_ENDPOINT_CLIENT ? GNUTLS_KU_PEER : 0);
    if (ret < 0)
        return tls_channel_fail(channel, tls_channel_failure(channel, ret), error);
    return !channel->transport.send_errno || fail_write(channel, error);
}

gboolean tls_channel_update_key(TlsChannel *channel, GError **error)
{
    if (!tls_channel_check_usable(channel, error) || !flush(channel, error))
        return FALSE;
    return !tls_rekey_allowed(&channel->rekey, g_get_monotonic_time()) ||
           change_key(channel, error);
}

void tls_channel_set_rekey(TlsChannel *channel, guint records)
{
    channel->rekey.every = records;
}

guint64 tls_channel_key_updates(const TlsChannel *channel)
{
    return channel->rekey.updates;
}

gssize tls_channel_write(TlsChannel *channel, const void *buf, gsize len, GError **error)
{
    ssize_t n;

    g_return_val_if_fail(len > 0, -1);
    if (!tls_channel_check_usable(channel, error))
        return -1;
    if (channel->said_bye) {
        g_set_error_literal(error, TLS_ERROR, TLS_ERROR_IO,
                            _("the TLS channel was closed for writing"));
        return -1;
    }
    if (!make_room(channel, error))
        return -1;
    /* New keys and the record may both stay behind: that is as when the peer asks for them. */
    if (tls_rekey_due(&channel->rekey) &&
        (!flush(channel, error) || !change_key(channel, error)))
        return -1;
    n = gnutls_record_send(channel->session, buf, MIN(len, RECORD_MAX));
    if (n <= 0) {
        tls_channel_fail(channel, tls_channel_failure(channel, (int)n), error);
        return -1;
    }
    if (channel->transport.send_errno) {
        fail_write(channel, error);
        return -1;
    }
    channel->rekey.records++;
    return n;
}

gboolean tls_channel_flush(TlsChannel *channel, GError **error)
{
    return tls_channel_check_usable(channel, error) && flush(channel, error);
}

void tls_channel_set_busy(TlsChannel *channel)
{
    tls_transport_set_busy(&channel->transport);
}

gsize tls_channel_pending(const TlsChannel *channel)
{
    const TlsTransport *t = &channel->transport;
    gsize ahead = channel->state == CHANNEL_OPEN ? t->in_len - t->in_head : 0;

    return (channel->late ? channel->late->len : 0) + ahead +
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

GBytes *tls_channel_ticket(const TlsChannel *channel)
{
    return channel->ticket ? g_bytes_ref(channel->ticket) : NULL;
}

gboolean tls_channel_is_resumed(const TlsChannel *channel)
{
    return channel->resumed;
}

gboolean tls_channel_export(TlsChannel *channel, const char *label, guint8 ret_key[32],
                            GError **error)
{
    guint8 key[32];
    int ret;

    if (!tls_channel_check_usable(channel, error))
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
