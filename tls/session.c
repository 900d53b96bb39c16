/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The session's transitions, and the functions that make them happen. */
#include "config.h"

#include "tls/session.h"

#include <glib/gi18n.h>
#include <string.h>

#include "tls/session_priv.h"

G_DEFINE_QUARK(session-error-quark, session_error)

/* ---- transitions ---- */

static void session_enter(Session *s, SessionState next)
{
    gboolean visible = strcmp(session_state_status(s->state), session_state_status(next)) != 0;

    s->state = next;
    if (visible)
        s->actions |= SESSION_DO_REPORT;
}

static void session_break(Session *s, const char *reason)
{
    SessionInput in = { .type = SESSION_EV_BAD_FRAME, .reason = reason };

    session_event(s, &in, NULL);
}

static void session_complete_if_drained(Session *s)
{
    SessionInput in = { .type = SESSION_EV_DRAINED };

    if (s->state == SESSION_DRAINING && inbox_is_empty(&s->in) && s->out.frames.length == 0)
        session_event(s, &in, NULL);
}

static gboolean refuse_event(Session *s, const SessionInput *in, GError **error)
{
    const char *name = session_event_name(in->type);
    g_autofree char *text = NULL;

    if (in->type < SESSION_EV_FRAME_HELLO) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    _("%s is not possible in state %s%s%s"), name,
                    session_state_name(s->state), *s->reason ? ": " : "", s->reason);
        return FALSE;
    }
    if (in->type == SESSION_EV_FRAME_CARRIED)
        name = frame_type_name(in->frame->header.type);
    text = g_strdup_printf(_("%s is not expected in state %s"), name,
                           session_state_name(s->state));
    session_break(s, text);
    g_set_error_literal(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL, text);
    return FALSE;
}

/* The first end that is told of is the cause of all that follow. */
static void note_end(Session *s, SessionEvent event)
{
    static const SessionEndedBy by[SESSION_EVENT_MAX] = {
        [SESSION_EV_QEMU_REFUSED] = SESSION_ENDED_BY_QEMU,
        [SESSION_EV_QEMU_EOF] = SESSION_ENDED_BY_QEMU,
        [SESSION_EV_QEMU_BROKEN] = SESSION_ENDED_BY_QEMU,
        [SESSION_EV_FRAME_EOF] = SESSION_ENDED_BY_PEER,
        [SESSION_EV_FRAME_RESET] = SESSION_ENDED_BY_PEER,
        [SESSION_EV_FRAME_ERROR] = SESSION_ENDED_BY_PEER,
        [SESSION_EV_FRAME_CANCELLED] = SESSION_ENDED_BY_PEER,
        [SESSION_EV_CHANNEL_GONE] = SESSION_ENDED_BY_CHANNEL,
        [SESSION_EV_BAD_FRAME] = SESSION_ENDED_BY_CHANNEL,
        [SESSION_EV_CANCEL] = SESSION_ENDED_BY_CANCEL,
    };

    if (s->ended_by == SESSION_ENDED_BY_NOBODY)
        s->ended_by = by[event];
}

