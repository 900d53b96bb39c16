/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a session has for its channel, and what it keeps until the peer acknowledges it.
 *
 * Sequenced frames (DATA, EOF, RESET) form one queue: acknowledged ones leave at the front, sent
 * ones stay, unsent ones follow. All other frames have a place of their own, one each, so that a
 * peer cannot make them pile up; a newer one takes the place of one not yet begun. Order at a
 * frame's end: opening (HELLO, HELLO_ACK, ERROR), ACK, PONG, PING, sequenced, closing (BYE).
 *
 * Part of tls/session.c; pure. */
#pragma once

#include "tls/frame.h"

typedef struct {
    GQueue frames;       /* of SentFrame: in flight first, then unsent */
    GList *unsent;       /* the first link not completely sent, or NULL */
    guint64 next_seq;    /* of the next frame put in */
    guint64 sent_seq;    /* below: completely sent */
    guint64 acked_seq;   /* below: acknowledged and gone */
    guint64 acked_bytes; /* of DATA below acked_seq */
    gsize held_bytes;    /* of DATA in frames: sent and unsent */

    GBytes *opening;
    GBytes *ack;
    GBytes *pong;
    GBytes *ping;
    GBytes *closing;

    GBytes *current; /* the frame under way, or NULL; it is finished before any other */
    gsize current_done;
    gboolean current_is_sequenced;
    guint64 frames_sent;
} Outbox;

void outbox_init(Outbox *out);
void outbox_clear(Outbox *out);

/* Takes frame, whose sequence is next_seq and which carries data_len bytes of DATA. */
void outbox_put_sequenced(Outbox *out, GBytes *frame, gsize data_len);

/* Puts frame (taken) in the place (a member of out), instead of what waits there. */
void outbox_put(GBytes **place, GBytes *frame);

/* Drops all sequenced frames of which no byte was sent: their numbers are free again. */
void outbox_drop_unsent(Outbox *out);
/* Drops everything that has not begun. */
void outbox_drop_all(Outbox *out);

gsize outbox_output(Outbox *out, const guint8 **ret_bytes);
void outbox_output_done(Outbox *out, gsize len);

/* Releases what the peer acknowledged; refuses an ACK that goes back, is of something never
 * sent, or counts other bytes than were sent. */
gboolean outbox_acknowledge(Outbox *out, const FrameAck *ack, GError **error);
