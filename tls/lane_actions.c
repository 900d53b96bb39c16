/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the rows of a lane's table do, one small step each. */
#include "config.h"

#include <glib/gi18n.h>

#include "tls/lane_priv.h"

static const char *peer_name(const Lane *lane)
{
    return lane->config.side == SESSION_SOURCE ? _("destination") : _("source");
}

/* The one way into failed: everything is dropped; the peer is told what `frame` says (taken, may be
 * NULL), if it can be. */
static void fail_with(Lane *lane, char *reason, GBytes *frame)
{
    g_free(lane->reason);
    lane->reason = reason;
    outbox_end(&lane->out, frame);
    inbox_clear(&lane->in);
}

gboolean lane_act_nothing(Lane *lane, const LaneInput *in, GError **error)
{
    return TRUE;
}

/* ---- carried frames ---- */

/* The one type that goes out from this side. */
static FrameType carried_by(SessionSide side)
{
    return side == SESSION_SOURCE ? FRAME_PAGES : FRAME_REQUEST;
}

gboolean lane_act_send(Lane *lane, const LaneInput *in, GError **error)
{
    g_assert(in->type_to_send == carried_by(lane->config.side));
    outbox_send(&lane->out, in->type_to_send, in->buf, in->body_len);
    return TRUE;
}

gboolean lane_act_consume(Lane *lane, const LaneInput *in, GError **error)
{
    /* An ended lane may have dropped what its owner still held. */
    if (!inbox_is_empty(&lane->in))
        inbox_consume(&lane->in);
    return TRUE;
}

gboolean lane_act_take_carried(Lane *lane, const LaneInput *in, GError **error)
{
    FrameType type = in->frame->header.type;

    if (type == carried_by(lane->config.side)) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("%s goes to the %s only"), frame_type_name(type), peer_name(lane));
        return FALSE;
    }
    if (type == FRAME_REQUEST && lane->config.kind == CHANNEL_BULK) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("REQUEST does not go on bulk channels"));
        return FALSE;
    }
    return inbox_take(&lane->in, in->frame, error);
}

gboolean lane_act_take_ack(Lane *lane, const LaneInput *in, GError **error)
{
    return outbox_acknowledge(&lane->out, in->frame->body, error);
}

gboolean lane_act_answer_ping(Lane *lane, const LaneInput *in, GError **error)
{
    return outbox_answer_ping(&lane->out, in->frame->body, error);
}

gboolean lane_act_take_pong(Lane *lane, const LaneInput *in, GError **error)
{
    return outbox_take_pong(&lane->out, in->frame->body, error);
}

/* ---- ends ---- */

gboolean lane_act_finish_unopened(Lane *lane, const LaneInput *in, GError **error)
{
    outbox_end(&lane->out, NULL);
    return TRUE;
}

gboolean lane_act_finish(Lane *lane, const LaneInput *in, GError **error)
{
    inbox_clear(&lane->in);
    /* Nobody to tell it; a peer that comes back hears of it then. */
    if (lane->agreed && lane->out.joint != JOINT_UP) {
        outbox_end(&lane->out, NULL);
        lane->is_through = TRUE;
        return TRUE;
    }
    /* Nothing but ERROR may come before the answer to HELLO. */
    if (lane->agreed)
        outbox_put(&lane->out.closing, frame_new(FRAME_BYE, 0, NULL, 0));
    return TRUE;
}

/* What came before it may still be consumed. */
gboolean lane_act_take_bye(Lane *lane, const LaneInput *in, GError **error)
{
    outbox_put(&lane->out.closing, frame_new(FRAME_BYE, 0, NULL, 0));
    lane->is_through = TRUE;
    return TRUE;
}

gboolean lane_act_take_error(Lane *lane, const LaneInput *in, GError **error)
{
    const char *kind = channel_kind_name(lane->config.kind);
    g_auto(ErrorBody) body = { 0 };

    if (!error_body_decode(in->frame->body, &body, error))
        return FALSE;
    if (lane->agreed && lane->out.joint == JOINT_UP)
        fail_with(lane, g_strdup_printf(_("error at the %s on the %s channel: %s"),
                                        peer_name(lane), kind, body.text), NULL);
    else
        fail_with(lane, g_strdup_printf(_("the %s refused the %s channel: %s"), peer_name(lane),
                                        kind, body.text), NULL);
    return TRUE;
}

gboolean lane_act_refuse_frame(Lane *lane, const LaneInput *in, GError **error)
{
    fail_with(lane,
              g_strdup_printf(_("protocol error of the %s on the %s channel: %s"),
                              peer_name(lane), channel_kind_name(lane->config.kind), in->reason),
              frame_new_error(HELLO_ERROR_PROTOCOL, in->reason));
    return TRUE;
}

gboolean lane_act_give_channel_up(Lane *lane, const LaneInput *in, GError **error)
{
    fail_with(lane, g_strdup(in->reason), NULL);
    return TRUE;
}

gboolean lane_act_close(Lane *lane, const LaneInput *in, GError **error)
{
    lane->is_through = TRUE;
    return TRUE;
}
