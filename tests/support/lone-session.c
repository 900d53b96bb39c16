/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/lone-session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/session-pair.h"

const guint8 lone_proof[HELLO_PROOF_LEN] = "the proof both ends can compute";

Session *lone_new(SessionSide side, guint64 window, guint64 features)
{
    SessionConfig config = { .side = side, .window = window, .features = features };
    Session *s;

    memset(config.id, 0x11, sizeof config.id);
    memset(config.token, 0x22, sizeof config.token);
    s = session_new(&config);
    session_start(s, NULL);
    return s;
}

HelloBody lone_token_hello(void)
{
    HelloBody hello = {
        .version_min = 1,
        .version_max = 1,
        .features = LONE_FEATURES,
        .window = LONE_WINDOW,
        .auth_len = HELLO_TOKEN_LEN,
    };

    memset(hello.session, 0x11, sizeof hello.session);
    memset(hello.auth, 0x22, HELLO_TOKEN_LEN);
    return hello;
}

HelloBody lone_resume_hello(guint64 seq)
{
    HelloBody hello = lone_token_hello();

    hello.auth_len = HELLO_PROOF_LEN;
    memcpy(hello.auth, lone_proof, HELLO_PROOF_LEN);
    hello.resume = TRUE;
    hello.resume_seq = seq;
    return hello;
}

void lone_feed(Session *s, GBytes *frame)
{
    g_auto(Frame) in = frame_from(frame);

    session_on_frame(s, &in);
}

void lone_feed_hello_ack(Session *s, gboolean resume, guint64 seq)
{
    HelloAckBody ack = { 1, LONE_FEATURES, LONE_WINDOW, resume, seq };

    lone_feed(s, frame_new_hello_ack(&ack));
}

void lone_feed_ack(Session *s, guint64 next_seq, guint64 bytes)
{
    lone_feed(s, frame_new_ack(&(FrameAck){ next_seq, bytes }));
}

void lone_feed_data(Session *s, guint64 seq)
{
    lone_feed(s, frame_new(FRAME_DATA, seq, "x", 1));
}

void lone_expect_state(const Session *s, SessionState expected)
{
    if (session_state(s) != expected)
        fail_msg("state is %s (%s), expected %s", session_state_name(session_state(s)),
                 session_reason(s), session_state_name(expected));
}

Frame lone_sent(Session *s)
{
    Frame frame = { { 0, 0, 0 }, NULL };
    const guint8 *bytes;
    gsize len;

    session_settle(s);
    len = session_output(s, &bytes);
    if (len == 0)
        return frame;
    assert_true(frame_header_decode(bytes, &frame.header, NULL));
    frame.body = g_bytes_new(bytes + FRAME_HEADER_LEN, frame.header.body_len);
    session_output_done(s, len);
    return frame;
}

void lone_expect_sent(Session *s, FrameType type)
{
    g_auto(Frame) frame = lone_sent(s);

    if (frame.header.type != type)
        fail_msg("%s is sent, expected %s", frame_type_name(frame.header.type),
                 frame_type_name(type));
}

void lone_expect_sent_seq(Session *s, FrameType type, guint64 seq)
{
    g_auto(Frame) frame = lone_sent(s);

    assert_int_equal(frame.header.type, type);
    assert_true(frame.header.seq == seq);
}

void lone_expect_nothing(Session *s)
{
    const guint8 *bytes;

    session_settle(s);
    assert_int_equal(session_output(s, &bytes), 0);
}

void lone_send_all(Session *s)
{
    const guint8 *bytes;
    gsize len;

    session_settle(s);
    while ((len = session_output(s, &bytes)) > 0)
        session_output_done(s, len);
}

void lone_say(Session *s, gsize len)
{
    guint8 *buf = g_malloc(FRAME_HEADER_LEN + len);

    memset(buf + FRAME_HEADER_LEN, (int)session_sent_bytes(s), len);
    session_send(s, FRAME_DATA, buf, len);
}

void lone_consume_all(Session *s)
{
    FrameType type;

    while (session_received(s, &type))
        session_consume(s);
}

Session *lone_active(SessionSide side)
{
    Session *s = lone_new(side, LONE_WINDOW, LONE_FEATURES);
    HelloBody hello = lone_token_hello();

    if (side == SESSION_SOURCE) {
        assert_true(session_on_channel_up(s, NULL, NULL));
        lone_feed_hello_ack(s, FALSE, 0);
    } else {
        assert_true(session_on_hello(s, &hello, NULL));
    }
    assert_true(session_on_qemu_attached(s, NULL));
    lone_send_all(s);
    session_take_actions(s);
    return s;
}

void lone_resume(Session *s, guint64 seq)
{
    HelloBody hello = lone_resume_hello(seq);

    if (session_side(s) == SESSION_SOURCE) {
        assert_true(session_on_channel_up(s, lone_proof, NULL));
        lone_expect_sent(s, FRAME_HELLO);
        lone_feed_hello_ack(s, TRUE, seq);
    } else {
        assert_true(session_judge_hello(s, &hello, lone_proof, NULL));
        assert_true(session_on_hello(s, &hello, NULL));
        lone_expect_sent(s, FRAME_HELLO_ACK);
    }
}

void lone_lose_and_resume(Session *s, guint64 seq)
{
    session_on_channel_lost(s, "cut");
    lone_resume(s, seq);
}

void lone_expect_refused(const Session *s, const HelloBody *hello, HelloError code,
                         const char *names)
{
    g_autoptr(GError) error = NULL;
    SessionState before = session_state(s);

    assert_false(session_judge_hello(s, hello, lone_proof, &error));
    if (!g_error_matches(error, HELLO_ERROR, code))
        fail_msg("refused with %s: %s", hello_error_name(error->code), error->message);
    assert_contains(error->message, names);
    lone_expect_state(s, before);
}

Session *lone_completed(SessionSide side)
{
    Session *s = lone_active(side);

    session_on_qemu_eof(s, NULL);
    lone_send_all(s);
    lone_feed(s, frame_new(FRAME_EOF, 0, NULL, 0));
    lone_feed_ack(s, 1, 0);
    lone_expect_state(s, SESSION_COMPLETED);
    return s;
}
