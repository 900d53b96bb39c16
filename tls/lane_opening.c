/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connections of a lane: the first one, and those that take the place of a lost one. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "tls/lane_priv.h"

G_STATIC_ASSERT(HELLO_PROOF_LEN == HELLO_TOKEN_LEN);

/* ---- the source's side ---- */

static void send_hello(Lane *lane, const guint8 *proof, gboolean resume)
{
    g_auto(HelloBody) hello = {
        .version_min = HELLO_VERSION,
        .version_max = HELLO_VERSION,
        .features = lane->config.features,
        .kind = lane->config.kind,
        .channel = lane->config.channel,
        .window = lane->config.window,
        .auth_len = HELLO_PROOF_LEN,
        .resume = resume,
        .resume_seq = resume ? lane->in.next_seq : 0,
    };

    memcpy(hello.session, lane->config.id, sizeof hello.session);
    memcpy(hello.auth, proof, HELLO_PROOF_LEN);
    outbox_hello(&lane->out, frame_new_hello(&hello));
}

gboolean lane_act_send_hello(Lane *lane, const LaneInput *in, GError **error)
{
    send_hello(lane, in->proof, FALSE);
    return TRUE;
}

gboolean lane_act_send_hello_resume(Lane *lane, const LaneInput *in, GError **error)
{
    send_hello(lane, in->proof, TRUE);
    return TRUE;
}

static gboolean judge_ack(const Lane *lane, const Frame *frame, gboolean resume,
                          HelloAckBody *ret_ack, GError **error)
{
    guint64 offered = lane->config.features;

    if (!hello_ack_judge(frame->body, offered, resume, ret_ack, error))
        return FALSE;
    if (ret_ack->features != offered) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("HELLO_ACK features 0x%" PRIx64 " are not those of the main "
                      "channel, 0x%" PRIx64),
                    ret_ack->features, offered);
        return FALSE;
    }
    if (ret_ack->window < FRAME_PAGES_MAX) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("HELLO_ACK window %" PRIu64 " is too small for its features, "
                      "which need %d"),
                    ret_ack->window, FRAME_PAGES_MAX);
        return FALSE;
    }
    return TRUE;
}

/* Another connection changes nothing in what was agreed on. */
static gboolean check_same_window(const Lane *lane, const char *frame, guint64 window,
                                  GError **error)
{
    if (MIN(window, lane->config.window) == lane->out.window)
        return TRUE;
    g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                _("%s window %" PRIu64 " is not what was agreed on, %" PRIu64),
                frame, window, lane->out.window);
    return FALSE;
}

gboolean lane_act_take_hello_ack(Lane *lane, const LaneInput *in, GError **error)
{
    HelloAckBody ack;

    if (!judge_ack(lane, in->frame, FALSE, &ack, error))
        return FALSE;
    lane->out.window = MIN(lane->config.window, ack.window);
    lane->agreed = TRUE;
    outbox_join(&lane->out);
    /* So the destination learns that its answer has come. */
    if (lane->config.features & SESSION_FEATURE_RESUME)
        lane_acknowledge(lane);
    return TRUE;
}

gboolean lane_act_take_late_answer(Lane *lane, const LaneInput *in, GError **error)
{
    if (!lane->agreed)
        outbox_put(&lane->out.closing, frame_new(FRAME_BYE, 0, NULL, 0));
    lane->agreed = TRUE;
    outbox_join(&lane->out);
    return TRUE;
}

gboolean lane_act_take_resumed(Lane *lane, const LaneInput *in, GError **error)
{
    HelloAckBody ack;

    if (!judge_ack(lane, in->frame, TRUE, &ack, error) ||
        !check_same_window(lane, "HELLO_ACK", ack.window, error) ||
        !outbox_check_resume(&lane->out, ack.resume_seq, error))
        return FALSE;
    outbox_resume(&lane->out, ack.resume_seq);
    lane_acknowledge(lane);
    return TRUE;
}

gboolean lane_on_channel_up(Lane *lane, const guint8 proof[HELLO_PROOF_LEN], GError **error)
{
    LaneInput in = { .type = LANE_EV_CHANNEL_UP, .proof = proof };

    if (lane->state == LANE_OPEN && lane->out.joint != JOINT_LOST) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    _("%s is not possible on the %s channel in state %s: the connection before "
                      "is not lost"),
                    lane_event_name(in.type), lane_name(lane),
                    lane_state_name(lane->state));
        return FALSE;
    }
    return lane_event(lane, &in, error);
}

/* ---- the destination's side ---- */

static void send_hello_ack(Lane *lane, gboolean resume)
{
    HelloAckBody ack = {
        .version = HELLO_VERSION,
        .features = lane->config.features,
        .window = lane->config.window,
        .resume = resume,
        .resume_seq = resume ? lane->in.next_seq : 0,
    };

    outbox_put(&lane->out.opening, frame_new_hello_ack(&ack));
}

gboolean lane_act_take_hello(Lane *lane, const LaneInput *in, GError **error)
{
    lane->out.window = MIN(lane->config.window, in->hello->window);
    lane->agreed = TRUE;
    send_hello_ack(lane, FALSE);
    return TRUE;
}

