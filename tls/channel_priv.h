/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts a TlsChannel is made of: the socket below gnutls, the verdict on the peer, and the
 * texts of errors. For tls/channel*.c alone. */
#pragma once

#include "tls/channel.h"
#include "tls/credentials_priv.h"

/* The socket as gnutls sees it: one to which sending always works.
 *
 * gnutls must be called again with the same data when its push function would block, and a key
 * update that the peer asks for in between makes it send such data twice (3.7 to 3.8). So it
 * never does: what the socket does not take at once waits here, encrypted. The channel gives
 * gnutls the next record when the last one is gone, which bounds the buffer. What cannot be sent
 * any more is dropped, and send_errno says so. */
typedef struct {
    int fd;
    GByteArray *out; /* from out_head on, not on the socket yet */
    gsize out_head;
    int send_errno; /* why sending failed for good, or 0 */
    int recv_errno;
    gboolean dry;   /* the last receive found nothing: wait for POLLIN */
    gboolean ended; /* it found the end */
} TlsTransport;

void tls_transport_init(TlsTransport *transport, int fd);
void tls_transport_clear(TlsTransport *transport);
void tls_transport_attach(TlsTransport *transport, gnutls_session_t session);
gsize tls_transport_unsent(const TlsTransport *transport);
/* 0 when all is on the socket, EAGAIN when it is full, or another errno. */
int tls_transport_flush(TlsTransport *transport);

/* The verdict on a peer's X.509 certificate chain. */
typedef struct {
    const char *hostname;           /* or NULL */
    const char *const *allowed_dns; /* or NULL */
    const char *ca_name;            /* the file, for messages */
    TlsEndpoint peer_endpoint;
} TlsPeerRules;

/* Call inside the handshake. ret_name is the peer's DN, printable, also if the verdict is bad
 * (NULL if there is none); ret_alert is what to tell the peer then. */
gboolean tls_peer_verify(gnutls_session_t session, const TlsPeerRules *rules, char **ret_name,
                         gnutls_alert_description_t *ret_alert, GError **error);

/* What an error needs to know of the channel. */
typedef struct {
    gnutls_session_t session;
    const TlsCredentials *creds;
    const TlsTransport *transport;
    const char *unknown_identity; /* server: the PSK identity the peer asked for in vain */
    const char *alpn;
    gboolean handshake; /* or later */
    gboolean talked;    /* the peer has sent data: it accepted us */
} TlsErrorContext;

/* The error for a fatal return code of gnutls. */
GError *tls_channel_error_new(const TlsErrorContext *ctx, int ret);
