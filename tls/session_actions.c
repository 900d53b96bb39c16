/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the rows of the session's table do, one small step each. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "tls/session_priv.h"

static const char *peer_name(const Session *s)
{
    return s->config.side == SESSION_SOURCE ? _("destination") : _("source");
}

/* The one way into failed and cancelled: QEMU's end is closed at once, so that the guest goes
 * on where it is; the peer is told what `frame` says (taken, may be NULL). */
static void end_with(Session *s, char *reason, GBytes *frame)
{
    g_free(s->reason);
    s->reason = reason;
    outbox_drop_all(&s->out);
    inbox_clear(&s->in);
    if (frame)
        outbox_put(&s->out.opening, frame);
    s->actions |= SESSION_DO_CLOSE_QEMU | SESSION_DO_FINISH_CHANNEL;
}

gboolean act_nothing(Session *s, const SessionInput *in, GError **error)
{
    return TRUE;
}

/* ---- handshake ---- */

/* What this side has, with a window it can be used in: a full PAGES must fit. */
static guint64 own_features(const Session *s, guint64 peer_window)
{
    return MIN(s->config.window, peer_window) >= FRAME_PAGES_MAX ? s->config.features : 0;
}

gboolean act_send_hello(Session *s, const SessionInput *in, GError **error)
{
    g_auto(HelloBody) hello = {
        .version_min = HELLO_VERSION,
        .version_max = HELLO_VERSION,
        .features = own_features(s, HELLO_WINDOW_MAX),
        .kind = CHANNEL_MAIN,
        .window = s->config.window,
        .auth_len = HELLO_TOKEN_LEN,
    };

    memcpy(hello.session, s->config.id, sizeof hello.session);
    memcpy(hello.auth, s->config.token, HELLO_TOKEN_LEN);
    outbox_put(&s->out.opening, frame_new_hello(&hello));
    return TRUE;
}

gboolean act_take_hello(Session *s, const SessionInput *in, GError **error)
{
    s->out.window = MIN(s->config.window, in->hello->window);
    s->features = in->hello->features & own_features(s, in->hello->window);
    s->actions |= SESSION_DO_FETCH_QEMU;
    return TRUE;
}

gboolean act_send_hello_ack(Session *s, const SessionInput *in, GError **error)
{
    HelloAckBody ack = {
        .version = HELLO_VERSION,
        .features = s->features,
        .window = s->config.window,
    };

    outbox_put(&s->out.opening, frame_new_hello_ack(&ack));
    return TRUE;
}

gboolean act_take_hello_ack(Session *s, const SessionInput *in, GError **error)
{
    HelloAckBody ack;

    if (!hello_ack_judge(in->frame->body, own_features(s, HELLO_WINDOW_MAX), &ack, error))
        return FALSE;
    if (ack.features & ~own_features(s, ack.window)) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("HELLO_ACK window %" G_GUINT64_FORMAT " is too small for its features, "
                      "which need %d"),
                    ack.window, FRAME_PAGES_MAX);
        return FALSE;
    }
    s->out.window = MIN(s->config.window, ack.window);
    s->features = ack.features;
    return TRUE;
}

gboolean act_refuse_qemu(Session *s, const SessionInput *in, GError **error)
{
    end_with(s, g_strdup(in->reason), frame_new_error(HELLO_ERROR_QEMU, in->reason));
    return TRUE;
}

/* ---- QEMU's end ---- */

gboolean act_send(Session *s, const SessionInput *in, GError **error)
{
    FrameType type = in->type_to_send;

    g_assert(type == FRAME_DATA ||
             (frame_type_is_sequenced(type) && type != FRAME_REQUEST &&
              (s->features & SESSION_FEATURE_RAM) && s->config.side == SESSION_SOURCE));
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

    if (s->out.opening) {
        /* HELLO_ACK is not out yet: the peer has no stream that could be reset. */
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

/* DATA goes both ways; the others were agreed on, and come from the source. */
static gboolean check_carried(const Session *s, FrameType type, GError **error)
{
    const char *why;

    if (type == FRAME_DATA)
        return TRUE;
    if (type == FRAME_REQUEST)
        why = _("does not belong on the main channel");
    else if (!(s->features & SESSION_FEATURE_RAM))
        why = _("needs a feature that was not agreed on");
    else if (s->config.side == SESSION_SOURCE)
        why = _("goes from the source to the destination only");
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
    guint64 cookie;

    if (!frame_ping_decode(in->frame->body, &cookie, error))
        return FALSE;
    if (!s->ping_is_out || cookie != s->ping_cookie) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("PONG cookie 0x%016" G_GINT64_MODIFIER "x answers no PING"), cookie);
        return FALSE;
    }
    s->ping_is_out = FALSE;
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
    else if (session_state_is_active(s->state))
        reason = g_strdup_printf(_("error at the %s: %s"), peer_name(s), body.text);
    else
        reason = g_strdup_printf(_("the %s refused: %s"), peer_name(s), body.text);
    end_with(s, reason, NULL);
    return TRUE;
}

/* ---- ends ---- */

gboolean act_lose_channel(Session *s, const SessionInput *in, GError **error)
{
    end_with(s, g_strdup(in->reason), NULL);
    s->actions |= SESSION_DO_CLOSE_CHANNEL;
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

gboolean act_complete(Session *s, const SessionInput *in, GError **error)
{
    /* The peer cannot complete without it, and BYE is the last frame. */
    if (inbox_ack_is_due(&s->in))
        session_acknowledge(s);
    outbox_put(&s->out.closing, frame_new(FRAME_BYE, 0, NULL, 0));
    s->actions |= SESSION_DO_CLOSE_QEMU | SESSION_DO_FINISH_CHANNEL;
    return TRUE;
}

gboolean act_close_channel(Session *s, const SessionInput *in, GError **error)
{
    s->actions |= SESSION_DO_CLOSE_CHANNEL;
    return TRUE;
}
