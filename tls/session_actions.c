/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the rows of the session's table do, one small step each. */
#include "config.h"

#include <glib/gi18n.h>

#include "tls/session_priv.h"

static const char *peer_name(const Session *s)
{
    return s->config.side == SESSION_SOURCE ? _("destination") : _("source");
}

/* The one way into failed and cancelled: QEMU's end is closed at once, so that the guest goes
 * on where it is; the peer is told what `frame` says (taken, may be NULL), if it can be. */
static void end_with(Session *s, char *reason, GBytes *frame)
{
    g_free(s->reason);
    s->reason = reason;
    inbox_clear(&s->in);
    s->actions &= ~(SESSION_DO_REJOIN | SESSION_DO_REJOINED);
    s->actions |= SESSION_DO_CLOSE_QEMU;
    s->actions |=
        outbox_end(&s->out, frame) ? SESSION_DO_FINISH_CHANNEL : SESSION_DO_CLOSE_CHANNEL;
}

gboolean act_nothing(Session *s, const SessionInput *in, GError **error)
{
    return TRUE;
}

gboolean act_refuse_qemu(Session *s, const SessionInput *in, GError **error)
{
    end_with(s, g_strdup(in->reason), frame_new_error(HELLO_ERROR_QEMU, in->reason));
    return TRUE;
}

/* ---- QEMU's end ---- */

/* Of frames of the main channel that are not DATA. */
static SessionSide sender_of(FrameType type)
{
    return type == FRAME_RECEIVED ? SESSION_DESTINATION : SESSION_SOURCE;
}

static gboolean agreed_on(const Session *s, FrameType type)
{
    gboolean mapped = type == FRAME_DISCARD || type == FRAME_RECEIVED;

    return (s->features & (mapped ? SESSION_FEATURE_MAPPED : SESSION_FEATURE_RAM)) != 0;
}

gboolean act_send(Session *s, const SessionInput *in, GError **error)
{
    FrameType type = in->type_to_send;

    g_assert(type == FRAME_DATA ||
             (frame_type_is_sequenced(type) && type != FRAME_REQUEST &&
              agreed_on(s, type) && s->config.side == sender_of(type)));
    outbox_send(&s->out, type, in->buf, in->body_len);
    return TRUE;
}

gboolean act_send_eof(Session *s, const SessionInput *in, GError **error)
{
    outbox_send_empty(&s->out, FRAME_EOF);
    return TRUE;
}

gboolean act_send_reset(Session *s, const SessionInput *in, GError **error)
{
    char *reason = g_strdup_printf(_("the connection to QEMU broke: %s"), in->reason);

    if (s->features & SESSION_FEATURE_MAPPED) {
        /* There is no QEMU; what broke is said in full, and nothing is worth being sent before it. */
        end_with(s, g_strdup(in->reason), frame_new_error(HELLO_ERROR_QEMU, in->reason));
        g_free(reason);
    } else if (s->out.opening || s->out.joint != JOINT_UP) {
        /* The handshake is not over: the peer has no stream that could be reset, or ERROR is the
         * shorter way. */
        end_with(s, reason, frame_new_error(HELLO_ERROR_QEMU, reason));
    } else {
        /* What was not sent yet gives way, or the news would come after all of it. */
        end_with(s, reason, NULL);
        outbox_send_empty(&s->out, FRAME_RESET);
    }
    return TRUE;
}

static void shut_qemu_if_due(Session *s)
{
    FrameType type;

    if (!inbox_front(&s->in, &type) || type != FRAME_EOF)
        return;
    inbox_consume(&s->in);
    s->actions |= SESSION_DO_SHUT_QEMU;
}

gboolean act_consume(Session *s, const SessionInput *in, GError **error)
{
    inbox_consume(&s->in);
    shut_qemu_if_due(s);
    return TRUE;
}

/* ---- frames ---- */

/* DATA goes both ways; the others were agreed on, and come from one side. */
static gboolean check_carried(const Session *s, FrameType type, GError **error)
{
    const char *why;

    if (type == FRAME_DATA)
        return TRUE;
    if (type == FRAME_REQUEST)
        why = _("does not belong on the main channel");
    else if (!agreed_on(s, type))
        why = _("needs a feature that was not agreed on");
    else if (s->config.side == sender_of(type))
        why = type == FRAME_RECEIVED ? _("goes from the destination to the source only")
                                     : _("goes from the source to the destination only");
    else
        return TRUE;
    g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL, "%s %s", frame_type_name(type),
                why);
    return FALSE;
}

