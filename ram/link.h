/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One TLS connection to a peer: from its handshake on, through HELLO, until it becomes a channel
 * or is refused. Never blocks; belongs to the relay thread. */
#pragma once

#include "tls/channel.h"
#include "tls/hello.h"

#define LINK_ALPN "virt-postcopy/1"

typedef enum {
    LINK_HANDSHAKE, /* TLS */
    LINK_GREETING,  /* accepted: HELLO has not come yet */
    LINK_OPEN,      /* a channel */
    LINK_REFUSED,   /* says why, then waits for the peer to go */
} LinkState;

typedef struct {
    TlsChannel *channel;
    FrameReader reader;
    LinkState state;
    guint64 number;     /* accepted: in this order */
    char *address;      /* for messages */
    gint64 deadline_us; /* monotonic; 0: none */
    gboolean tls_refused; /* TLS itself failed: certificate, key, alert; not the transport */
    gboolean deaf;      /* what comes is no protocol (any more): read and dropped */
    gboolean resumes;   /* takes the place of a connection that was lost */
    gboolean is_lost;   /* and that was told */
    gint64 heard_us;    /* when the peer has said something last; monotonic */
    gint64 asked_us;    /* when it was asked for that last; stale if before heard_us */
    guint asked;        /* intervals since then */
    GBytes *last_words; /* refused: what is left of the ERROR frame */
    guint64 wire_sent_before; /* on the TCP socket before TLS began */
    guint64 wire_received_before;
} Link;

/* Takes fd. accepted: the first frame must be HELLO. */
Link *link_new(int fd, TlsCredentials *creds, const TlsChannelConfig *config, const char *address,
               gint64 deadline_us, GError **error);
void link_free(Link *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Link, link_free)

/* An accepted connection's next steps. TRUE: *ret_hello is there and the caller decides. FALSE with
 * G_IO_ERROR_WOULD_BLOCK: wait. FALSE with another error: no good, the message says why; a
 * HELLO_ERROR is to be told to the peer (link_refuse()), the rest cannot be. */
gboolean link_greet(Link *link, HelloBody *ret_hello, GError **error);

/* Turns the peer away with an ERROR frame. */
void link_refuse(Link *link, const GError *why, gint64 deadline_us);
/* A refused link's next steps; FALSE when it can be freed. */
gboolean link_see_off(Link *link);

/* Closes the sending side once everything is out: close_notify, then FIN. May be repeated. */
void link_say_bye(Link *link);

/* Reads and drops. FALSE when the peer has closed or broken the connection. */
gboolean link_drop_input(Link *link);

/* Counted by the kernel, both directions, since link_new(); 0 on anything but TCP. */
void link_wire_bytes(const Link *link, guint64 *ret_sent, guint64 *ret_received);
/* What the kernel still holds and will send, also when the connection is closed meanwhile. */
guint64 link_wire_unsent(const Link *link);
