/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A lane whose connection is lost and replaced. The same rules as for the main channel
 * (test-session-resume), on a machine of its own; what arrives in the end is test-cuts. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/session-pair.h"
#include "tls/lane.h"

#define WINDOW (256 * 1024)
#define FEATURES SESSION_FEATURES_ALL

static const guint8 proof[HELLO_PROOF_LEN] = "the proof both ends can compute";

static Lane *lane_of(SessionSide side, guint64 features)
{
    LaneConfig config = {
        .side = side,
        .kind = CHANNEL_PREEMPT,
        .channel = 1,
        .window = WINDOW,
        .features = features,
    };

    memset(config.id, 0x11, sizeof config.id);
    return lane_new(&config);
}

static HelloBody hello_of(gboolean resume, guint64 seq)
{
    HelloBody hello = {
        .version_min = 1,
        .version_max = 1,
        .features = FEATURES,
        .kind = CHANNEL_PREEMPT,
        .channel = 1,
        .window = WINDOW,
        .auth_len = HELLO_PROOF_LEN,
        .resume = resume,
        .resume_seq = seq,
    };

    memset(hello.session, 0x11, sizeof hello.session);
    memcpy(hello.auth, proof, HELLO_PROOF_LEN);
    return hello;
}

/* frame: whole, taken */
static void feed(Lane *lane, GBytes *frame)
{
    g_auto(Frame) in = frame_from(frame);

    lane_on_frame(lane, &in);
}

static void feed_hello_ack(Lane *lane, gboolean resume, guint64 seq)
{
    feed(lane, frame_new_hello_ack(&(HelloAckBody){ 1, FEATURES, WINDOW, resume, seq }));
}

static void feed_ack(Lane *lane, guint64 next_seq, guint64 bytes)
{
    feed(lane, frame_new_ack(&(FrameAck){ next_seq, bytes }));
}

/* What this side may carry goes out, what the other may comes in. */
static void say(Lane *lane, SessionSide side)
{
    lane_send(lane, side == SESSION_SOURCE ? FRAME_PAGES : FRAME_REQUEST,
              g_malloc0(FRAME_HEADER_LEN + 16), 16);
}

static void hear(Lane *lane, SessionSide side, guint64 seq)
{
    static const guint8 zeros[16];

    feed(lane, frame_new(side == SESSION_SOURCE ? FRAME_REQUEST : FRAME_PAGES, seq, zeros, 16));
}

static void expect_state(const Lane *lane, LaneState expected)
{
    if (lane_state(lane) != expected)
        fail_msg("state is %s (%s), expected %s", lane_state_name(lane_state(lane)),
                 lane_reason(lane), lane_state_name(expected));
}

/* The next frame it sends; 0: none. ret_seq: its sequence, or what an answer or HELLO resumes
 * with. */
static FrameType sent(Lane *lane, guint64 *ret_seq)
{
    FrameHeader header;
    const guint8 *bytes;
    gsize len;

    lane_settle(lane);
    len = lane_output(lane, &bytes);
    *ret_seq = G_MAXUINT64;
    if (len == 0)
        return 0;
    assert_true(frame_header_decode(bytes, &header, NULL));
    if (header.type == FRAME_HELLO || header.type == FRAME_HELLO_ACK) {
        g_autoptr(GBytes) body = g_bytes_new(bytes + FRAME_HEADER_LEN, header.body_len);
        HelloAckBody ack = { 0 };
        HelloBody hello = { 0 };

        if (header.type == FRAME_HELLO)
            assert_true(hello_body_decode(body, &hello, NULL));
        else
            assert_true(hello_ack_body_decode(body, &ack, NULL));
        if (hello.resume || ack.resume)
            *ret_seq = hello.resume_seq + ack.resume_seq;
    } else {
        *ret_seq = header.seq;
    }
    lane_output_done(lane, len);
    return header.type;
}

static void expect_sent(Lane *lane, FrameType type, guint64 seq)
{
    guint64 got;
    FrameType type_got = sent(lane, &got);

    if (type_got != type || (type != 0 && got != seq))
        fail_msg("%s with %" G_GUINT64_FORMAT " is sent, expected %s with %" G_GUINT64_FORMAT,
                 frame_type_name(type_got), got, frame_type_name(type), seq);
}

static void expect_nothing(Lane *lane)
{
    expect_sent(lane, 0, 0);
}

static void send_all(Lane *lane)
{
    guint64 seq;

    while (sent(lane, &seq))
        ;
}

static Lane *open_lane(SessionSide side)
{
    Lane *lane = lane_of(side, FEATURES);
    HelloBody hello = hello_of(FALSE, 0);

    if (side == SESSION_SOURCE) {
        assert_true(lane_on_channel_up(lane, proof, NULL));
        feed_hello_ack(lane, FALSE, 0);
    } else {
        assert_true(lane_on_hello(lane, &hello, NULL));
    }
    send_all(lane);
    expect_state(lane, LANE_OPEN);
    return lane;
}

