/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one end of a channel has to send, and what it keeps until the peer acknowledges it.
 *
 * Sequenced frames form one queue: acknowledged ones leave at the front, sent ones stay, unsent
 * ones follow. All other frames have a place of their own, one each, so that a peer cannot make
 * them pile up; a newer one takes the place of one not yet begun. Order at a frame's end: opening
 * (HELLO, HELLO_ACK, ERROR), ACK, PONG, PING, sequenced, closing (BYE).
 *
 * Part of tls/session.c and tls/lane.c; pure. */
#pragma once

#include "tls/frame.h"

typedef struct {
    GQueue frames;       /* of SentFrame: in flight first, then unsent */
    GList *unsent;       /* the first link not completely sent, or NULL */
    guint64 next_seq;    /* of the next frame put in */
    guint64 sent_seq;    /* below: completely sent */
    guint64 acked_seq;   /* below: acknowledged and gone */
    guint64 window;      /* most bytes of bodies in frames */
    guint64 put_bytes;   /* of bodies ever put in */
    guint64 acked_bytes; /* of bodies below acked_seq */
    guint64 held_bytes;  /* of bodies in frames: sent and unsent */
    guint64 unsent_bytes; /* of bodies in frames of which no byte was sent */
    guint64 held_high;   /* most held_bytes ever */

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

void outbox_init(Outbox *out, guint64 window);
void outbox_clear(Outbox *out);

/* The largest body that may be sent now; 0 if the window or SESSION_FRAMES_MAX is used up. */
gsize outbox_room(const Outbox *out);
/* Takes buf (from g_malloc): FRAME_HEADER_LEN bytes of room, then the body, within the room. */
void outbox_send(Outbox *out, FrameType type, guint8 *buf, gsize body_len);
/* A sequenced frame without a body: it needs no room. */
void outbox_send_empty(Outbox *out, FrameType type);

/* Puts frame (taken) in the place (a member of out), instead of what waits there. */
void outbox_put(GBytes **place, GBytes *frame);

/* Drops all sequenced frames of which no byte was sent: their numbers are free again. */
void outbox_drop_unsent(Outbox *out);
/* Drops everything that has not begun. */
void outbox_drop_all(Outbox *out);

gsize outbox_output(Outbox *out, const guint8 **ret_bytes);
void outbox_output_done(Outbox *out, gsize len);

/* Releases what the peer acknowledged by the ACK with this body; refuses one that goes back, is of
 * something never sent, or counts other bytes than were sent. */
gboolean outbox_acknowledge(Outbox *out, GBytes *body, GError **error);

/* The body of a PING that has come in. */
gboolean outbox_answer_ping(Outbox *out, GBytes *body, GError **error);
