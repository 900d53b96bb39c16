/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connections of a session's main channel: the first one, and those that take the place of a
 * lost one. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "tls/session_priv.h"

guint64 session_own_features(const Session *s, guint64 peer_window)
{
    /* A full PAGES must fit. */
    if (MIN(s->config.window, peer_window) < FRAME_PAGES_MAX)
        return s->config.features & ~SESSION_FEATURES_OF_RAM;
    return s->config.features;
}

static gboolean state_is_agreed(SessionState state)
{
    return state == SESSION_AWAIT_QEMU || state == SESSION_COMPLETED ||
           session_state_is_active(state);
}

/* Another connection changes nothing in what was agreed on. */
static gboolean check_same(const Session *s, const char *frame, guint64 features, guint64 window,
                           GError **error)
{
    if (features == s->features && MIN(window, s->config.window) == s->out.window)
        return TRUE;
    g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                _("%s with features 0x%" PRIx64 " and window %" PRIu64
                  " is not what was agreed on, 0x%" PRIx64 " and %" PRIu64),
                frame, features, window, s->features, s->out.window);
    return FALSE;
}

/* ---- the source's side ---- */

static void send_hello(Session *s, HelloBody *hello)
{
    hello->version_min = HELLO_VERSION;
    hello->version_max = HELLO_VERSION;
    hello->features = session_own_features(s, HELLO_WINDOW_MAX);
    hello->kind = CHANNEL_MAIN;
    hello->window = s->config.window;
    memcpy(hello->session, s->config.id, sizeof hello->session);
    outbox_hello(&s->out, frame_new_hello(hello));
}

gboolean act_send_hello(Session *s, const SessionInput *in, GError **error)
{
    g_auto(HelloBody) hello = { .auth_len = HELLO_TOKEN_LEN };

    memcpy(hello.auth, s->config.token, HELLO_TOKEN_LEN);
    send_hello(s, &hello);
    return TRUE;
}

gboolean act_send_hello_resume(Session *s, const SessionInput *in, GError **error)
{
    g_auto(HelloBody) hello = {
        .auth_len = HELLO_PROOF_LEN,
        .resume = TRUE,
        .resume_seq = s->in.next_seq,
    };

    memcpy(hello.auth, in->proof, HELLO_PROOF_LEN);
    send_hello(s, &hello);
    return TRUE;
}

/* What comes after the answer to HELLO: a peer that has lost the ACK before may be waiting for it,
 * and one that was not sure that its HELLO_ACK has arrived learns that. */
static void go_on(Session *s)
{
    session_acknowledge(s);
    if (s->state == SESSION_COMPLETED)
        session_say_bye(s);
}

static void note_rejoined(Session *s)
{
    s->actions &= ~SESSION_DO_REJOIN;
    s->actions |= SESSION_DO_REJOINED;
}

/* What one side cannot do without. The names are the protocol's. */
static gboolean check_required(const Session *s, const char *frame, guint64 features,
                               GError **error)
{
    guint64 missing = s->config.required & ~features;
    g_autofree const char **names = session_feature_names(missing);
    g_autofree char *text = g_strjoinv(", ", (char **)names);

    if (!missing)
        return TRUE;
    g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                _("%s without what this side needs: %s"), frame, text);
    return FALSE;
}

static gboolean judge_ack(const Session *s, const Frame *frame, gboolean resume,
                          HelloAckBody *ret_ack, GError **error)
{
    if (!hello_ack_judge(frame->body, session_own_features(s, HELLO_WINDOW_MAX), resume, ret_ack,
                         error))
        return FALSE;
    if (ret_ack->features & ~session_own_features(s, ret_ack->window)) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("HELLO_ACK window %" PRIu64 " is too small for its features, "
                      "which need %d"),
                    ret_ack->window, FRAME_PAGES_MAX);
        return FALSE;
    }
    return TRUE;
}

gboolean act_take_hello_ack(Session *s, const SessionInput *in, GError **error)
{
    HelloAckBody ack;

    if (!judge_ack(s, in->frame, FALSE, &ack, error) ||
        !check_required(s, "HELLO_ACK", ack.features, error))
        return FALSE;
    s->out.window = MIN(s->config.window, ack.window);
    s->features = ack.features;
    if (outbox_join(&s->out))
        note_rejoined(s);
    if (s->features & SESSION_FEATURE_RESUME)
        go_on(s);
    return TRUE;
}

gboolean act_take_resumed(Session *s, const SessionInput *in, GError **error)
{
    HelloAckBody ack;

    if (!judge_ack(s, in->frame, TRUE, &ack, error) ||
        !check_same(s, "HELLO_ACK", ack.features, ack.window, error) ||
        !outbox_check_resume(&s->out, ack.resume_seq, error))
        return FALSE;
    outbox_resume(&s->out, ack.resume_seq);
    note_rejoined(s);
    go_on(s);
    return TRUE;
}

gboolean session_wants_proof(const Session *s)
{
    return s->config.side == SESSION_SOURCE && state_is_agreed(s->state);
}

gboolean session_on_channel_up(Session *s, const guint8 *proof, GError **error)
{
    SessionInput in = { .type = SESSION_EV_CHANNEL_UP, .proof = proof };

    if (session_wants_proof(s) && s->out.joint != JOINT_LOST) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_STATE,
                    _("%s is not possible in state %s: the connection before is not lost"),
                    session_event_name(in.type), session_state_name(s->state));
        return FALSE;
    }
    return session_event(s, &in, error);
}

/* ---- the destination's side ---- */

static void send_hello_ack(Session *s, gboolean resume)
{
    HelloAckBody ack = {
        .version = HELLO_VERSION,
        .features = s->features,
        .window = s->config.window,
        .resume = resume,
        .resume_seq = resume ? s->in.next_seq : 0,
    };

    outbox_put(&s->out.opening, frame_new_hello_ack(&ack));
}