/* Another connection; seq is what the peer expects, expects is what the lane says it does. */
static void resume(Lane *lane, SessionSide side, guint64 seq, guint64 expects)
{
    HelloBody hello = hello_of(TRUE, seq);

    if (side == SESSION_SOURCE) {
        assert_true(lane_on_channel_up(lane, proof, NULL));
        expect_sent(lane, FRAME_HELLO, expects);
        expect_nothing(lane);
        feed_hello_ack(lane, TRUE, seq);
    } else {
        assert_true(lane_judge_hello(lane, &hello, proof, NULL));
        assert_true(lane_on_hello(lane, &hello, NULL));
        expect_sent(lane, FRAME_HELLO_ACK, expects);
    }
}

static void expect_refused(const Lane *lane, const HelloBody *hello, HelloError code,
                           const char *names)
{
    g_autoptr(GError) error = NULL;
    LaneState before = lane_state(lane);

    assert_false(lane_judge_hello(lane, hello, proof, &error));
    if (!g_error_matches(error, HELLO_ERROR, code))
        fail_msg("refused with %s: %s", hello_error_name(error->code), error->message);
    assert_contains(error->message, names);
    expect_state(lane, before);
}

/* ---- open lanes ---- */

static void lost_lane_waits_and_goes_on_where_the_peer_is(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_autoptr(Lane) lane = open_lane(side);
        FrameType type = side == SESSION_SOURCE ? FRAME_PAGES : FRAME_REQUEST;
        SessionStats stats;

        for (int i = 0; i < 4; i++)
            say(lane, side);
        send_all(lane);
        hear(lane, side, 0);
        hear(lane, side, 1);
        lane_consume(lane);
        feed_ack(lane, 1, 16);

        lane_on_channel_lost(lane, "cut");
        expect_state(lane, LANE_OPEN);
        assert_true(lane_is_lost(lane));
        assert_false(lane_ping(lane, 1));
        say(lane, side);
        lane_consume(lane);
        hear(lane, side, 99);
        expect_nothing(lane);

        resume(lane, side, 3, 2);
        assert_false(lane_is_lost(lane));
        expect_sent(lane, FRAME_ACK, 0);
        expect_sent(lane, type, 3);
        expect_sent(lane, type, 4);
        expect_nothing(lane);
        feed_ack(lane, 5, 5 * 16);
        hear(lane, side, 2);
        expect_state(lane, LANE_OPEN);
        lane_get_stats(lane, &stats);
        assert_true(stats.resumes == 1 && stats.bytes_sent_again == 16);
        assert_true(stats.bytes_sent == 5 * 16 && stats.bytes_received == 3 * 16);
    }
}

static void half_open_lane_is_replaced(void **state)
{
    g_autoptr(Lane) lane = open_lane(SESSION_DESTINATION);

    say(lane, SESSION_DESTINATION);
    send_all(lane);
    assert_true(lane_ping(lane, 1));
    resume(lane, SESSION_DESTINATION, 0, 0);
    expect_sent(lane, FRAME_ACK, 0);
    expect_sent(lane, FRAME_REQUEST, 0);
    expect_nothing(lane);
    assert_true(lane_ping(lane, 2));
}

static void lane_ping_is_answered_once(void **state)
{
    g_autoptr(Lane) lane = open_lane(SESSION_SOURCE);
    g_autoptr(Lane) early = lane_of(SESSION_SOURCE, FEATURES);

    assert_false(lane_ping(early, 1));
    lane_on_channel_up(early, proof, NULL);
    assert_false(lane_ping(early, 1));

    assert_true(lane_ping(lane, 5));
    assert_false(lane_ping(lane, 6));
    expect_sent(lane, FRAME_PING, 0);
    feed(lane, frame_new_ping(FRAME_PONG, 5));
    assert_true(lane_ping(lane, 6));
    feed(lane, frame_new_ping(FRAME_PONG, 5));
    expect_state(lane, LANE_FAILED);
    assert_contains(lane_reason(lane), "answers no PING");
}

static void lane_that_is_given_up_fails(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_autoptr(Lane) lane = open_lane(side);
        HelloBody hello = hello_of(TRUE, 0);

        lane_on_channel_lost(lane, "cut");
        lane_on_channel_gone(lane, "nobody came back");
        expect_state(lane, LANE_FAILED);
        assert_string_equal(lane_reason(lane), "nobody came back");
        assert_false(lane_is_lost(lane));
        expect_nothing(lane);
        if (side == SESSION_DESTINATION)
            expect_refused(lane, &hello, HELLO_ERROR_SESSION, "nobody came back");
    }
}

