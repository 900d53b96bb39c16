/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the rows of the session's table do, one small step each. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "tls/session_priv.h"

/* Frames this big go out in the buffer QEMU was read into; smaller ones are copied, so that
 * keeping them until they are acknowledged does not keep a mostly empty buffer each. */
#define COPY_BELOW (FRAME_DATA_MAX / 2)

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
    if (frame && frame_type_is_sequenced(((const guint8 *)g_bytes_get_data(frame, NULL))[4]))
        outbox_put_sequenced(&s->out, frame, 0);
    else if (frame)
        outbox_put(&s->out.opening, frame);
    s->actions |= SESSION_DO_CLOSE_QEMU | SESSION_DO_FINISH_CHANNEL;
}

gboolean act_nothing(Session *s, const SessionInput *in, GError **error)
{
    return TRUE;
}

/* ---- handshake ---- */

gboolean act_send_hello(Session *s, const SessionInput *in, GError **error)
{
    g_auto(HelloBody) hello = {
        .version_min = HELLO_VERSION,
        .version_max = HELLO_VERSION,
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
    s->send_window = MIN(s->config.window, in->hello->window);
    s->actions |= SESSION_DO_FETCH_QEMU;
    return TRUE;
}

gboolean act_send_hello_ack(Session *s, const SessionInput *in, GError **error)
{
    HelloAckBody ack = { .version = HELLO_VERSION, .window = s->config.window };

    outbox_put(&s->out.opening, frame_new_hello_ack(&ack));
    return TRUE;
}

gboolean act_take_hello_ack(Session *s, const SessionInput *in, GError **error)
{
    HelloAckBody ack;

    if (!hello_ack_body_decode(in->frame->body, &ack, error))
        return FALSE;
    if (ack.version != HELLO_VERSION) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("HELLO_ACK version %u was not offered"), ack.version);
        return FALSE;
    }
    if (ack.features != 0) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("HELLO_ACK features 0x%" G_GINT64_MODIFIER "x were not offered"),
                    ack.features);
        return FALSE;
    }
    s->send_window = MIN(s->config.window, ack.window);
    return TRUE;
}

gboolean act_refuse_qemu(Session *s, const SessionInput *in, GError **error)
{
    end_with(s, g_strdup(in->reason), frame_new_error(HELLO_ERROR_QEMU, in->reason));
    return TRUE;
}

/* ---- QEMU's end ---- */

gboolean act_send_data(Session *s, const SessionInput *in, GError **error)
{
    FrameHeader header = { FRAME_DATA, s->out.next_seq, in->len };
    gsize size = FRAME_HEADER_LEN + in->len;
    GBytes *frame;

    frame_header_encode(&header, s->space);
    if (in->len < COPY_BELOW)
        frame = g_bytes_new(s->space, size);
    else
        frame = g_bytes_new_take(g_steal_pointer(&s->space), size);
    outbox_put_sequenced(&s->out, frame, in->len);
    s->stats.bytes_from_qemu += in->len;
    s->stats.in_flight_high = MAX(s->stats.in_flight_high, s->out.held_bytes);
    return TRUE;
}

gboolean act_send_eof(Session *s, const SessionInput *in, GError **error)
{
    outbox_put_sequenced(&s->out, frame_new(FRAME_EOF, s->out.next_seq, NULL, 0), 0);
    return TRUE;
}

gboolean act_send_reset(Session *s, const SessionInput *in, GError **error)
{
    char *reason = g_strdup_printf(_("the connection to QEMU broke: %s"), in->reason);
    GBytes *frame;

    if (s->out.opening) {
        /* HELLO_ACK is not out yet: the peer has no stream that could be reset. */
        frame = frame_new_error(HELLO_ERROR_QEMU, reason);
    } else {
        /* What was not sent yet gives way, or the news would come after all of it. */
        outbox_drop_unsent(&s->out);
        frame = frame_new(FRAME_RESET, s->out.next_seq, NULL, 0);
    }
    end_with(s, reason, frame);
    return TRUE;
}

static void shut_qemu_if_due(Session *s)
{
    if (inbox_take_eof(&s->in))
        s->actions |= SESSION_DO_SHUT_QEMU;
}

gboolean act_written(Session *s, const SessionInput *in, GError **error)
{
    s->stats.bytes_to_qemu += in->len;
    inbox_written(&s->in, in->len);
    shut_qemu_if_due(s);
    return TRUE;
}

/* ---- frames ---- */

gboolean act_take_data(Session *s, const SessionInput *in, GError **error)
{
    return inbox_take(&s->in, in->frame, error);
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
    FrameAck ack;

    return frame_ack_decode(in->frame->body, &ack, error) &&
           outbox_acknowledge(&s->out, &ack, error);
}

gboolean act_answer_ping(Session *s, const SessionInput *in, GError **error)
{
    guint64 cookie;

    if (!frame_ping_decode(in->frame->body, &cookie, error))
        return FALSE;
    outbox_put(&s->out.pong, frame_new_ping(FRAME_PONG, cookie));
    return TRUE;
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
    FrameAck ack = inbox_take_ack(&s->in);

    outbox_put(&s->out.ack, frame_new_ack(&ack));
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
