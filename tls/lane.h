/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One channel of a session beside the main one: the preempt channel, or a bulk channel.
 *
 * The machine of such a channel, with its own sequence numbers, window and acknowledgements: the
 * same rules as on the main channel (docs/protocol.md), without a QEMU of its own. A lost
 * connection of it is replaced as the main channel's is, and at another time. It cannot end a
 * migration: whoever owns it (ram/relay.h) tells the session when it has failed before its time.
 *
 * Pure: no sockets, no clock, no threads. Every (state, event) pair is a row of one table or an
 * error that names both. Memory is bounded as the session's is. */
#pragma once

#include "tls/session.h"

typedef enum {
    LANE_NONE,       /* made; no authenticated channel yet */
    LANE_HELLO_SENT, /* source: waits for HELLO_ACK */
    LANE_OPEN,
    LANE_ENDED,      /* lane_finish(), or BYE has come: sends what is left, BYE last */
    LANE_FAILED,     /* lost, refused, or the peer broke a rule: lane_reason() */
    LANE_STATE_MAX,
} LaneState;

const char *lane_state_name(LaneState state);

typedef enum {
    LANE_EV_CHANNEL_UP, /* source: TLS is up */
    LANE_EV_HELLO,      /* destination: judged well */
    LANE_EV_HELLO_AGAIN,  /* destination: the source was not answered */
    LANE_EV_HELLO_RESUME, /* destination: another connection */
    LANE_EV_SEND,       /* inside */
    LANE_EV_CONSUME,    /* inside */
    LANE_EV_FINISH,
    LANE_EV_CHANNEL_LOST, /* another connection may take its place */
    LANE_EV_CHANNEL_GONE, /* none will */
    LANE_EV_BAD_FRAME,
    LANE_EV_FRAME_HELLO,
    LANE_EV_FRAME_HELLO_ACK,
    LANE_EV_FRAME_RESUMED, /* HELLO_ACK in answer to a HELLO that resumes */
    LANE_EV_FRAME_ERROR,
    LANE_EV_FRAME_CARRIED, /* PAGES to the destination, REQUEST to the source (not on bulk channels); others
                            * are refused */
    LANE_EV_FRAME_ACK,
    LANE_EV_FRAME_PING,
    LANE_EV_FRAME_PONG,
    LANE_EV_FRAME_BYE,
    LANE_EV_FRAME_OTHER, /* any other type: never allowed */
    LANE_EVENT_MAX,
} LaneEvent;

const char *lane_event_name(LaneEvent event);
gboolean lane_has_row(SessionSide side, LaneState state, LaneEvent event, LaneState *ret_next);

typedef struct {
    SessionSide side;
    guint8 id[HELLO_SESSION_LEN];
    ChannelKind kind;
    guint16 channel;  /* number: 1 and up */
    guint64 window;   /* FRAME_PAGES_MAX to HELLO_WINDOW_MAX */
    guint64 features; /* negotiated on the main channel; a HELLO must offer them */
} LaneConfig;

typedef struct Lane Lane;

Lane *lane_new(const LaneConfig *config);
void lane_free(Lane *lane);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Lane, lane_free)

LaneState lane_state(const Lane *lane);
/* Why it failed, in words for users; "" before that. */
const char *lane_reason(const Lane *lane);
ChannelKind lane_kind(const Lane *lane);
guint16 lane_number(const Lane *lane);
/* channel_name() of it. */
const char *lane_name(const Lane *lane);

/* ---- opening ---- */

/* Source: TLS is up; HELLO is the output now: the first, or one that resumes. proof: see
 * tls/proof.h; not kept. */
gboolean lane_on_channel_up(Lane *lane, const guint8 proof[HELLO_PROOF_LEN], GError **error);
/* Destination: TRUE if a channel with this HELLO may become this lane: version, session, kind,
 * number, features, window, proof (constant time), and that the lane has no channel yet, or that
 * the HELLO resumes (or repeats what was not answered), as session_judge_hello(); else a
 * HELLO_ERROR for its ERROR frame. Changes nothing. */
gboolean lane_judge_hello(const Lane *lane, const HelloBody *hello,
                          const guint8 proof[HELLO_PROOF_LEN], GError **error);
gboolean lane_on_hello(Lane *lane, const HelloBody *hello, GError **error);

/* ---- the channel ---- */

gsize lane_output(Lane *lane, const guint8 **ret_bytes);
void lane_output_done(Lane *lane, gsize len);
void lane_settle(Lane *lane);
void lane_on_frame(Lane *lane, const Frame *frame);
void lane_on_bad_frame(Lane *lane, const GError *cause);
/* As session_on_channel_lost() and the others: with SESSION_FEATURE_RESUME in the features it waits
 * for another connection (lane_is_lost()), in LANE_NONE and LANE_HELLO_SENT for the next
 * lane_on_channel_up(). An ended lane does not: it is through. */
void lane_on_channel_lost(Lane *lane, const char *reason);
void lane_on_channel_gone(Lane *lane, const char *reason);
gboolean lane_is_lost(const Lane *lane);
/* As session_ping(); the PONG needs no other notice. */
gboolean lane_ping(Lane *lane, guint64 cookie);
/* The session is over, one way or the other: nothing new is sent, BYE closes it. In LANE_NONE and
 * LANE_FAILED it changes nothing. */
void lane_finish(Lane *lane);
/* TRUE when the channel may be closed: BYE has come or the lane failed. What lane_output() still
 * has then (BYE, or ERROR for the peer) should go out first, if it can. */
gboolean lane_is_through(const Lane *lane);

/* ---- carried frames; as session_send_room() and the others ---- */

gsize lane_send_room(const Lane *lane);
void lane_send(Lane *lane, FrameType type, guint8 *buf, gsize body_len);
GBytes *lane_received(const Lane *lane, FrameType *ret_type);
void lane_consume(Lane *lane);
guint64 lane_sent_bytes(const Lane *lane);
guint64 lane_acked_bytes(const Lane *lane);
/* The sequence of the next frame that will be sent, and of the next to be consumed. */
guint64 lane_next_seq(const Lane *lane);
guint64 lane_consumed_seq(const Lane *lane);

/* As session_get_stats(), of this channel. */
void lane_get_stats(const Lane *lane, SessionStats *ret_stats);
