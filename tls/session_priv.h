/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the session machine: its state, and what the rows of its table do
 * (tls/session_actions.c, tls/session_opening.c). For tls/session*.c only. */
#pragma once

#include "tls/inbox.h"
#include "tls/outbox.h"
#include "tls/session.h"

struct Session {
    SessionConfig config;
    SessionState state;
    SessionEndedBy ended_by;
    char *reason;
    SessionActions actions;

    Outbox out;
    Inbox in;
    guint64 features; /* what both sides have, once it is known */

    gboolean peer_has_ack; /* destination: the source has shown that it has got HELLO_ACK */
    gboolean is_through;   /* nothing comes from the peer any more */
    gboolean pong_is_in;

    guint64 frames_received;
};

/* What happened, with what belongs to it; the rest is 0. */
typedef struct {
    SessionEvent type;
    const Frame *frame;
    const HelloBody *hello;
    const guint8 *proof;
    const char *reason;
    FrameType type_to_send;
    guint8 *buf; /* taken if there is a row */
    gsize body_len;
} SessionInput;

/* Does one row's work. FALSE: the peer broke a rule; nothing was taken over. */
typedef gboolean (*SessionAct)(Session *s, const SessionInput *in, GError **error);

/* One row of the table (tls/session_table.c). */
typedef struct {
    guint from; /* bits of states */
    SessionEvent event;
    guint sides; /* bits */
    SessionState next;
    SessionAct act;
} SessionRow;

/* A row's next: the state stays. */
#define SESSION_SAME_STATE SESSION_STATE_MAX

/* NULL: none. */
const SessionRow *session_find_row(SessionSide side, SessionState state, SessionEvent event);

/* Lets it happen: FALSE if there is no row, or the peer broke a rule (the session has failed). */
gboolean session_event(Session *s, const SessionInput *in, GError **error);

/* Makes everything handed on so far the content of the next ACK. */
void session_acknowledge(Session *s);
/* A completed session's last words. */
void session_say_bye(Session *s);
/* The features this side has that can be used with such a window at the other. */
guint64 session_own_features(const Session *s, guint64 peer_window);

/* tls/session_opening.c */
gboolean act_send_hello(Session *s, const SessionInput *in, GError **error);
gboolean act_send_hello_resume(Session *s, const SessionInput *in, GError **error);
gboolean act_take_hello(Session *s, const SessionInput *in, GError **error);
gboolean act_take_hello_again(Session *s, const SessionInput *in, GError **error);
gboolean act_take_hello_resume(Session *s, const SessionInput *in, GError **error);
gboolean act_send_hello_ack(Session *s, const SessionInput *in, GError **error);
gboolean act_take_hello_ack(Session *s, const SessionInput *in, GError **error);
gboolean act_take_resumed(Session *s, const SessionInput *in, GError **error);
gboolean act_lose_channel(Session *s, const SessionInput *in, GError **error);

/* tls/session_actions.c */
gboolean act_nothing(Session *s, const SessionInput *in, GError **error);
gboolean act_refuse_qemu(Session *s, const SessionInput *in, GError **error);
gboolean act_send(Session *s, const SessionInput *in, GError **error);
gboolean act_send_eof(Session *s, const SessionInput *in, GError **error);
gboolean act_send_reset(Session *s, const SessionInput *in, GError **error);
gboolean act_consume(Session *s, const SessionInput *in, GError **error);
gboolean act_take_carried(Session *s, const SessionInput *in, GError **error);
gboolean act_take_eof(Session *s, const SessionInput *in, GError **error);
gboolean act_take_early_end(Session *s, const SessionInput *in, GError **error);
gboolean act_take_reset(Session *s, const SessionInput *in, GError **error);
gboolean act_take_ack(Session *s, const SessionInput *in, GError **error);
gboolean act_answer_ping(Session *s, const SessionInput *in, GError **error);
gboolean act_take_pong(Session *s, const SessionInput *in, GError **error);
gboolean act_take_error(Session *s, const SessionInput *in, GError **error);
gboolean act_give_channel_up(Session *s, const SessionInput *in, GError **error);
gboolean act_refuse_frame(Session *s, const SessionInput *in, GError **error);
gboolean act_cancel(Session *s, const SessionInput *in, GError **error);
gboolean act_complete(Session *s, const SessionInput *in, GError **error);
gboolean act_close_channel(Session *s, const SessionInput *in, GError **error);
