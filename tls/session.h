/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One end of a session: the machine of the main channel. It carries QEMU's stream and its return
 * path as DATA, and the frames of the RAM engine; what is in them is not its business.
 *
 * Pure: no sockets, no clock, no threads. Whoever owns the sockets (ram/relay.h) tells it
 * what happened, and asks what to do:
 *
 *   - session_output(): bytes for the channel; session_received(): frames for the engine;
 *   - session_send_room(): how much may be sent (nothing while the window is full);
 *   - session_take_actions(): what else is to be done, once each.
 *
 * Every (state, event) pair is a row of one table or an error that names both. An event from
 * the peer that has no row is a protocol error: the session fails and the peer is told. A
 * local event that has no row changes nothing and is refused with SESSION_ERROR_STATE.
 *
 * Memory is bounded whatever the peer does: sent frames are kept until acknowledged, at most
 * the smaller of both windows; received bytes wait for QEMU, at most our window; at most
 * SESSION_FRAMES_MAX frames each way; one ACK and one PONG wait to be sent. */
#pragma once

#include "tls/features.h"
#include "tls/frame.h"
#include "tls/hello.h"

/* Sequenced frames of one direction in flight, besides the window in bytes: many tiny frames
 * cost more memory than their bytes. */
#define SESSION_FRAMES_MAX 4096

#define SESSION_ERROR (session_error_quark())
GQuark session_error_quark(void);

typedef enum {
    SESSION_ERROR_STATE,    /* not in this state; nothing was changed */
    SESSION_ERROR_PROTOCOL, /* the peer broke the protocol; the message names the field */
} SessionError;

typedef enum { SESSION_SOURCE, SESSION_DESTINATION, SESSION_SIDE_MAX } SessionSide;

/* "source", "destination" */
const char *session_side_name(SessionSide side);

typedef enum {
    SESSION_NONE,        /* made */
    SESSION_SETUP,       /* no authenticated channel yet */
    SESSION_HELLO_SENT,  /* source: waits for HELLO_ACK */
    SESSION_AWAIT_QEMU,  /* channel agreed on, QEMU's end is not there yet */
    SESSION_ACTIVE,      /* both directions flow */
    SESSION_LOCAL_ENDED, /* our QEMU has ended its direction, the other flows */
    SESSION_PEER_ENDED,  /* the peer's QEMU has, ours flows */
    SESSION_DRAINING,    /* both have; not everything is handed on and acknowledged */
    SESSION_COMPLETED,
    SESSION_FAILED,
    SESSION_CANCELLED,
    SESSION_STATE_MAX,
} SessionState;

/* Inside words: "hello-sent", "draining"... */
const char *session_state_name(SessionState state);
/* QEMU's MigrationStatus word for users: none, setup, active, completed, failed, cancelled. */
const char *session_state_status(SessionState state);
gboolean session_state_is_end(SessionState state);
gboolean session_state_is_active(SessionState state);

typedef enum {
    SESSION_EV_START,
    SESSION_EV_CHANNEL_UP,
    SESSION_EV_HELLO,
    SESSION_EV_HELLO_AGAIN, /* destination: with the token, the source was not answered */
    SESSION_EV_HELLO_RESUME, /* destination: another connection of the main channel */
    SESSION_EV_QEMU_ATTACHED,
    SESSION_EV_QEMU_REFUSED,
    SESSION_EV_SEND,        /* inside: a frame is carried */
    SESSION_EV_QEMU_EOF,
    SESSION_EV_QEMU_BROKEN,
    SESSION_EV_CONSUME,     /* inside: a received frame was handed on */
    SESSION_EV_CANCEL,
    SESSION_EV_CHANNEL_LOST, /* another connection may take its place */
    SESSION_EV_CHANNEL_GONE, /* none will */
    SESSION_EV_BAD_FRAME,   /* undecodable, or its content breaks a rule */
    SESSION_EV_DRAINED,     /* inside: nothing is left to hand on or to be acknowledged */
    SESSION_EV_FRAME_HELLO, /* from here on: frames from the peer on the main channel */
    SESSION_EV_FRAME_HELLO_ACK,
    SESSION_EV_FRAME_RESUMED, /* HELLO_ACK in answer to a HELLO that resumes */
    SESSION_EV_FRAME_ERROR,
    SESSION_EV_FRAME_CANCELLED, /* ERROR with code cancelled */
    SESSION_EV_FRAME_CARRIED, /* DATA, PHASE, BLOCKS, PAGES, RAM_END, QEMU_CHANNEL */
    SESSION_EV_FRAME_EOF,
    SESSION_EV_FRAME_RESET,
    SESSION_EV_FRAME_ACK,
    SESSION_EV_FRAME_PING,
    SESSION_EV_FRAME_PONG,
    SESSION_EV_FRAME_BYE,
    SESSION_EVENT_MAX,
} SessionEvent;

