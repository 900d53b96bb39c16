/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The session's table of transitions, and the functions that feed it. */
#include "config.h"

#include "tls/session.h"

#include <glib/gi18n.h>
#include <string.h>

#include "tls/session_priv.h"

G_DEFINE_QUARK(session-error-quark, session_error)

/* Reading QEMU in pieces smaller than this, only because the window is nearly full, costs more
 * than waiting for the next ACK. */
#define WORTH_READING (FRAME_DATA_MAX / 4)

G_STATIC_ASSERT(WORTH_READING <= HELLO_WINDOW_MIN);

/* ---- the table ---- */

#define IN(state) (1u << SESSION_##state)
#define OUT_OPEN (IN(ACTIVE) | IN(PEER_ENDED))
#define IN_OPEN (IN(ACTIVE) | IN(LOCAL_ENDED))
#define FLOWING (IN(ACTIVE) | IN(LOCAL_ENDED) | IN(PEER_ENDED) | IN(DRAINING))
#define JOINED (IN(HELLO_SENT) | IN(AWAIT_QEMU) | FLOWING)
#define STOPPED (IN(FAILED) | IN(CANCELLED))
#define ENDED (IN(COMPLETED) | STOPPED)

#define SRC (1u << SESSION_SOURCE)
#define DST (1u << SESSION_DESTINATION)
#define BOTH (SRC | DST)

#define SAME SESSION_STATE_MAX

typedef struct {
    guint from; /* states */
    SessionEvent event;
    guint sides;
    SessionState next;
    SessionAct act;
} SessionRow;

static const SessionRow rows[] = {
    /* set-up */
    { IN(NONE), SESSION_EV_START, BOTH, SESSION_SETUP, act_nothing },
    { IN(SETUP), SESSION_EV_CHANNEL_UP, SRC, SESSION_HELLO_SENT, act_send_hello },
    { IN(SETUP), SESSION_EV_HELLO, DST, SESSION_AWAIT_QEMU, act_take_hello },
    { IN(HELLO_SENT), SESSION_EV_FRAME_HELLO_ACK, SRC, SESSION_AWAIT_QEMU, act_take_hello_ack },
    { IN(AWAIT_QEMU), SESSION_EV_QEMU_ATTACHED, SRC, SESSION_ACTIVE, act_nothing },
    { IN(AWAIT_QEMU), SESSION_EV_QEMU_ATTACHED, DST, SESSION_ACTIVE, act_send_hello_ack },
    { IN(AWAIT_QEMU), SESSION_EV_QEMU_REFUSED, BOTH, SESSION_FAILED, act_refuse_qemu },

    /* from QEMU to the channel */
    { OUT_OPEN, SESSION_EV_QEMU_DATA, BOTH, SAME, act_send_data },
    { IN(ACTIVE), SESSION_EV_QEMU_EOF, BOTH, SESSION_LOCAL_ENDED, act_send_eof },
    { IN(PEER_ENDED), SESSION_EV_QEMU_EOF, BOTH, SESSION_DRAINING, act_send_eof },
    { FLOWING, SESSION_EV_FRAME_ACK, BOTH, SAME, act_take_ack },

    /* from the channel to QEMU; the source's QEMU may come later than the first bytes for it */
    { IN_OPEN, SESSION_EV_FRAME_DATA, BOTH, SAME, act_take_data },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_DATA, SRC, SAME, act_take_data },
    { IN(ACTIVE), SESSION_EV_FRAME_EOF, BOTH, SESSION_PEER_ENDED, act_take_eof },
    { IN(LOCAL_ENDED), SESSION_EV_FRAME_EOF, BOTH, SESSION_DRAINING, act_take_eof },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_EOF, SRC, SESSION_FAILED, act_take_early_end },
    { FLOWING, SESSION_EV_QEMU_WRITTEN, BOTH, SAME, act_written },

    { IN(DRAINING), SESSION_EV_DRAINED, BOTH, SESSION_COMPLETED, act_complete },
    { IN(COMPLETED), SESSION_EV_FRAME_BYE, BOTH, SAME, act_close_channel },

    /* asking whether the peer is there */
    { FLOWING, SESSION_EV_FRAME_PING, BOTH, SAME, act_answer_ping },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_PING, SRC, SAME, act_answer_ping },
    { FLOWING, SESSION_EV_FRAME_PONG, BOTH, SAME, act_take_pong },

    /* ends before the end */
    { FLOWING, SESSION_EV_QEMU_BROKEN, BOTH, SESSION_FAILED, act_send_reset },
    { FLOWING, SESSION_EV_FRAME_RESET, BOTH, SESSION_FAILED, act_take_reset },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_RESET, SRC, SESSION_FAILED, act_take_reset },
    { JOINED, SESSION_EV_FRAME_ERROR, BOTH, SESSION_FAILED, act_take_error },
    { JOINED, SESSION_EV_FRAME_CANCELLED, BOTH, SESSION_CANCELLED, act_take_error },
    { JOINED, SESSION_EV_BAD_FRAME, BOTH, SESSION_FAILED, act_refuse_frame },
    { JOINED, SESSION_EV_CHANNEL_LOST, BOTH, SESSION_FAILED, act_lose_channel },
    { IN(SETUP), SESSION_EV_CHANNEL_LOST, SRC, SESSION_FAILED, act_lose_channel },
    { IN(NONE) | IN(SETUP) | JOINED, SESSION_EV_CANCEL, BOTH, SESSION_CANCELLED, act_cancel },

    /* after the end: what still comes was under way and means nothing now */
    { ENDED, SESSION_EV_CANCEL, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_CHANNEL_LOST, BOTH, SAME, act_close_channel },
    { ENDED, SESSION_EV_BAD_FRAME, BOTH, SAME, act_close_channel },
    { ENDED, SESSION_EV_FRAME_ERROR, BOTH, SAME, act_close_channel },
    { ENDED, SESSION_EV_FRAME_CANCELLED, BOTH, SAME, act_close_channel },
    { STOPPED, SESSION_EV_FRAME_BYE, BOTH, SAME, act_close_channel },
    { ENDED, SESSION_EV_FRAME_HELLO_ACK, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_DATA, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_EOF, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_RESET, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_ACK, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_PING, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_PONG, BOTH, SAME, act_nothing },
};