static void lane_without_the_feature_fails_at_once(void **state)
{
    g_autoptr(Lane) lane = lane_of(SESSION_SOURCE, SESSION_FEATURE_RAM);
    g_autoptr(Lane) destination = lane_of(SESSION_DESTINATION, SESSION_FEATURE_RAM);
    HelloBody hello = hello_of(FALSE, 0);

    lane_on_channel_lost(lane, "no route to host");
    expect_state(lane, LANE_FAILED);
    lane_on_hello(destination, &hello, NULL);
    expect_refused(destination, &hello, HELLO_ERROR_TOKEN_USED, "has its preempt channel");
    hello = hello_of(TRUE, 0);
    expect_refused(destination, &hello, HELLO_ERROR_PROTOCOL, "not agreed on");
    lane_on_channel_lost(destination, "cut");
    expect_state(destination, LANE_FAILED);
}

/* ---- the first connection ---- */

static void lane_that_was_not_answered_dials_anew(void **state)
{
    g_autoptr(Lane) lane = lane_of(SESSION_SOURCE, FEATURES);
    SessionStats stats;

    lane_on_channel_lost(lane, "reset");
    expect_state(lane, LANE_NONE);
    for (int i = 0; i < 3; i++) {
        assert_true(lane_is_lost(lane));
        assert_true(lane_on_channel_up(lane, proof, NULL));
        expect_state(lane, LANE_HELLO_SENT);
        assert_true(lane_is_lost(lane));
        expect_sent(lane, FRAME_HELLO, G_MAXUINT64);
        if (i < 2)
            lane_on_channel_lost(lane, "cut");
    }
    feed_hello_ack(lane, FALSE, 0);
    expect_state(lane, LANE_OPEN);
    assert_false(lane_is_lost(lane));
    lane_get_stats(lane, &stats);
    assert_true(stats.resumes == 1);
}

static void first_hello_may_come_again_while_the_source_is_silent(void **state)
{
    g_autoptr(Lane) lane = open_lane(SESSION_DESTINATION);
    HelloBody hello = hello_of(FALSE, 0);

    say(lane, SESSION_DESTINATION);
    send_all(lane);
    assert_true(lane_judge_hello(lane, &hello, proof, NULL));
    assert_true(lane_on_hello(lane, &hello, NULL));
    expect_sent(lane, FRAME_HELLO_ACK, G_MAXUINT64);
    expect_sent(lane, FRAME_REQUEST, 0);
    hello.window = FRAME_PAGES_MAX;
    expect_refused(lane, &hello, HELLO_ERROR_PROTOCOL, "not what was agreed on");
    hello = hello_of(FALSE, 0);
    feed_ack(lane, 0, 0);
    expect_refused(lane, &hello, HELLO_ERROR_TOKEN_USED, "has its preempt channel");
    assert_false(lane_on_hello(lane, &hello, NULL));
    hello = hello_of(TRUE, 0);
    assert_true(lane_judge_hello(lane, &hello, proof, NULL));
}

static void resuming_hello_that_is_wrong_is_refused(void **state)
{
    g_autoptr(Lane) lane = open_lane(SESSION_DESTINATION);
    g_autoptr(Lane) unopened = lane_of(SESSION_DESTINATION, FEATURES);
    HelloBody hello = hello_of(TRUE, 0);

    expect_refused(unopened, &hello, HELLO_ERROR_PROTOCOL, "not agreed on");
    say(lane, SESSION_DESTINATION);
    send_all(lane);
    say(lane, SESSION_DESTINATION);
    lane_on_channel_lost(lane, "cut");
    hello.auth[7] ^= 1;
    expect_refused(lane, &hello, HELLO_ERROR_TOKEN, "wrong proof");
    hello = hello_of(TRUE, 2);
    expect_refused(lane, &hello, HELLO_ERROR_PROTOCOL, "resume sequence is 2, expected 0 to 1");
    assert_false(lane_on_hello(lane, &hello, NULL));
    hello = hello_of(TRUE, 0);
    hello.window = FRAME_PAGES_MAX;
    expect_refused(lane, &hello, HELLO_ERROR_PROTOCOL, "not what was agreed on");
    assert_true(lane_is_lost(lane));
}