gboolean act_take_carried(Session *s, const SessionInput *in, GError **error)
{
    return check_carried(s, in->frame->header.type, error) &&
           inbox_take(&s->in, in->frame, error);
}

gboolean act_take_eof(Session *s, const SessionInput *in, GError **error)
{
    if (!inbox_take(&s->in, in->frame, error))
        return FALSE;
    shut_qemu_if_due(s);
    return TRUE;
}

/* The other end is gone before ours has connected: nothing can be moved any more. */
gboolean act_take_early_end(Session *s, const SessionInput *in, GError **error)
{
    char *reason;

    if (!inbox_check_seq(&s->in, in->frame, error))
        return FALSE;
    reason = g_strdup_printf(_("QEMU on the %s closed its end before the migration began"),
                             peer_name(s));
    end_with(s, reason, frame_new_error(HELLO_ERROR_QEMU, reason));
    return TRUE;
}

gboolean act_take_reset(Session *s, const SessionInput *in, GError **error)
{
    if (!inbox_check_seq(&s->in, in->frame, error))
        return FALSE;
    end_with(s, g_strdup_printf(_("the connection to QEMU on the %s broke"), peer_name(s)), NULL);
    return TRUE;
}

gboolean act_take_ack(Session *s, const SessionInput *in, GError **error)
{
    return outbox_acknowledge(&s->out, in->frame->body, error);
}

gboolean act_answer_ping(Session *s, const SessionInput *in, GError **error)
{
    return outbox_answer_ping(&s->out, in->frame->body, error);
}

gboolean act_take_pong(Session *s, const SessionInput *in, GError **error)
{
    if (!outbox_take_pong(&s->out, in->frame->body, error))
        return FALSE;
    s->pong_is_in = TRUE;
    return TRUE;
}

/* For FRAME_ERROR and FRAME_CANCELLED: the state that follows is the row's business. */
gboolean act_take_error(Session *s, const SessionInput *in, GError **error)
{
    g_auto(ErrorBody) body = { 0 };
    char *reason;

    if (!error_body_decode(in->frame->body, &body, error))
        return FALSE;
    if (in->type == SESSION_EV_FRAME_CANCELLED)
        reason = g_strdup_printf(_("the %s cancelled the migration: %s"), peer_name(s), body.text);
    else if (session_state_is_active(s->state) && s->out.joint == JOINT_UP)
        reason = g_strdup_printf(_("error at the %s: %s"), peer_name(s), body.text);
    else
        reason = g_strdup_printf(_("the %s refused: %s"), peer_name(s), body.text);
    end_with(s, reason, NULL);
    return TRUE;
}

/* ---- ends ---- */

/* It may be another channel that is given up: then the peer hears why on this one. */
gboolean act_give_channel_up(Session *s, const SessionInput *in, GError **error)
{
    end_with(s, g_strdup(in->reason), frame_new_error(HELLO_ERROR_INTERNAL, in->reason));
    return TRUE;
}

gboolean act_refuse_frame(Session *s, const SessionInput *in, GError **error)
{
    end_with(s, g_strdup_printf(_("protocol error of the %s: %s"), peer_name(s), in->reason),
             frame_new_error(HELLO_ERROR_PROTOCOL, in->reason));
    return TRUE;
}

gboolean act_cancel(Session *s, const SessionInput *in, GError **error)
{
    end_with(s, g_strdup(in->reason), frame_new_error(HELLO_ERROR_CANCELLED, in->reason));
    return TRUE;
}

void session_acknowledge(Session *s)
{
    outbox_put(&s->out.ack, inbox_take_ack(&s->in));
}

void session_say_bye(Session *s)
{
    outbox_put(&s->out.closing, frame_new(FRAME_BYE, 0, NULL, 0));
    s->actions |= SESSION_DO_FINISH_CHANNEL;
}

gboolean act_complete(Session *s, const SessionInput *in, GError **error)
{
    s->actions |= SESSION_DO_CLOSE_QEMU;
    /* Else both are said on the next connection. */
    if (s->out.joint == JOINT_UP) {
        /* The peer cannot complete without it, and BYE is the last frame. */
        if (inbox_ack_is_due(&s->in))
            session_acknowledge(s);
        session_say_bye(s);
    }
    return TRUE;
}

gboolean act_close_channel(Session *s, const SessionInput *in, GError **error)
{
    s->is_through = TRUE;
    s->actions &= ~(SESSION_DO_REJOIN | SESSION_DO_REJOINED);
    s->actions |= SESSION_DO_CLOSE_CHANNEL;
    return TRUE;
}
