/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A lane's table of transitions, and the functions that feed it. */
#include "config.h"

#include "tls/lane.h"

#include <glib/gi18n.h>

#include "tls/lane_priv.h"

/* ---- the table ---- */

#define IN(state) (1u << LANE_##state)
#define JOINED (IN(HELLO_SENT) | IN(OPEN))
#define OVER (IN(ENDED) | IN(FAILED))

#define SRC (1u << SESSION_SOURCE)
#define DST (1u << SESSION_DESTINATION)
#define BOTH (SRC | DST)

#define SAME LANE_STATE_MAX

typedef struct {
    guint from; /* states */
    LaneEvent event;
    guint sides;
    LaneState next;
    LaneAct act;
} LaneRow;

static const LaneRow rows[] = {
    /* set-up */
    { IN(NONE), LANE_EV_CHANNEL_UP, SRC, LANE_HELLO_SENT, lane_act_send_hello },
    { IN(NONE), LANE_EV_HELLO, DST, LANE_OPEN, lane_act_take_hello },
    { IN(HELLO_SENT), LANE_EV_FRAME_HELLO_ACK, SRC, LANE_OPEN, lane_act_take_hello_ack },

    /* a lost connection, and another in its place (what of it may happen when also depends on
     * whether there is one: tls/lane_opening.c). One that ends before the peer has heard of it
     * tells it on the next. */
    { IN(NONE), LANE_EV_CHANNEL_LOST, SRC, SAME, lane_act_lose_channel },
    { IN(HELLO_SENT), LANE_EV_CHANNEL_LOST, SRC, LANE_NONE, lane_act_lose_channel },
    { IN(OPEN), LANE_EV_CHANNEL_LOST, BOTH, SAME, lane_act_lose_channel },
    { IN(OPEN), LANE_EV_CHANNEL_UP, SRC, SAME, lane_act_send_hello_resume },
    { IN(OPEN), LANE_EV_FRAME_RESUMED, SRC, SAME, lane_act_take_resumed },
    { IN(OPEN), LANE_EV_HELLO_AGAIN, DST, SAME, lane_act_take_hello_again },
    { IN(OPEN) | IN(ENDED), LANE_EV_HELLO_RESUME, DST, SAME, lane_act_take_hello_resume },

    /* both ways */
    { IN(OPEN), LANE_EV_SEND, BOTH, SAME, lane_act_send },
    { IN(OPEN), LANE_EV_FRAME_ACK, BOTH, SAME, lane_act_take_ack },
    { IN(OPEN), LANE_EV_FRAME_CARRIED, BOTH, SAME, lane_act_take_carried },
    { IN(OPEN) | IN(ENDED), LANE_EV_CONSUME, BOTH, SAME, lane_act_consume },
    { IN(OPEN), LANE_EV_FRAME_PING, BOTH, SAME, lane_act_answer_ping },
    { IN(OPEN), LANE_EV_FRAME_PONG, BOTH, SAME, lane_act_take_pong },

    /* ends. A side that ends before it was answered waits for that with its BYE. The peer's session
     * may end before ours has heard of it on the main channel. */
    { IN(OPEN), LANE_EV_FINISH, BOTH, LANE_ENDED, lane_act_finish },
    { IN(HELLO_SENT), LANE_EV_FINISH, SRC, LANE_ENDED, lane_act_finish },
    { IN(ENDED), LANE_EV_FRAME_HELLO_ACK, SRC, SAME, lane_act_take_late_answer },
    { IN(OPEN), LANE_EV_FRAME_BYE, BOTH, LANE_ENDED, lane_act_take_bye },
    { IN(ENDED), LANE_EV_FRAME_BYE, BOTH, SAME, lane_act_close },
    { IN(NONE), LANE_EV_FINISH, BOTH, SAME, lane_act_finish_unopened },
    { OVER, LANE_EV_FINISH, BOTH, SAME, lane_act_nothing },

    { JOINED, LANE_EV_FRAME_ERROR, BOTH, LANE_FAILED, lane_act_take_error },
    { JOINED, LANE_EV_BAD_FRAME, BOTH, LANE_FAILED, lane_act_refuse_frame },
    { JOINED, LANE_EV_CHANNEL_GONE, BOTH, LANE_FAILED, lane_act_give_channel_up },
    { IN(NONE), LANE_EV_CHANNEL_GONE, SRC, LANE_FAILED, lane_act_give_channel_up },

    /* after the end: what still comes was under way and means nothing now */
    { OVER, LANE_EV_CHANNEL_GONE, BOTH, SAME, lane_act_close },
    { OVER, LANE_EV_BAD_FRAME, BOTH, SAME, lane_act_close },
    { OVER, LANE_EV_FRAME_ERROR, BOTH, SAME, lane_act_close },
    { IN(FAILED), LANE_EV_FRAME_BYE, BOTH, SAME, lane_act_close },
    { IN(FAILED), LANE_EV_FRAME_HELLO_ACK, SRC, SAME, lane_act_nothing },
    { OVER, LANE_EV_FRAME_CARRIED, BOTH, SAME, lane_act_nothing },
    { OVER, LANE_EV_FRAME_ACK, BOTH, SAME, lane_act_nothing },
    { OVER, LANE_EV_FRAME_PING, BOTH, SAME, lane_act_nothing },
    { OVER, LANE_EV_FRAME_PONG, BOTH, SAME, lane_act_nothing },
    { OVER, LANE_EV_FRAME_OTHER, BOTH, SAME, lane_act_nothing },
};

