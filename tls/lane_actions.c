/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the rows of a lane's table do, one small step each. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "tls/lane_priv.h"

G_STATIC_ASSERT(HELLO_PROOF_LEN == HELLO_TOKEN_LEN);

static const char *peer_name(const Lane *lane)
{
    return lane->config.side == SESSION_SOURCE ? _("destination") : _("source");
}

/* The one way into failed: everything is dropped; the peer is told what `frame` says (taken, may be
 * NULL). */
static void fail_with(Lane *lane, char *reason, GBytes *frame)
{
    g_free(lane->reason);
    lane->reason = reason;
    outbox_drop_all(&lane->out);
    inbox_clear(&lane->in);
    if (frame)
        outbox_put(&lane->out.opening, frame);
}

gboolean lane_act_nothing(Lane *lane, const LaneInput *in, GError **error)
{
    return TRUE;
}

/* ---- handshake ---- */

gboolean lane_act_send_hello(Lane *lane, const LaneInput *in, GError **error)
{
    g_auto(HelloBody) hello = {
        .version_min = HELLO_VERSION,
        .version_max = HELLO_VERSION,
        .features = lane->config.features,
        .kind = lane->config.kind,
        .channel = lane->config.channel,
        .window = lane->config.window,
        .auth_len = HELLO_PROOF_LEN,
    };

    memcpy(hello.session, lane->config.id, sizeof hello.session);
    memcpy(hello.auth, in->proof, HELLO_PROOF_LEN);
    outbox_put(&lane->out.opening, frame_new_hello(&hello));
    return TRUE;
}

gboolean lane_act_take_hello(Lane *lane, const LaneInput *in, GError **error)
{
    HelloAckBody ack = {
        .version = HELLO_VERSION,
        .features = lane->config.features,
        .window = lane->config.window,
    };

    lane->out.window = MIN(lane->config.window, in->hello->window);
    lane->agreed = TRUE;
    outbox_put(&lane->out.opening, frame_new_hello_ack(&ack));
    return TRUE;
}

gboolean lane_act_take_hello_ack(Lane *lane, const LaneInput *in, GError **error)
{
    guint64 offered = lane->config.features;
    HelloAckBody ack;

    if (!hello_ack_judge(in->frame->body, offered, &ack, error))
        return FALSE;
    if (ack.features != offered) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("HELLO_ACK features 0x%" G_GINT64_MODIFIER "x are not those of the main "
                      "channel, 0x%" G_GINT64_MODIFIER "x"),
                    ack.features, offered);
        return FALSE;
    }
    if (ack.window < FRAME_PAGES_MAX) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("HELLO_ACK window %" G_GUINT64_FORMAT " is too small for its features, "
                      "which need %d"),
                    ack.window, FRAME_PAGES_MAX);
        return FALSE;
    }
    lane->out.window = MIN(lane->config.window, ack.window);
    lane->agreed = TRUE;
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

/* ---- ends ---- */

gboolean lane_act_finish(Lane *lane, const LaneInput *in, GError **error)
{
    inbox_clear(&lane->in);
    /* Nothing but ERROR may come before the answer to HELLO. */
    if (lane->agreed)
        outbox_put(&lane->out.closing, frame_new(FRAME_BYE, 0, NULL, 0));
    return TRUE;
}

gboolean lane_act_finish_late(Lane *lane, const LaneInput *in, GError **error)
{
    if (!lane->agreed)
        outbox_put(&lane->out.closing, frame_new(FRAME_BYE, 0, NULL, 0));
    lane->agreed = TRUE;
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
    if (lane->agreed)
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

gboolean lane_act_lose_channel(Lane *lane, const LaneInput *in, GError **error)
{
    fail_with(lane, g_strdup(in->reason), NULL);
    return TRUE;
}

gboolean lane_act_close(Lane *lane, const LaneInput *in, GError **error)
{
    lane->is_through = TRUE;
    return TRUE;
}