const char *session_event_name(SessionEvent event);
/* Whether the table has a row. For tests and for drawing it. */
gboolean session_has_row(SessionSide side, SessionState state, SessionEvent event,
                         SessionState *ret_next);

typedef struct {
    SessionSide side;
    guint8 id[HELLO_SESSION_LEN];
    guint8 token[HELLO_TOKEN_LEN];
    guint64 window; /* HELLO_WINDOW_MIN to HELLO_WINDOW_MAX */
    guint64 features; /* offered (source) or accepted (destination): SESSION_FEATURE_* */
    guint64 required; /* of them: without these there is no session */
} SessionConfig;

typedef struct Session Session;

Session *session_new(const SessionConfig *config);
void session_free(Session *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Session, session_free)

SessionState session_state(const Session *session);

/* Whose end ended first: what a user is told about an end depends on who began it. */
typedef enum {
    SESSION_ENDED_BY_NOBODY, /* it has not */
    SESSION_ENDED_BY_QEMU,   /* our QEMU ended its direction, or its socket broke */
    SESSION_ENDED_BY_PEER,   /* the peer told of such an end on its side, or gave up */
    SESSION_ENDED_BY_CHANNEL, /* the link was lost, or what came on it was no protocol */
    SESSION_ENDED_BY_CANCEL, /* we were told to end */
    SESSION_ENDED_BY_MAX,
} SessionEndedBy;

SessionEndedBy session_ended_by(const Session *session);
/* "", "qemu", "peer", "channel", "cancel" */
const char *session_ended_by_name(SessionEndedBy by);

SessionSide session_side(const Session *session);
/* Why it failed or was cancelled, in words for users; "" before that. */
const char *session_reason(const Session *session);

/* ---- what to do ---- */

typedef enum {
    SESSION_DO_REPORT = 1 << 0,          /* the state has changed */
    SESSION_DO_FETCH_QEMU = 1 << 1,      /* destination: get a connection to QEMU */
    SESSION_DO_SHUT_QEMU = 1 << 2,       /* shut down the writing side of QEMU's socket */
    SESSION_DO_CLOSE_QEMU = 1 << 3,      /* close QEMU's socket, and any way to get one */
    SESSION_DO_FINISH_CHANNEL = 1 << 4,  /* send what is left, then close when the peer does */
    SESSION_DO_CLOSE_CHANNEL = 1 << 5,   /* close it now */
    SESSION_DO_REJOIN = 1 << 6,          /* close it, and get another: the source dials, the
                                          * destination waits; session_on_channel_gone() when
                                          * that is given up */
    SESSION_DO_REJOINED = 1 << 7,        /* another is there: the session goes on */
} SessionActions;

SessionActions session_take_actions(Session *session);

/* ---- bytes for the channel ---- */

/* Returns how many bytes are at *ret_bytes, 0 if there is nothing to send. Valid until the next
 * call with this session. */
gsize session_output(Session *session, const guint8 **ret_bytes);
void session_output_done(Session *session, gsize len);

/* Lets it acknowledge what was handed on. Call after a batch of events, before waiting: one ACK
 * then speaks for the batch. */
void session_settle(Session *session);

/* ---- events from the channel ---- */

/* Source: TLS is up; HELLO is the output now. proof (tls/proof.h, not kept): once the session has
 * been agreed on, which session_wants_proof() says; else NULL. */
gboolean session_on_channel_up(Session *session, const guint8 *proof, GError **error);
/* Source: the next HELLO is of a session that was agreed on: it resumes. */
gboolean session_wants_proof(const Session *session);

/* Destination: what to tell a channel that has sent this HELLO: TRUE if it may become the main
 * channel; else a HELLO_ERROR for its ERROR frame. Changes nothing. proof: what a HELLO that
 * resumes must have, NULL while there is no key for one. A HELLO with the token is good for as long
 * as the source has not shown, by any frame, that it has got HELLO_ACK; one with a proof from
 * HELLO_ACK on, whether the connection before is known to be lost or not. */
