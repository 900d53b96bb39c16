/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a lane is made of: its state, and what the rows of its table do (tls/lane_actions.c,
 * tls/lane_opening.c). For tls/lane*.c only. */
#pragma once

#include "tls/inbox.h"
#include "tls/lane.h"
#include "tls/outbox.h"

struct Lane {
    LaneConfig config;
    LaneState state;
    char *reason;

    Outbox out;
    Inbox in;
    gboolean agreed;   /* HELLO_ACK was sent or received */
    gboolean peer_has_ack; /* destination: the source has shown that it has got HELLO_ACK */
    gboolean is_through; /* nothing comes from the peer any more: BYE, ERROR, or the loss */
    guint64 frames_received;
};

/* What happened, with what belongs to it; the rest is 0. */
typedef struct {
    LaneEvent type;
    const Frame *frame;
    const HelloBody *hello;
    const guint8 *proof;
    const char *reason;
    FrameType type_to_send;
    guint8 *buf; /* taken if there is a row */
    gsize body_len;
} LaneInput;

/* Does one row's work. FALSE: the peer broke a rule; nothing was taken over. */
typedef gboolean (*LaneAct)(Lane *lane, const LaneInput *in, GError **error);

/* Lets it happen: FALSE if there is no row, or the peer broke a rule (the lane has failed). */
gboolean lane_event(Lane *lane, const LaneInput *in, GError **error);

/* Makes everything handed on so far the content of the next ACK. */
void lane_acknowledge(Lane *lane);

/* tls/lane_opening.c */
gboolean lane_act_send_hello(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_send_hello_resume(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_hello(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_hello_again(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_hello_resume(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_hello_ack(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_late_answer(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_resumed(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_lose_channel(Lane *lane, const LaneInput *in, GError **error);

/* tls/lane_actions.c */
gboolean lane_act_nothing(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_send(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_consume(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_carried(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_ack(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_answer_ping(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_pong(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_finish(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_finish_unopened(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_bye(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_take_error(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_refuse_frame(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_give_channel_up(Lane *lane, const LaneInput *in, GError **error);
gboolean lane_act_close(Lane *lane, const LaneInput *in, GError **error);