static void answer_that_is_wrong_fails_the_source(void **state)
{
    static const struct {
        HelloAckBody ack;
        const char *names;
    } rows[] = {
        { { 1, FEATURES, WINDOW, FALSE, 0 }, "HELLO_ACK does not resume" },
        { { 1, FEATURES, WINDOW, TRUE, 1 }, "resume sequence is 1, expected 0 to 0" },
        { { 1, FEATURES, FRAME_PAGES_MAX, TRUE, 0 }, "not what was agreed on" },
        { { 1, SESSION_FEATURE_RAM, WINDOW, TRUE, 0 }, "features 0x1 are not those" },
    };
    g_autoptr(Lane) hasty = open_lane(SESSION_SOURCE);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Lane) lane = open_lane(SESSION_SOURCE);

        lane_on_channel_lost(lane, "cut");
        lane_on_channel_up(lane, proof, NULL);
        feed(lane, frame_new_hello_ack(&rows[i].ack));
        expect_state(lane, LANE_FAILED);
        assert_contains(lane_reason(lane), rows[i].names);
    }

    lane_on_channel_lost(hasty, "cut");
    lane_on_channel_up(hasty, proof, NULL);
    assert_false(lane_on_channel_up(hasty, proof, NULL));
    hear(hasty, SESSION_SOURCE, 0);
    expect_state(hasty, LANE_FAILED);
    assert_contains(lane_reason(hasty), "REQUEST comes before the answer to HELLO");
}

/* ---- the end ---- */

static void ended_lane_that_is_lost_is_through(void **state)
{
    g_autoptr(Lane) ended = open_lane(SESSION_SOURCE);
    g_autoptr(Lane) lost = open_lane(SESSION_SOURCE);
    g_autoptr(Lane) unopened = lane_of(SESSION_SOURCE, FEATURES);

    lane_finish(ended);
    assert_false(lane_is_through(ended));
    lane_on_channel_lost(ended, "cut");
    expect_state(ended, LANE_ENDED);
    assert_true(lane_is_through(ended));
    assert_false(lane_is_lost(ended));

    lane_on_channel_lost(lost, "cut");
    lane_finish(lost);
    expect_state(lost, LANE_ENDED);
    assert_true(lane_is_through(lost));
    assert_false(lane_is_lost(lost));
    expect_nothing(lost);

    lane_on_channel_lost(unopened, "cut");
    lane_finish(unopened);
    expect_state(unopened, LANE_NONE);
    assert_false(lane_is_lost(unopened));
}

static void lane_ended_before_its_second_dial_is_answered_says_bye_after_it(void **state)
{
    g_autoptr(Lane) lane = lane_of(SESSION_SOURCE, FEATURES);

    lane_on_channel_lost(lane, "cut");
    lane_on_channel_up(lane, proof, NULL);
    lane_finish(lane);
    expect_sent(lane, FRAME_HELLO, G_MAXUINT64);
    expect_nothing(lane);
    feed_hello_ack(lane, FALSE, 0);
    expect_sent(lane, FRAME_BYE, 0);
    feed(lane, frame_new(FRAME_BYE, 0, NULL, 0));
    assert_true(lane_is_through(lane));
}

/* The news of the end comes on the main channel, which may be slower. */
static void peer_that_has_not_heard_of_the_end_is_told(void **state)
{
    g_autoptr(Lane) lane = open_lane(SESSION_DESTINATION);
    g_autoptr(Lane) source = open_lane(SESSION_SOURCE);

    lane_on_channel_lost(lane, "cut");
    lane_finish(lane);
    assert_true(lane_is_through(lane));
    resume(lane, SESSION_DESTINATION, 0, 0);
    assert_false(lane_is_through(lane));
    expect_sent(lane, FRAME_BYE, 0);
    expect_nothing(lane);
    feed(lane, frame_new(FRAME_BYE, 0, NULL, 0));
    assert_true(lane_is_through(lane));

    lane_on_channel_lost(source, "cut");
    resume(source, SESSION_SOURCE, 0, 0);
    feed(source, frame_new(FRAME_BYE, 0, NULL, 0));
    expect_state(source, LANE_ENDED);
    expect_sent(source, FRAME_ACK, 0);
    expect_sent(source, FRAME_BYE, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_lane_waits_and_goes_on_where_the_peer_is),
        cmocka_unit_test(half_open_lane_is_replaced),
        cmocka_unit_test(lane_ping_is_answered_once),
        cmocka_unit_test(lane_that_is_given_up_fails),
        cmocka_unit_test(lane_without_the_feature_fails_at_once),
        cmocka_unit_test(lane_that_was_not_answered_dials_anew),
        cmocka_unit_test(first_hello_may_come_again_while_the_source_is_silent),
        cmocka_unit_test(resuming_hello_that_is_wrong_is_refused),
        cmocka_unit_test(answer_that_is_wrong_fails_the_source),
        cmocka_unit_test(ended_lane_that_is_lost_is_through),
        cmocka_unit_test(lane_ended_before_its_second_dial_is_answered_says_bye_after_it),
        cmocka_unit_test(peer_that_has_not_heard_of_the_end_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
