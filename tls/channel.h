/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A TLS 1.3 channel on a connected, non-blocking stream socket.
 *
 * Never blocks: each call does what it can and fails with G_IO_ERROR_WOULD_BLOCK when it
 * must wait; tls_channel_poll_events() then says for what. One thread owns a channel, in
 * both directions: a gnutls session shared by two corrupts itself when TLS 1.3 re-keys.
 *
 * After the handshake the peer is verified: certificate chain and purpose, host name (client),
 * allowed distinguished names, ALPN. Nothing can be read or written before that. */
#pragma once

#include "tls/credentials.h"

typedef struct TlsChannel TlsChannel;

typedef struct {
    TlsEndpoint endpoint;
    const char *hostname;           /* client: the name (or IP) to check; NULL for none (PSK) */
    const char *alpn;               /* protocol both ends must agree on, or NULL for none */
    const char *const *allowed_dns; /* NULL or empty: any peer that verifies. Glob patterns as
                                     * in libvirt's tls_allowed_dn_list */
    gboolean tickets;               /* the TLS session may be resumed (RFC 8446 2.2): a server gives
                                     * tickets, good for the 6 hours after a full handshake while
                                     * its credentials object lives */
    GBytes *ticket;                 /* client: of an earlier channel with these credentials, host
                                     * name and protocol, or NULL. Any other, and one the server
                                     * does not take, costs a full handshake, no more */
} TlsChannelConfig;

/* Takes fd in every case (it is closed with the channel, or on error), and a reference on creds.
 * Strings of config are copied. */
TlsChannel *tls_channel_new(int fd, TlsCredentials *creds, const TlsChannelConfig *config,
                            GError **error);
void tls_channel_free(TlsChannel *channel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsChannel, tls_channel_free)

int tls_channel_fd(const TlsChannel *channel);

/* TRUE: done, the peer is verified. FALSE with G_IO_ERROR_WOULD_BLOCK: call again when
 * poll says so. Other errors are final and name the cause, the peer's alert included. */
gboolean tls_channel_handshake(TlsChannel *channel, GError **error);

/* len > 0. > 0 bytes read; 0 the peer closed in an orderly way; -1 error (WOULD_BLOCK: wait).
 * An end of the transport without close_notify is TLS_ERROR_IO, never an end of stream. A client
 * learns here that the server refused its certificate (TLS_ERROR_HANDSHAKE): in TLS 1.3 its own
 * handshake is over by then. */
gssize tls_channel_read(TlsChannel *channel, void *buf, gsize len, GError **error);

/* len > 0. Bytes taken (> 0, at most one record of 16 KiB), or -1 (WOULD_BLOCK: wait; what was
 * offered may be offered again or changed, the channel keeps what it took). After TLS_ERROR_IO
 * what the peer had sent before the connection broke can still be read. */
gssize tls_channel_write(TlsChannel *channel, const void *buf, gsize len, GError **error);

/* For channels that much goes over: what comes is received ahead, and what is written waits for the next
 * tls_channel_flush() (or for a few records more), which must not be forgotten. Then tls_channel_pending() counts bytes
 * that are not decrypted, too: while there are any, read() must be called whatever poll() says. */
void tls_channel_set_busy(TlsChannel *channel);

/* Decrypted bytes that read() will give although poll() says nothing. */
gsize tls_channel_pending(const TlsChannel *channel);

/* POLLIN and/or POLLOUT to wait for. want_read/want_write: what the caller is interested in; to
 * these come what a handshake needs, and POLLOUT while there are bytes unsent (so a caller that
 * only reads calls read() or flush() on POLLOUT too). 0 if there is nothing to wait for: after
 * the peer's end of stream, or an error. */
short tls_channel_poll_events(const TlsChannel *channel, gboolean want_read, gboolean want_write);

/* Encrypted bytes accepted and not on the socket yet: a record and a little. While there are any,
 * write() takes nothing more. */
gsize tls_channel_unsent(const TlsChannel *channel);

/* TRUE: everything the channel has accepted is on the socket. FALSE with G_IO_ERROR_WOULD_BLOCK:
 * some is not yet, poll for POLLOUT and call again (read and write try it by themselves). Other
 * errors are final. */
gboolean tls_channel_flush(TlsChannel *channel, GError **error);

/* Sends close_notify (best effort, does not wait; flush() what is left). Nothing can be written
 * after it; reading goes on. */
void tls_channel_bye(TlsChannel *channel);

/* Client, with tickets: what the server has given on this connection for a later one, or NULL. It
 * comes with the first read. Also of a channel that has failed. Secret. A new reference. */
GBytes *tls_channel_ticket(const TlsChannel *channel);
/* The handshake went by a ticket. The peer was verified all the same: the certificate it showed
 * when the session began, by the rules and the date of today. */
gboolean tls_channel_is_resumed(const TlsChannel *channel);

/* RFC 8446 7.5 exporter: 32 bytes bound to this connection. */
gboolean tls_channel_export(TlsChannel *channel, const char *label, guint8 ret_key[32],
                            GError **error);

/* RFC 8446 4.6.3: new keys from here on for what we send, and on a client, by request, for what
 * the peer sends from its next write on. Nobody has to: gnutls does it by itself every 2^24
 * records. A gnutls peer ends a connection of which it receives more than 8 updates in a second,
 * so a call does nothing if the keys are new enough: on a client within a third of a second, if
 * the peer has answered the last request; else, and on a server, within five. May fail with
 * G_IO_ERROR_WOULD_BLOCK. */
gboolean tls_channel_update_key(TlsChannel *channel, GError **error);

/* A test's wish: tls_channel_update_key() each time that many records were sent with one key (0:
 * never; late if it would do nothing). Done by tls_channel_write(). */
void tls_channel_set_rekey(TlsChannel *channel, guint records);
/* How often our sending key has changed: by a call, by a wish, because the peer asked. */
guint64 tls_channel_key_updates(const TlsChannel *channel);

/* "TLS1.3", "AES-256-GCM", "CN=hostB,..." or the PSK identity. Valid while the channel lives,
 * after an error too; NULL before the handshake is done. */
const char *tls_channel_version(const TlsChannel *channel);
const char *tls_channel_cipher(const TlsChannel *channel);
const char *tls_channel_peer_name(const TlsChannel *channel);