gboolean act_take_hello(Session *s, const SessionInput *in, GError **error)
{
    s->out.window = MIN(s->config.window, in->hello->window);
    s->features = in->hello->features & session_own_features(s, in->hello->window);
    s->actions |= SESSION_DO_FETCH_QEMU;
    return TRUE;
}

gboolean act_send_hello_ack(Session *s, const SessionInput *in, GError **error)
{
    send_hello_ack(s, FALSE);
    return TRUE;
}

/* The source knows of nothing that was sent on the connection before. */
gboolean act_take_hello_again(Session *s, const SessionInput *in, GError **error)
{
    outbox_resume(&s->out, 0);
    if (s->state != SESSION_AWAIT_QEMU)
        send_hello_ack(s, FALSE);
    note_rejoined(s);
    return TRUE;
}

gboolean act_take_hello_resume(Session *s, const SessionInput *in, GError **error)
{
    outbox_resume(&s->out, in->hello->resume_seq);
    s->peer_has_ack = TRUE;
    send_hello_ack(s, TRUE);
    note_rejoined(s);
    go_on(s);
    return TRUE;
}

static gboolean judge_auth(const Session *s, const HelloBody *hello, const guint8 *proof,
                           GError **error)
{
    if (hello->resume) {
        if (proof && hello_auth_equal(hello, proof))
            return TRUE;
        g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN, _("wrong proof"));
        return FALSE;
    }
    if (hello_auth_equal(hello, s->config.token))
        return TRUE;
    g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN, _("wrong token"));
    return FALSE;
}

static gboolean refuse_over(const Session *s, GError **error)
{
    gboolean cancelled = s->state == SESSION_CANCELLED;

    g_set_error(error, HELLO_ERROR, cancelled ? HELLO_ERROR_CANCELLED : HELLO_ERROR_SESSION,
                "%s%s%s", cancelled ? "" : _("the session has ended"),
                cancelled || !*s->reason ? "" : ": ", s->reason);
    return FALSE;
}

static SessionEvent event_of_hello(const Session *s, const HelloBody *hello)
{
    if (hello->resume)
        return SESSION_EV_HELLO_RESUME;
    return s->state == SESSION_SETUP ? SESSION_EV_HELLO : SESSION_EV_HELLO_AGAIN;
}

static gboolean judge_resume_seq(const Session *s, guint64 seq, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (outbox_check_resume(&s->out, seq, &cause))
        return TRUE;
    g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL, "HELLO %s", cause->message);
    return FALSE;
}

/* Whether a HELLO of somebody who may send one has its place here now. */
static gboolean judge_place(const Session *s, const HelloBody *hello, GError **error)
{
    SessionEvent event = event_of_hello(s, hello);

    if (event == SESSION_EV_HELLO)
        return check_required(s, "HELLO", hello->features & session_own_features(s, hello->window),
                              error);
    if (s->state == SESSION_FAILED || s->state == SESSION_CANCELLED || s->is_through)
        return refuse_over(s, error);
    if (!session_find_row(s->config.side, s->state, event) ||
        !(s->features & SESSION_FEATURE_RESUME) ||
        (event == SESSION_EV_HELLO_AGAIN && s->peer_has_ack)) {
        if (hello->resume)
            g_set_error(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL,
                        _("HELLO resumes what was not agreed on"));
        else
            g_set_error(error, HELLO_ERROR, HELLO_ERROR_TOKEN_USED, _("token already used"));
        return FALSE;
    }
    return check_same(s, "HELLO", hello->features & session_own_features(s, hello->window),
                      hello->window, error) &&
           (!hello->resume || judge_resume_seq(s, hello->resume_seq, error));
}

gboolean session_judge_hello(const Session *s, const HelloBody *hello, const guint8 *proof,
                             GError **error)
{
    return hello_judge(hello, s->config.id, CHANNEL_MAIN, 0, error) &&
           judge_auth(s, hello, proof, error) && judge_place(s, hello, error);
}

gboolean session_on_hello(Session *s, const HelloBody *hello, GError **error)
{
    SessionInput in = { .type = event_of_hello(s, hello), .hello = hello };

    if (session_find_row(s->config.side, s->state, in.type) && !judge_place(s, hello, error))
        return FALSE;
    return session_event(s, &in, error);
}

/* ---- the loss ---- */

gboolean act_lose_channel(Session *s, const SessionInput *in, GError **error)
{
    outbox_lose(&s->out);
    s->actions &= ~(SESSION_DO_REJOINED | SESSION_DO_FINISH_CHANNEL);
    s->actions |= SESSION_DO_REJOIN;
    return TRUE;
}

static gboolean can_rejoin(const Session *s)
{
    guint64 features = state_is_agreed(s->state) ? s->features : s->config.features;

    return (features & SESSION_FEATURE_RESUME) && !s->is_through &&
           session_find_row(s->config.side, s->state, SESSION_EV_CHANNEL_LOST);
}

void session_on_channel_lost(Session *s, const char *reason)
{
    SessionInput in = { .type = SESSION_EV_CHANNEL_LOST, .reason = reason };

    if (can_rejoin(s)) {
        session_event(s, &in, NULL);
        return;
    }
    session_on_channel_gone(s, reason);
    s->actions |= SESSION_DO_CLOSE_CHANNEL;
}

void session_on_channel_gone(Session *s, const char *reason)
{
    SessionInput in = { .type = SESSION_EV_CHANNEL_GONE, .reason = reason };

    session_event(s, &in, NULL);
}

gboolean session_is_lost(const Session *s)
{
    return s->out.joint != JOINT_UP && !s->is_through;
}