/* The one place where the state changes. */
gboolean session_event(Session *s, const SessionInput *in, GError **error)
{
    const SessionRow *row = session_find_row(s->config.side, s->state, in->type);
    g_autoptr(GError) cause = NULL;

    if (!row)
        return refuse_event(s, in, error);
    if (!row->act(s, in, &cause)) {
        session_break(s, cause->message);
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    note_end(s, in->type);
    if (row->next != SESSION_SAME_STATE)
        session_enter(s, row->next);
    session_complete_if_drained(s);
    return TRUE;
}

/* ---- life ---- */

Session *session_new(const SessionConfig *config)
{
    Session *s = g_new0(Session, 1);

    g_assert(config->window >= HELLO_WINDOW_MIN && config->window <= HELLO_WINDOW_MAX);
    g_assert((config->features & ~SESSION_FEATURES_ALL) == 0);
    s->config = *config;
    s->reason = g_strdup("");
    outbox_init(&s->out, config->window);
    inbox_init(&s->in, config->window);
    return s;
}

void session_free(Session *s)
{
    if (!s)
        return;
    outbox_clear(&s->out);
    inbox_clear(&s->in);
    g_free(s->reason);
    explicit_bzero(s->config.token, sizeof s->config.token);
    g_free(s);
}

gboolean session_start(Session *s, GError **error)
{
    SessionInput in = { .type = SESSION_EV_START };

    return session_event(s, &in, error);
}

gboolean session_on_cancel(Session *s, const char *reason, GError **error)
{
    SessionInput in = { .type = SESSION_EV_CANCEL, .reason = reason };

    return session_event(s, &in, error);
}

SessionActions session_take_actions(Session *s)
{
    SessionActions actions = s->actions;

    s->actions = 0;
    return actions;
}

/* ---- the channel ---- */

gsize session_output(Session *s, const guint8 **ret_bytes)
{
    return outbox_output(&s->out, ret_bytes);
}

void session_output_done(Session *s, gsize len)
{
    outbox_output_done(&s->out, len);
}

void session_settle(Session *s)
{
    if (session_state_is_active(s->state) && s->out.joint == JOINT_UP &&
        inbox_ack_is_due(&s->in))
        session_acknowledge(s);
}

/* Source: a HELLO that resumes is not answered. */
static gboolean session_is_resuming(const Session *s)
{
    return s->out.joint == JOINT_HELLO_SENT && s->state != SESSION_HELLO_SENT;
}

static SessionEvent event_of_frame(const Session *s, const Frame *frame)
{
    static const SessionEvent event_of_type[FRAME_TYPE_MAX] = {
        [FRAME_HELLO] = SESSION_EV_FRAME_HELLO, [FRAME_HELLO_ACK] = SESSION_EV_FRAME_HELLO_ACK,
        [FRAME_ERROR] = SESSION_EV_FRAME_ERROR, [FRAME_EOF] = SESSION_EV_FRAME_EOF,
        [FRAME_RESET] = SESSION_EV_FRAME_RESET, [FRAME_ACK] = SESSION_EV_FRAME_ACK,
        [FRAME_PING] = SESSION_EV_FRAME_PING,   [FRAME_PONG] = SESSION_EV_FRAME_PONG,
        [FRAME_BYE] = SESSION_EV_FRAME_BYE,
    };
    g_auto(ErrorBody) body = { 0 };

    if (frame->header.type == FRAME_ERROR && error_body_decode(frame->body, &body, NULL) &&
        body.code == HELLO_ERROR_CANCELLED)
        return SESSION_EV_FRAME_CANCELLED;
    if (frame->header.type == FRAME_HELLO_ACK && session_is_resuming(s))
        return SESSION_EV_FRAME_RESUMED;
    if (event_of_type[frame->header.type] == 0)
        return SESSION_EV_FRAME_CARRIED;
    return event_of_type[frame->header.type];
}

static gboolean answers_hello(SessionEvent event)
{
    return event == SESSION_EV_FRAME_RESUMED || event == SESSION_EV_FRAME_ERROR ||
           event == SESSION_EV_FRAME_CANCELLED;
}

static void refuse_before_answer(Session *s, const Frame *frame)
{
    g_autofree char *text = g_strdup_printf(_("%s comes before the answer to HELLO"),
                                            frame_type_name(frame->header.type));

    session_break(s, text);
}

void session_on_frame(Session *s, const Frame *frame)
{
    SessionInput in = { .frame = frame };

    if (s->out.joint == JOINT_LOST)
        return;
    s->frames_received++;
    s->peer_has_ack = TRUE;
    in.type = event_of_frame(s, frame);
    if (session_is_resuming(s) && !answers_hello(in.type))
        refuse_before_answer(s, frame);
    else
        session_event(s, &in, NULL);
}

void session_on_bad_frame(Session *s, const GError *cause)
{
    session_break(s, cause->message);
}

/* ---- QEMU's end ---- */

gboolean session_on_qemu_attached(Session *s, GError **error)
{
    SessionInput in = { .type = SESSION_EV_QEMU_ATTACHED };

    return session_event(s, &in, error);
}

gboolean session_on_qemu_refused(Session *s, const char *reason, GError **error)
{
    SessionInput in = { .type = SESSION_EV_QEMU_REFUSED, .reason = reason };

    return session_event(s, &in, error);
}

gboolean session_on_qemu_eof(Session *s, GError **error)
{
    SessionInput in = { .type = SESSION_EV_QEMU_EOF };

    return session_event(s, &in, error);
}

gboolean session_on_qemu_broken(Session *s, const char *reason, GError **error)
{
    SessionInput in = { .type = SESSION_EV_QEMU_BROKEN, .reason = reason };

    return session_event(s, &in, error);
}

/* ---- PING ---- */

gboolean session_ping(Session *s, guint64 cookie)
{
    gboolean is_open = session_state_is_active(s->state) ||
                       (s->state == SESSION_AWAIT_QEMU && s->config.side == SESSION_SOURCE);

    return is_open && s->out.joint == JOINT_UP && outbox_ping(&s->out, cookie);
}

gboolean session_take_pong(Session *s, guint64 *ret_cookie)
{
    if (!s->pong_is_in)
        return FALSE;
    s->pong_is_in = FALSE;
    *ret_cookie = s->out.ping_cookie;
    return TRUE;
}

/* ---- asking ---- */

SessionState session_state(const Session *s)
{
    return s->state;
}

SessionSide session_side(const Session *s)
{
    return s->config.side;
}

SessionEndedBy session_ended_by(const Session *s)
{
    return s->ended_by;
}

const char *session_reason(const Session *s)
{
    return s->reason;
}

void session_get_stats(const Session *s, SessionStats *ret_stats)
{
    *ret_stats = (SessionStats){
        .bytes_sent = s->out.put_bytes,
        .bytes_received = s->in.received_bytes,
        .frames_sent = s->out.frames_sent,
        .frames_received = s->frames_received,
        .in_flight_high = s->out.held_high,
        .held_high = s->in.held_high,
        .resumes = s->out.resumes,
        .bytes_sent_again = s->out.again_bytes,
    };
}