static const SessionRow *find_row(SessionSide side, SessionState state, SessionEvent event)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].event == event && (rows[i].from & (1u << state)) &&
            (rows[i].sides & (1u << side)))
            return &rows[i];
    }
    return NULL;
}

gboolean session_has_row(SessionSide side, SessionState state, SessionEvent event,
                         SessionState *ret_next)
{
    const SessionRow *row = find_row(side, state, event);

    if (!row)
        return FALSE;
    *ret_next = row->next == SAME ? state : row->next;
    return TRUE;
}

/* ---- transitions ---- */

static gboolean session_event(Session *s, const SessionInput *in, GError **error);

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
    g_autofree char *text = NULL;

    if (in->type < SESSION_EV_FRAME_HELLO) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    _("%s is not possible in state %s%s%s"), session_event_name(in->type),
                    session_state_name(s->state), *session_reason(s) ? ": " : "",
                    session_reason(s));
        return FALSE;
    }
    text = g_strdup_printf(_("%s is not expected in state %s"), session_event_name(in->type),
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
        [SESSION_EV_CHANNEL_LOST] = SESSION_ENDED_BY_CHANNEL,
        [SESSION_EV_BAD_FRAME] = SESSION_ENDED_BY_CHANNEL,
        [SESSION_EV_CANCEL] = SESSION_ENDED_BY_CANCEL,
    };

    if (s->ended_by == SESSION_ENDED_BY_NOBODY)
        s->ended_by = by[event];
}

/* The one place where the state changes. */
static gboolean session_event(Session *s, const SessionInput *in, GError **error)
{
    const SessionRow *row = find_row(s->config.side, s->state, in->type);
    g_autoptr(GError) cause = NULL;

    if (!row)
        return refuse_event(s, in, error);
    if (!row->act(s, in, &cause)) {
        session_break(s, cause->message);
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    note_end(s, in->type);
    if (row->next != SAME)
        session_enter(s, row->next);
    session_complete_if_drained(s);
    return TRUE;
}

/* ---- life ---- */

Session *session_new(const SessionConfig *config)
{
    Session *s = g_new0(Session, 1);

    g_assert(config->window >= HELLO_WINDOW_MIN && config->window <= HELLO_WINDOW_MAX);
    s->config = *config;
    s->send_window = config->window;
    s->reason = g_strdup("");
    outbox_init(&s->out);
    inbox_init(&s->in, config->window);
    return s;
}

void session_free(Session *s)
{
    if (!s)
        return;
    outbox_clear(&s->out);
    inbox_clear(&s->in);
    g_free(s->space);
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
    if (session_state_is_active(s->state) && inbox_ack_is_due(&s->in))
        session_acknowledge(s);
}

gboolean session_on_channel_up(Session *s, GError **error)
{
    SessionInput in = { .type = SESSION_EV_CHANNEL_UP };

    return session_event(s, &in, error);
}

gboolean session_judge_hello(const Session *s, const HelloBody *hello, GError **error)
{
    if (hello->version_min > HELLO_VERSION || hello->version_max < HELLO_VERSION) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_VERSION,
                    _("protocol versions %u to %u are not spoken here, only %d"),
                    hello->version_min, hello->version_max, HELLO_VERSION);
        return FALSE;
    }
    if (memcmp(hello->session, s->config.id, HELLO_SESSION_LEN) != 0) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_SESSION, _("unknown session id"));
        return FALSE;
    }
    if (hello->kind != CHANNEL_MAIN) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_KIND,
                    _("channel kind %u (%s) is not offered"), hello->kind,
                    channel_kind_name(hello->kind));
        return FALSE;
    }
    if (hello->channel != 0) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_KIND,
                    _("channel number %u is not offered, the main channel is 0"), hello->channel);
        return FALSE;
    }
    if (!hello_auth_equal(hello, s->config.token)) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN, _("wrong token"));
        return FALSE;
    }
    if (s->state != SESSION_SETUP) {
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN_USED, _("token already used"));
        return FALSE;
    }
    return TRUE;
}