gboolean lane_act_take_hello_again(Lane *lane, const LaneInput *in, GError **error)
{
    outbox_resume(&lane->out, 0);
    send_hello_ack(lane, FALSE);
    return TRUE;
}

gboolean lane_act_take_hello_resume(Lane *lane, const LaneInput *in, GError **error)
{
    outbox_resume(&lane->out, in->hello->resume_seq);
    lane->peer_has_ack = TRUE;
    send_hello_ack(lane, TRUE);
    if (lane->state == LANE_OPEN) {
        lane_acknowledge(lane);
    } else {
        /* The peer, for which the session goes on, had not heard of the end. */
        outbox_put(&lane->out.closing, frame_new(FRAME_BYE, 0, NULL, 0));
        lane->is_through = FALSE;
    }
    return TRUE;
}

static gboolean judge_offer(const Lane *lane, const HelloBody *hello, GError **error)
{
    guint64 features = lane->config.features;

    if ((hello->features & features) != features) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                    _("HELLO features 0x%" PRIx64 " are not those of the main "
                      "channel, 0x%" PRIx64),
                    hello->features, features);
        return FALSE;
    }
    if (hello->window < FRAME_PAGES_MAX) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                    _("HELLO window %" PRIu64 " is too small for this kind of channel, "
                      "which needs %d"),
                    hello->window, FRAME_PAGES_MAX);
        return FALSE;
    }
    return TRUE;
}

static gboolean judge_resume(const Lane *lane, const HelloBody *hello, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (lane->state == LANE_NONE || !(lane->config.features & SESSION_FEATURE_RESUME)) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                    _("HELLO resumes what was not agreed on"));
        return FALSE;
    }
    if (!check_same_window(lane, "HELLO", hello->window, error))
        return FALSE;
    if (outbox_check_resume(&lane->out, hello->resume_seq, &cause))
        return TRUE;
    g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL, "HELLO %s", cause->message);
    return FALSE;
}

static LaneEvent event_of_hello(const Lane *lane, const HelloBody *hello)
{
    if (hello->resume)
        return LANE_EV_HELLO_RESUME;
    return lane->state == LANE_NONE ? LANE_EV_HELLO : LANE_EV_HELLO_AGAIN;
}

/* Whether a HELLO of somebody who may send one has its place here now. */
static gboolean judge_place(const Lane *lane, const HelloBody *hello, GError **error)
{
    const char *kind = lane_name(lane);

    if (lane->state == LANE_FAILED) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_SESSION, _("the %s channel has failed: %s"),
                    kind, lane->reason);
        return FALSE;
    }
    switch (event_of_hello(lane, hello)) {
    case LANE_EV_HELLO:
        return TRUE;
    case LANE_EV_HELLO_RESUME:
        return judge_resume(lane, hello, error);
    default:
        if (lane->state == LANE_OPEN && !lane->peer_has_ack &&
            (lane->config.features & SESSION_FEATURE_RESUME))
            return check_same_window(lane, "HELLO", hello->window, error);
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN_USED, _("the session has its %s channel"),
                    kind);
        return FALSE;
    }
}

gboolean lane_judge_hello(const Lane *lane, const HelloBody *hello,
                          const guint8 proof[HELLO_PROOF_LEN], GError **error)
{
    const LaneConfig *config = &lane->config;

    if (!hello_judge(hello, config->id, config->kind, config->channel, error) ||
        !judge_offer(lane, hello, error))
        return FALSE;
    if (!hello_auth_equal(hello, proof)) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN, _("wrong proof"));
        return FALSE;
    }
    return judge_place(lane, hello, error);
}

gboolean lane_on_hello(Lane *lane, const HelloBody *hello, GError **error)
{
    LaneInput in = { .type = event_of_hello(lane, hello), .hello = hello };
    LaneState next;

    if (lane_has_row(lane->config.side, lane->state, in.type, &next) &&
        !judge_place(lane, hello, error))
        return FALSE;
    return lane_event(lane, &in, error);
}

/* ---- the loss ---- */

gboolean lane_act_lose_channel(Lane *lane, const LaneInput *in, GError **error)
{
    outbox_lose(&lane->out);
    return TRUE;
}

void lane_on_channel_lost(Lane *lane, const char *reason)
{
    LaneInput in = { .type = LANE_EV_CHANNEL_LOST, .reason = reason };
    LaneState next;

    if (!(lane->config.features & SESSION_FEATURE_RESUME) ||
        !lane_has_row(lane->config.side, lane->state, in.type, &next))
        in.type = LANE_EV_CHANNEL_GONE;
    lane_event(lane, &in, NULL);
}

void lane_on_channel_gone(Lane *lane, const char *reason)
{
    LaneInput in = { .type = LANE_EV_CHANNEL_GONE, .reason = reason };

    lane_event(lane, &in, NULL);
}

gboolean lane_is_lost(const Lane *lane)
{
    return lane->out.joint != JOINT_UP &&
           (lane->state == LANE_NONE || lane->state == LANE_HELLO_SENT ||
            lane->state == LANE_OPEN);
}