static const LaneRow *find_row(SessionSide side, LaneState state, LaneEvent event)
{
    for (const LaneRow *row = rows; row < rows + G_N_ELEMENTS(rows); row++) {
        if (row->event == event && (row->from & (1u << state)) && (row->sides & (1u << side)))
            return row;
    }
    return NULL;
}

gboolean lane_has_row(SessionSide side, LaneState state, LaneEvent event, LaneState *ret_next)
{
    const LaneRow *row = find_row(side, state, event);

    if (!row)
        return FALSE;
    *ret_next = row->next == SAME ? state : row->next;
    return TRUE;
}

/* ---- names ---- */

const char *lane_state_name(LaneState state)
{
    static const char *const names[LANE_STATE_MAX] = { "none", "hello-sent", "open", "ended",
                                                       "failed" };

    return state < LANE_STATE_MAX ? names[state] : "invalid";
}

const char *lane_event_name(LaneEvent event)
{
    static const char *const names[LANE_EVENT_MAX] = {
        [LANE_EV_CHANNEL_UP] = "channel-up",
        [LANE_EV_HELLO] = "hello",
        [LANE_EV_HELLO_AGAIN] = "hello-again",
        [LANE_EV_HELLO_RESUME] = "hello-resume",
        [LANE_EV_SEND] = "send",
        [LANE_EV_CONSUME] = "consume",
        [LANE_EV_FINISH] = "finish",
        [LANE_EV_CHANNEL_LOST] = "channel-lost",
        [LANE_EV_CHANNEL_GONE] = "channel-gone",
        [LANE_EV_BAD_FRAME] = "bad-frame",
        [LANE_EV_FRAME_HELLO] = "HELLO",
        [LANE_EV_FRAME_HELLO_ACK] = "HELLO_ACK",
        [LANE_EV_FRAME_RESUMED] = "HELLO_ACK (resumed)",
        [LANE_EV_FRAME_ERROR] = "ERROR",
        [LANE_EV_FRAME_CARRIED] = "carried frame",
        [LANE_EV_FRAME_ACK] = "ACK",
        [LANE_EV_FRAME_PING] = "PING",
        [LANE_EV_FRAME_PONG] = "PONG",
        [LANE_EV_FRAME_BYE] = "BYE",
        [LANE_EV_FRAME_OTHER] = "other frame",
    };

    return event < LANE_EVENT_MAX ? names[event] : "invalid";
}

/* ---- transitions ---- */

static void lane_break(Lane *lane, const char *reason)
{
    LaneInput in = { .type = LANE_EV_BAD_FRAME, .reason = reason };

    lane_event(lane, &in, NULL);
}

/* The peer's frame breaks a rule; a local event changes nothing. */
static gboolean refuse_event(Lane *lane, const LaneInput *in, GError **error)
{
    const char *what =
        in->frame ? frame_type_name(in->frame->header.type) : lane_event_name(in->type);
    g_autofree char *text = g_strdup_printf(_("%s is not expected on the %s channel in state %s"),
                                            what, lane_name(lane),
                                            lane_state_name(lane->state));

    g_set_error_literal(error, SESSION_ERROR, SESSION_ERROR_STATE, text);
    if (in->frame)
        lane_break(lane, text);
    return FALSE;
}