gboolean session_on_hello(Session *s, const HelloBody *hello, GError **error)
{
    SessionInput in = { .type = SESSION_EV_HELLO, .hello = hello };

    return session_event(s, &in, error);
}

static SessionEvent event_of_frame(const Frame *frame)
{
    static const SessionEvent event_of_type[FRAME_TYPE_MAX] = {
        [FRAME_HELLO] = SESSION_EV_FRAME_HELLO, [FRAME_HELLO_ACK] = SESSION_EV_FRAME_HELLO_ACK,
        [FRAME_ERROR] = SESSION_EV_FRAME_ERROR, [FRAME_DATA] = SESSION_EV_FRAME_DATA,
        [FRAME_EOF] = SESSION_EV_FRAME_EOF,     [FRAME_RESET] = SESSION_EV_FRAME_RESET,
        [FRAME_ACK] = SESSION_EV_FRAME_ACK,     [FRAME_PING] = SESSION_EV_FRAME_PING,
        [FRAME_PONG] = SESSION_EV_FRAME_PONG,   [FRAME_BYE] = SESSION_EV_FRAME_BYE,
    };
    g_auto(ErrorBody) body = { 0 };

    if (frame->header.type == FRAME_ERROR && error_body_decode(frame->body, &body, NULL) &&
        body.code == HELLO_ERROR_CANCELLED)
        return SESSION_EV_FRAME_CANCELLED;
    return event_of_type[frame->header.type];
}

void session_on_frame(Session *s, const Frame *frame)
{
    SessionInput in = { .type = event_of_frame(frame), .frame = frame };

    s->stats.frames_received++;
    session_event(s, &in, NULL);
}

void session_on_bad_frame(Session *s, const GError *cause)
{
    session_break(s, cause->message);
}

void session_on_channel_lost(Session *s, const char *reason)
{
    SessionInput in = { .type = SESSION_EV_CHANNEL_LOST, .reason = reason };

    session_event(s, &in, NULL);
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

static gsize window_room(const Session *s)
{
    return s->send_window - MIN(s->send_window, s->out.held_bytes);
}

gboolean session_wants_qemu(const Session *s)
{
    return (OUT_OPEN & (1u << s->state)) && window_room(s) >= WORTH_READING &&
           /* One place stays free for the EOF or RESET that ends the direction. */
           s->out.frames.length < SESSION_FRAMES_MAX - 1;
}

gsize session_qemu_space(Session *s, guint8 **ret_space)
{
    if (!s->space)
        s->space = g_malloc(FRAME_HEADER_LEN + FRAME_DATA_MAX);
    *ret_space = s->space + FRAME_HEADER_LEN;
    return MIN(FRAME_DATA_MAX, window_room(s));
}

gboolean session_on_qemu_data(Session *s, gsize len, GError **error)
{
    SessionInput in = { .type = SESSION_EV_QEMU_DATA, .len = len };

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

gsize session_qemu_output(const Session *s, const guint8 **ret_bytes)
{
    return session_state_is_active(s->state) ? inbox_output(&s->in, ret_bytes) : 0;
}

gboolean session_on_qemu_written(Session *s, gsize len, GError **error)
{
    SessionInput in = { .type = SESSION_EV_QEMU_WRITTEN, .len = len };

    return session_event(s, &in, error);
}

/* ---- PING ---- */

gboolean session_ping(Session *s, guint64 cookie)
{
    if (!session_state_is_active(s->state) || s->ping_is_out)
        return FALSE;
    outbox_put(&s->out.ping, frame_new_ping(FRAME_PING, cookie));
    s->ping_is_out = TRUE;
    s->ping_cookie = cookie;
    return TRUE;
}

gboolean session_take_pong(Session *s, guint64 *ret_cookie)
{
    if (!s->pong_is_in)
        return FALSE;
    s->pong_is_in = FALSE;
    *ret_cookie = s->ping_cookie;
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
    *ret_stats = s->stats;
    ret_stats->frames_sent = s->out.frames_sent;
    ret_stats->held_high = s->in.held_high;
}

gboolean session_state_is_end(SessionState state)
{
    return (ENDED & (1u << state)) != 0;
}

gboolean session_state_is_active(SessionState state)
{
    return (FLOWING & (1u << state)) != 0;
}
