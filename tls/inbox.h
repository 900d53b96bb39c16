/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one end of a channel has received and not yet handed on, and how far it has acknowledged.
 * Part of tls/session.c and tls/lane.c; pure. */
#pragma once

#include "tls/frame.h"

typedef struct {
    GQueue frames; /* of InboxFrame */
    guint64 window;

    guint64 next_seq;       /* the one the peer must use next */
    guint64 received_bytes; /* of bodies, all of them */
    guint64 handed_seq;     /* below: handed on */
    guint64 handed_bytes;   /* of bodies below handed_seq */
    guint64 acked_seq;      /* what the last ACK said */
    guint64 acked_bytes;
    guint64 held_high; /* most bytes ever waiting */
} Inbox;

void inbox_init(Inbox *in, guint64 window);
void inbox_clear(Inbox *in);

/* The next sequenced frame. Refuses a gap in the sequence, more bytes or frames than the window
 * lets the peer have in flight. */
gboolean inbox_take(Inbox *in, const Frame *frame, GError **error);
/* The sequence of a frame that is not stored (RESET). */
gboolean inbox_check_seq(const Inbox *in, const Frame *frame, GError **error);

/* The oldest frame, borrowed until it is consumed; NULL: none. */
GBytes *inbox_front(const Inbox *in, FrameType *ret_type);
/* It is handed on. There must be one. */
void inbox_consume(Inbox *in);

/* TRUE if everything received was handed on. */
gboolean inbox_is_empty(const Inbox *in);
/* Whether it is time to acknowledge. */
gboolean inbox_ack_is_due(const Inbox *in);
/* The ACK, a whole frame, for everything handed on so far. */
GBytes *inbox_take_ack(Inbox *in);
