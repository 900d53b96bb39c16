/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One end of a session: the machine that carries QEMU's stream and its return path over the
 * main channel, unread.
 *
 * Pure: no sockets, no clock, no threads. Whoever owns the sockets (ram/relay.h) tells it
 * what happened, and asks what to do:
 *
 *   - session_output(): bytes for the channel; session_qemu_output(): bytes for QEMU;
 *   - session_wants_qemu(): whether QEMU may be read (not while the window is full);
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
    SESSION_EV_QEMU_ATTACHED,
    SESSION_EV_QEMU_REFUSED,
    SESSION_EV_QEMU_DATA,
    SESSION_EV_QEMU_EOF,
    SESSION_EV_QEMU_BROKEN,
    SESSION_EV_QEMU_WRITTEN,
    SESSION_EV_CANCEL,
    SESSION_EV_CHANNEL_LOST,
    SESSION_EV_BAD_FRAME,   /* undecodable, or its content breaks a rule */
    SESSION_EV_DRAINED,     /* inside: nothing is left to hand on or to be acknowledged */
    SESSION_EV_FRAME_HELLO, /* from here on: frames from the peer on the main channel */
    SESSION_EV_FRAME_HELLO_ACK,
    SESSION_EV_FRAME_ERROR,
    SESSION_EV_FRAME_CANCELLED, /* ERROR with code cancelled */
    SESSION_EV_FRAME_DATA,
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

/* Source: TLS is up; HELLO is the output now. */
gboolean session_on_channel_up(Session *session, GError **error);

/* Destination: what to tell a channel that has sent this HELLO: TRUE if it may become the main
 * channel; else a HELLO_ERROR for its ERROR frame. Changes nothing. */
gboolean session_judge_hello(const Session *session, const HelloBody *hello, GError **error);

/* Destination: the channel that sent it (judged well) is the main channel from here on. */
gboolean session_on_hello(Session *session, const HelloBody *hello, GError **error);

/* A whole frame on the main channel; the body is only referenced. What is wrong with it shows
 * in the state. */
void session_on_frame(Session *session, const Frame *frame);
/* The bytes on the main channel are no frames. */
void session_on_bad_frame(Session *session, const GError *cause);
/* The main channel has ended or could not be set up. */
void session_on_channel_lost(Session *session, const char *reason);

/* ---- events from QEMU's end ---- */

gboolean session_on_qemu_attached(Session *session, GError **error);
gboolean session_on_qemu_refused(Session *session, const char *reason, GError **error);

/* TRUE while QEMU may be read. */
gboolean session_wants_qemu(const Session *session);
/* Where to read to: returns the room at *ret_space (> 0 while session_wants_qemu()). The bytes go
 * out from there, without a copy. */
gsize session_qemu_space(Session *session, guint8 **ret_space);
gboolean session_on_qemu_data(Session *session, gsize len, GError **error);
gboolean session_on_qemu_eof(Session *session, GError **error);
/* QEMU's socket gave an error, in either direction. */
gboolean session_on_qemu_broken(Session *session, const char *reason, GError **error);

/* Bytes to write to QEMU; 0: none. Valid until the next call with this session. */
gsize session_qemu_output(const Session *session, const guint8 **ret_bytes);
gboolean session_on_qemu_written(Session *session, gsize len, GError **error);

/* ---- others ---- */

gboolean session_start(Session *session, GError **error);
/* In an ended session this changes nothing and is no error. */
gboolean session_on_cancel(Session *session, const char *reason, GError **error);

/* Asks for a PONG; at most one PING is under way. FALSE if one is, or no channel is up. */
gboolean session_ping(Session *session, guint64 cookie);
/* TRUE once for each answered PING. */
gboolean session_take_pong(Session *session, guint64 *ret_cookie);

typedef struct {
    guint64 bytes_from_qemu; /* read from our QEMU */
    guint64 bytes_to_qemu;   /* handed on to our QEMU */
    guint64 frames_sent;     /* taken for sending, of all types */
    guint64 frames_received;
    guint64 in_flight_high;  /* most bytes ever sent and not acknowledged */
    guint64 held_high;       /* most bytes ever waiting for our QEMU */
} SessionStats;

void session_get_stats(const Session *session, SessionStats *ret_stats);
