/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a session has received and not yet handed on to QEMU, and how far it has
 * acknowledged. Part of tls/session.c; pure. */
#pragma once

#include "tls/frame.h"

typedef struct {
    GQueue bodies; /* of GBytes; an empty one stands for EOF */
    gsize head_done;
    guint64 window;

    guint64 next_seq;       /* the one the peer must use next */
    guint64 received_bytes; /* of DATA, all of them */
    guint64 handed_seq;     /* below: completely written to QEMU */
    guint64 handed_bytes;   /* of DATA below handed_seq */
    guint64 acked_seq;      /* what the last ACK said */
    guint64 acked_bytes;
    guint64 held_high; /* most bytes ever waiting */
} Inbox;

void inbox_init(Inbox *in, guint64 window);
void inbox_clear(Inbox *in);

/* The next sequenced frame (DATA or EOF). Refuses a gap in the sequence, more bytes or frames
 * than the window lets the peer have in flight. */
gboolean inbox_take(Inbox *in, const Frame *frame, GError **error);
/* The sequence of a frame that is not stored (RESET). */
gboolean inbox_check_seq(const Inbox *in, const Frame *frame, GError **error);

/* Bytes to write to QEMU next; 0: none, or EOF comes next. */
gsize inbox_output(const Inbox *in, const guint8 **ret_bytes);
void inbox_written(Inbox *in, gsize len);

/* TRUE once, when EOF has come to the front: it counts as handed on from then. */
gboolean inbox_take_eof(Inbox *in);

/* TRUE if everything received was handed on. */
gboolean inbox_is_empty(const Inbox *in);
/* Whether it is time to acknowledge. */
gboolean inbox_ack_is_due(const Inbox *in);
FrameAck inbox_take_ack(Inbox *in);