/* The one place where the state changes. */
gboolean lane_event(Lane *lane, const LaneInput *in, GError **error)
{
    const LaneRow *row = find_row(lane->config.side, lane->state, in->type);
    g_autoptr(GError) cause = NULL;

    if (!row)
        return refuse_event(lane, in, error);
    if (!row->act(lane, in, &cause)) {
        lane_break(lane, cause->message);
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    if (row->next != SAME)
        lane->state = row->next;
    return TRUE;
}

/* ---- life ---- */

Lane *lane_new(const LaneConfig *config)
{
    Lane *lane = g_new0(Lane, 1);

    g_assert(config->window >= FRAME_PAGES_MAX && config->window <= HELLO_WINDOW_MAX);
    lane->config = *config;
    lane->reason = g_strdup("");
    outbox_init(&lane->out, config->window);
    inbox_init(&lane->in, config->window);
    return lane;
}

void lane_free(Lane *lane)
{
    if (!lane)
        return;
    outbox_clear(&lane->out);
    inbox_clear(&lane->in);
    g_free(lane->reason);
    g_free(lane);
}

LaneState lane_state(const Lane *lane)
{
    return lane->state;
}

const char *lane_reason(const Lane *lane)
{
    return lane->reason;
}

ChannelKind lane_kind(const Lane *lane)
{
    return lane->config.kind;
}

guint16 lane_number(const Lane *lane)
{
    return lane->config.channel;
}

const char *lane_name(const Lane *lane)
{
    return channel_name(lane->config.kind, lane->config.channel);
}

gboolean lane_is_through(const Lane *lane)
{
    return lane->is_through || lane->state == LANE_FAILED;
}

void lane_finish(Lane *lane)
{
    LaneInput in = { .type = LANE_EV_FINISH };

    lane_event(lane, &in, NULL);
}

/* ---- the channel ---- */

gsize lane_output(Lane *lane, const guint8 **ret_bytes)
{
    return outbox_output(&lane->out, ret_bytes);
}

void lane_output_done(Lane *lane, gsize len)
{
    outbox_output_done(&lane->out, len);
}

void lane_acknowledge(Lane *lane)
{
    outbox_put(&lane->out.ack, inbox_take_ack(&lane->in));
}

void lane_settle(Lane *lane)
{
    if (lane->state == LANE_OPEN && lane->out.joint == JOINT_UP && inbox_ack_is_due(&lane->in))
        lane_acknowledge(lane);
}

gboolean lane_ping(Lane *lane, guint64 cookie)
{
    return lane->state == LANE_OPEN && lane->out.joint == JOINT_UP &&
           outbox_ping(&lane->out, cookie);
}

/* Source: a HELLO that resumes is not answered. */
static gboolean lane_is_resuming(const Lane *lane)
{
    return lane->state == LANE_OPEN && lane->out.joint == JOINT_HELLO_SENT;
}

static LaneEvent event_of_frame(const Lane *lane, const Frame *frame)
{
    switch (frame->header.type) {
    case FRAME_HELLO:
        return LANE_EV_FRAME_HELLO;
    case FRAME_HELLO_ACK:
        return lane_is_resuming(lane) ? LANE_EV_FRAME_RESUMED : LANE_EV_FRAME_HELLO_ACK;
    case FRAME_ERROR:
        return LANE_EV_FRAME_ERROR;
    case FRAME_PAGES:
    case FRAME_REQUEST:
        return LANE_EV_FRAME_CARRIED;
    case FRAME_ACK:
        return LANE_EV_FRAME_ACK;
    case FRAME_PING:
        return LANE_EV_FRAME_PING;
    case FRAME_PONG:
        return LANE_EV_FRAME_PONG;
    case FRAME_BYE:
        return LANE_EV_FRAME_BYE;
    default:
        return LANE_EV_FRAME_OTHER;
    }
}

static void refuse_before_answer(Lane *lane, const Frame *frame)
{
    g_autofree char *text = g_strdup_printf(_("%s comes before the answer to HELLO"),
                                            frame_type_name(frame->header.type));

    lane_break(lane, text);
}

void lane_on_frame(Lane *lane, const Frame *frame)
{
    LaneInput in = { .type = event_of_frame(lane, frame), .frame = frame };

    if (lane->out.joint == JOINT_LOST)
        return;
    lane->frames_received++;
    lane->peer_has_ack = TRUE;
    if (lane_is_resuming(lane) && in.type != LANE_EV_FRAME_RESUMED &&
        in.type != LANE_EV_FRAME_ERROR)
        refuse_before_answer(lane, frame);
    else
        lane_event(lane, &in, NULL);
}

void lane_on_bad_frame(Lane *lane, const GError *cause)
{
    lane_break(lane, cause->message);
}

/* ---- carried frames ---- */

gsize lane_send_room(const Lane *lane)
{
    return lane->state == LANE_OPEN ? outbox_room(&lane->out) : 0;
}

void lane_send(Lane *lane, FrameType type, guint8 *buf, gsize body_len)
{
    LaneInput in = {
        .type = LANE_EV_SEND,
        .type_to_send = type,
        .buf = buf,
        .body_len = body_len,
    };

    /* A lane that has ended sends nothing any more. */
    if (!lane_event(lane, &in, NULL))
        g_free(buf);
}

GBytes *lane_received(const Lane *lane, FrameType *ret_type)
{
    return inbox_front(&lane->in, ret_type);
}

void lane_consume(Lane *lane)
{
    LaneInput in = { .type = LANE_EV_CONSUME };

    lane_event(lane, &in, NULL);
}

guint64 lane_sent_bytes(const Lane *lane)
{
    return lane->out.put_bytes;
}

guint64 lane_acked_bytes(const Lane *lane)
{
    return lane->out.acked_bytes;
}

guint64 lane_next_seq(const Lane *lane)
{
    return lane->out.next_seq;
}

guint64 lane_consumed_seq(const Lane *lane)
{
    return lane->in.handed_seq;
}

void lane_get_stats(const Lane *lane, SessionStats *ret_stats)
{
    *ret_stats = (SessionStats){
        .bytes_sent = lane->out.put_bytes,
        .bytes_received = lane->in.received_bytes,
        .frames_sent = lane->out.frames_sent,
        .frames_received = lane->frames_received,
        .in_flight_high = lane->out.held_high,
        .held_high = lane->in.held_high,
        .resumes = lane->out.resumes,
        .bytes_sent_again = lane->out.again_bytes,
    };
}