gboolean session_judge_hello(const Session *session, const HelloBody *hello, const guint8 *proof,
                             GError **error);

/* Destination: the channel that sent it (judged well) is the main channel from here on; the one
 * before, if there still is one, is to be dropped (do not tell session_on_channel_lost()). */
gboolean session_on_hello(Session *session, const HelloBody *hello, GError **error);

/* A whole frame on the main channel; the body is only referenced. What is wrong with it shows
 * in the state. */
void session_on_frame(Session *session, const Frame *frame);
/* The bytes on the main channel are no frames. */
void session_on_bad_frame(Session *session, const GError *cause);
/* The connection of the main channel has ended or could not be set up. If both sides can resume (or
 * could: a source that is not answered yet) that is SESSION_DO_REJOIN, and what is sent waits;
 * else, and in a session that has failed, the same as the next. A completed session waits as well
 * until BYE has come: the peer may have lost the last ACK. */
void session_on_channel_lost(Session *session, const char *reason);
/* And no other will take its place: the session fails, unless it has ended already. */
void session_on_channel_gone(Session *session, const char *reason);
/* It had a connection and waits for another; also while that one's HELLO is not answered. */
gboolean session_is_lost(const Session *session);

/* ---- QEMU's end ---- */

gboolean session_on_qemu_attached(Session *session, GError **error);
gboolean session_on_qemu_refused(Session *session, const char *reason, GError **error);
/* Our QEMU has ended its direction: EOF goes out after everything sent so far. */
gboolean session_on_qemu_eof(Session *session, GError **error);
/* QEMU's socket gave an error, in either direction. */
gboolean session_on_qemu_broken(Session *session, const char *reason, GError **error);

/* ---- frames that are carried: DATA, and with SESSION_FEATURE_RAM PHASE to QEMU_CHANNEL; RECEIVED ---- */

/* Those both sides have; 0 before HELLO (destination) or HELLO_ACK (source), and if a window is too
 * small for a full PAGES. */
guint64 session_features(const Session *session);

/* The largest body that may be sent now (never more than FRAME_PAGES_MAX); 0 while the state does
 * not allow it, or the window or SESSION_FRAMES_MAX is used up. Answers below HELLO_WINDOW_MIN / 4
 * only where the type of frame needs no more: better wait for the next ACK. */
gsize session_send_room(const Session *session);
/* buf: from g_malloc(), taken; FRAME_HEADER_LEN bytes that are left free, then body_len of body: at
 * most session_send_room() and the type's own limit. Goes out without a copy (small ones are
 * copied, so that little is kept until the ACK). In a session that has ended it is dropped. */
void session_send(Session *session, FrameType type, guint8 *buf, gsize body_len);

/* Bodies put into session_send() since the session began, and how much of that was acknowledged. */
guint64 session_sent_bytes(const Session *session);
guint64 session_acked_bytes(const Session *session);
/* Of that, what no byte has been taken of by session_output(): waits here, not on the way. */
guint64 session_unsent_bytes(const Session *session);

/* The oldest frame received that was not handed on yet: borrowed until it is consumed. NULL: none,
 * or the session is not active, or EOF comes next (which the session handles by itself). */
GBytes *session_received(const Session *session, FrameType *ret_type);
/* It is handed on: to QEMU, completely, or to whatever it is for. Lets it be acknowledged. */
void session_consume(Session *session);

/* ---- others ---- */

gboolean session_start(Session *session, GError **error);
/* In an ended session this changes nothing and is no error. */
gboolean session_on_cancel(Session *session, const char *reason, GError **error);

/* Asks for a PONG; at most one PING is under way on a connection. FALSE if one is, or no channel is
 * up (a source may ask from HELLO_ACK on, a destination when it has sent it). */
gboolean session_ping(Session *session, guint64 cookie);
/* TRUE once for each answered PING. */
gboolean session_take_pong(Session *session, guint64 *ret_cookie);

typedef struct {
    guint64 bytes_sent;      /* bodies of carried frames */
    guint64 bytes_received;
    guint64 frames_sent;     /* taken for sending, of all types */
    guint64 frames_received;
    guint64 in_flight_high;  /* most bytes ever sent and not acknowledged */
    guint64 held_high;       /* most bytes ever waiting for our QEMU */
    guint64 resumes;         /* connections that took the place of a lost one */
    guint64 bytes_sent_again; /* of bodies, after those */
} SessionStats;

void session_get_stats(const Session *session, SessionStats *ret_stats);
