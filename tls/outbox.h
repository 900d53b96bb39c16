/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one end of a channel has to send, and what it keeps until the peer acknowledges it.
 *
 * Sequenced frames form one queue: acknowledged ones leave at the front, sent ones stay, unsent
 * ones follow. All other frames have a place of their own, one each, so that a peer cannot make
 * them pile up; a newer one takes the place of one not yet begun. Order at a frame's end: opening
 * (HELLO, HELLO_ACK, ERROR), ACK, PONG, PING, sequenced, closing (BYE).
 *
 * The channel outlives its connection: when that is lost, everything waits here until the peer has
 * said, over another one, where to go on.
 *
 * Part of tls/session.c and tls/lane.c; pure. */
#pragma once

#include "tls/frame.h"

/* The channel's connection. */
typedef enum {
    JOINT_UP,         /* there is one, or none was lost yet: everything goes out */
    JOINT_LOST,       /* there is none: nothing goes out */
    JOINT_HELLO_SENT, /* there is another, which has not answered: nothing but `opening` goes out */
} Joint;

typedef struct {
    Joint joint;
    guint64 resumes; /* connections that took the place of another */

    GQueue frames;       /* of SentFrame: in flight first, then unsent */
    GList *unsent;       /* the first link not completely sent on this connection, or NULL */
    guint64 next_seq;    /* of the next frame put in */
    guint64 sent_seq;    /* below: completely sent, as far as the peer can have it */
    guint64 sent_high;   /* most sent_seq ever: what a lost connection took may have arrived */
    guint64 acked_seq;   /* below: acknowledged and gone */
    guint64 window;      /* most bytes of bodies in frames */
    guint64 put_bytes;   /* of bodies ever put in */
    guint64 acked_bytes; /* of bodies below acked_seq */
    guint64 held_bytes;  /* of bodies in frames: sent and unsent */
    guint64 unsent_bytes; /* of bodies in frames of which no byte was sent */
    guint64 held_high;   /* most held_bytes ever */
    guint64 again_bytes; /* of bodies that were completely sent more than once */

    GBytes *opening;
    GBytes *ack;
    GBytes *pong;
    GBytes *ping;
    GBytes *closing;

    GBytes *current; /* the frame under way, or NULL; it is finished before any other */
    gsize current_done;
    gboolean current_is_sequenced;
    guint64 frames_sent;

    gboolean ping_is_out; /* put in and not answered */
    guint64 ping_cookie;
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

/* Drops everything that has not begun (the numbers of sequenced frames are free again), but a HELLO
 * that has to come first. last (taken, may be NULL) is what is said before the end. FALSE: there is
 * no connection to say it on. */
gboolean outbox_end(Outbox *out, GBytes *last);

gsize outbox_output(Outbox *out, const guint8 **ret_bytes);
void outbox_output_done(Outbox *out, gsize len);

/* Releases what the peer acknowledged by the ACK with this body; refuses one that goes back, is of
 * something never sent, or counts other bytes than were sent. */
gboolean outbox_acknowledge(Outbox *out, GBytes *body, GError **error);

/* ---- another connection ---- */

/* The connection is gone, with what was under way on it; what is not sequenced is forgotten. */
void outbox_lose(Outbox *out);
/* Dialling side: HELLO (taken) goes out, on another connection if one was lost. */
void outbox_hello(Outbox *out, GBytes *hello);
/* HELLO is answered. TRUE if that took the place of a lost connection. */
gboolean outbox_join(Outbox *out);
/* Whether the peer can expect this sequence next: it was not told before that it has not got so
 * far, nor can it have got further. */
gboolean outbox_check_resume(const Outbox *out, guint64 seq, GError **error);
/* The peer, on another connection, expects this sequence (checked) next: all from there on is sent
 * again. What is below has arrived, and stays until it is acknowledged. */
void outbox_resume(Outbox *out, guint64 seq);

/* ---- PING ---- */

/* FALSE if one is out. */
gboolean outbox_ping(Outbox *out, guint64 cookie);
/* The body of a PING that has come in. */
gboolean outbox_answer_ping(Outbox *out, GBytes *body, GError **error);
/* The body of a PONG that has come in: refuses one that answers no PING. */
gboolean outbox_take_pong(Outbox *out, GBytes *body, GError **error);
