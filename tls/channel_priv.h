/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts a TlsChannel is made of: the socket below gnutls, the verdict on the peer, tickets, the
 * pace of key updates, and the texts of errors. For tls/channel*.c alone. */
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
    gsize gather;   /* bytes that may wait for the next flush; 0: none does */
    guint8 *in;     /* with gather: what was received ahead, TLS_READ_AHEAD bytes; or NULL */
    gsize in_head;
    gsize in_len;
    int send_errno; /* why sending failed for good, or 0 */
    int recv_errno;
    gboolean dry;   /* the last receive found nothing: wait for POLLIN */
    gboolean ended; /* it found the end */
} TlsTransport;

/* One call of the kernel's for several records. */
#define TLS_READ_AHEAD (128 * 1024)
#define TLS_GATHER (64 * 1024)

void tls_transport_init(TlsTransport *transport, int fd);
/* As tls_channel_set_busy(). */
void tls_transport_set_busy(TlsTransport *transport);
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

/* When to change keys. */
typedef struct {
    guint every;       /* records, or 0: the wish of tls_channel_set_rekey() */
    guint records;     /* sent with the present key */
    guint64 updates;   /* of our key, for whatever reason */
    gint64 changed_us; /* the last of them */
    gboolean answered; /* the peer's key has changed since */
    gboolean owed;     /* the peer asked: gnutls changes our key before the next record */
} TlsRekey;

/* A change of keys now is not too much for the peer. */
gboolean tls_rekey_allowed(const TlsRekey *rekey, gint64 now_us);
/* The wish says so, and it is allowed. */
gboolean tls_rekey_due(const TlsRekey *rekey);
/* A KeyUpdate goes out, or came in. */
void tls_rekey_note_update(TlsRekey *rekey, gboolean incoming, const gnutls_datum_t *body);

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

/* Records that carry nothing for us (key updates, warnings) taken by one call: a peer that sends
 * them without end must not keep the thread from its other work. */
#define TLS_EMPTY_TURNS_MAX 32

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
    TlsRekey rekey;
    gboolean tickets;
    GBytes *ticket; /* client: the last one that came, or NULL */
    gboolean resumed;
};

/* The session, ready for its handshake; ticket: to show, or NULL. */
gboolean tls_channel_prepare(TlsChannel *channel, GBytes *ticket, GError **error);

/* FALSE, with the channel failed for good. Takes failure. */
gboolean tls_channel_fail(TlsChannel *channel, GError *failure, GError **error);
/* The error for a fatal return code of gnutls. */
GError *tls_channel_failure(const TlsChannel *channel, int ret);
/* FALSE. */
gboolean tls_channel_would_block(GError **error);
/* Every call but the handshake needs a verified peer. */
gboolean tls_channel_check_usable(const TlsChannel *channel, GError **error);

/* The ticket that has just come, in the form of tls_channel_ticket(), or NULL. */
GBytes *tls_ticket_take(const TlsChannel *channel);
/* Offers it to the server, if it is one that tls_ticket_take() made for a channel like this. */
void tls_ticket_show(TlsChannel *channel, GBytes *ticket);
