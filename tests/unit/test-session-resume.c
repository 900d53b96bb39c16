/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session whose connection is lost and replaced: what goes on meanwhile, and who may take its
 * place with which HELLO. What is sent again is test-session-again. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/lone-session.h"
#include "tests/support/session-pair.h"

/* ---- what goes on while there is none ---- */

static void lost_session_goes_on_within_its_window(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_autoptr(Session) s = lone_active(side);

        lone_say(s, 1000);
        lone_send_all(s);
        lone_feed_data(s, 0);
        session_on_channel_lost(s, "cut");
        lone_expect_state(s, SESSION_ACTIVE);
        assert_true(session_is_lost(s));
        assert_int_equal(session_take_actions(s), SESSION_DO_REJOIN);
        assert_string_equal(session_reason(s), "");
        assert_int_equal(session_ended_by(s), SESSION_ENDED_BY_NOBODY);

        /* What came is handed on, what QEMU says is taken, until the window is full. */
        assert_non_null(session_received(s, &(FrameType){ 0 }));
        session_consume(s);
        while (session_send_room(s) >= FRAME_DATA_MAX)
            lone_say(s, FRAME_DATA_MAX);
        lone_say(s, session_send_room(s));
        assert_true(session_sent_bytes(s) == LONE_WINDOW);
        assert_int_equal(session_send_room(s), 0);
        lone_expect_nothing(s);
        assert_false(session_ping(s, 1));
    }
}

static void frames_of_a_lost_connection_mean_nothing(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_SOURCE);

    session_on_channel_lost(s, "cut");
    lone_feed_data(s, 77);
    lone_feed_ack(s, 99, 99);
    lone_feed(s, frame_new(FRAME_RESET, 0, NULL, 0));
    lone_feed(s, frame_new_error(HELLO_ERROR_INTERNAL, "late"));
    lone_expect_state(s, SESSION_ACTIVE);
    assert_null(session_received(s, &(FrameType){ 0 }));
}

static void what_broke_inside_fails_a_lost_session(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);
    g_autoptr(GError) error =
        g_error_new_literal(FRAME_ERROR_DOMAIN, FRAME_ERROR_BODY, "PAGES has no block 7");

    session_on_channel_lost(s, "cut");
    session_on_bad_frame(s, error);
    lone_expect_state(s, SESSION_FAILED);
    assert_contains(session_reason(s), "PAGES has no block 7");
    assert_false(session_is_lost(s));
    lone_expect_nothing(s);
}

static void lost_session_that_is_given_up_fails(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_autoptr(Session) s = lone_active(side);

        session_on_channel_lost(s, "cut");
        session_on_channel_gone(s, "nobody came back");
        lone_expect_state(s, SESSION_FAILED);
        assert_string_equal(session_reason(s), "nobody came back");
        assert_int_equal(session_ended_by(s), SESSION_ENDED_BY_CHANNEL);
        assert_false(session_is_lost(s));
        assert_int_equal(session_take_actions(s), SESSION_DO_REPORT | SESSION_DO_CLOSE_QEMU |
                                                      SESSION_DO_CLOSE_CHANNEL);
        /* A channel of a failed session is not missed. */
        session_on_channel_lost(s, "cut");
        assert_int_equal(session_take_actions(s), SESSION_DO_CLOSE_CHANNEL);
    }
}

static void each_vain_dial_asks_for_another(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_SOURCE);

    for (int i = 0; i < 3; i++) {
        session_on_channel_lost(s, "no route to host");
        assert_int_equal(session_take_actions(s), SESSION_DO_REJOIN);
        /* In turn: TLS does not come up, HELLO is not answered. */
        if (i & 1)
            assert_true(session_on_channel_up(s, lone_proof, NULL));
    }
    assert_true(session_on_channel_up(s, lone_proof, NULL));
    assert_true(session_is_lost(s));
    lone_feed_hello_ack(s, TRUE, 0);
    assert_false(session_is_lost(s));
    assert_int_equal(session_take_actions(s), SESSION_DO_REJOINED);
}

static void connection_that_is_there_is_not_replaced_by_the_source(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_SOURCE);
    g_autoptr(GError) error = NULL;

    assert_true(session_wants_proof(s));
    assert_false(session_on_channel_up(s, lone_proof, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_STATE));
    lone_expect_state(s, SESSION_ACTIVE);
    lone_expect_nothing(s);
    session_on_channel_lost(s, "cut");
    assert_true(session_on_channel_up(s, lone_proof, NULL));
    g_clear_error(&error);
    assert_false(session_on_channel_up(s, lone_proof, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_STATE));
}

/* ---- HELLO and its answer ---- */

static void source_resumes_by_proof_and_says_what_it_expects(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_SOURCE);
    g_auto(Frame) frame = { 0 };
    HelloBody hello;

    lone_feed_data(s, 0);
    lone_feed_data(s, 1);
    lone_consume_all(s);
    lone_say(s, 100);
    session_on_channel_lost(s, "cut");
    assert_true(session_on_channel_up(s, lone_proof, NULL));
    frame = lone_sent(s);
    assert_int_equal(frame.header.type, FRAME_HELLO);
    assert_true(hello_body_decode(frame.body, &hello, NULL));
    assert_true(hello.resume && hello.resume_seq == 2);
    assert_true(hello_auth_equal(&hello, lone_proof));
    assert_true(hello.features == LONE_FEATURES && hello.window == LONE_WINDOW);
    assert_int_equal(hello.kind, CHANNEL_MAIN);
    /* Nothing follows before the answer. */
    lone_say(s, 100);
    lone_expect_nothing(s);
    assert_false(session_ping(s, 1));
    lone_feed_hello_ack(s, TRUE, 0);
    lone_expect_sent(s, FRAME_ACK);
    lone_expect_sent_seq(s, FRAME_DATA, 0);
    lone_expect_sent_seq(s, FRAME_DATA, 1);
    lone_expect_nothing(s);
}

static void destination_answers_what_it_expects_and_acknowledges(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);
    HelloBody hello = lone_resume_hello(0);
    g_auto(Frame) answer = { 0 };
    g_auto(Frame) ack = { 0 };
    HelloAckBody body;
    FrameAck acked;

    lone_feed_data(s, 0);
    lone_feed_data(s, 1);
    lone_feed_data(s, 2);
    session_consume(s);
    session_on_channel_lost(s, "cut");
    assert_true(session_judge_hello(s, &hello, lone_proof, NULL));
    assert_true(session_on_hello(s, &hello, NULL));
    assert_false(session_is_lost(s));
    assert_int_equal(session_take_actions(s), SESSION_DO_REJOINED);
    answer = lone_sent(s);
    assert_int_equal(answer.header.type, FRAME_HELLO_ACK);
    assert_true(hello_ack_body_decode(answer.body, &body, NULL));
    assert_true(body.resume && body.resume_seq == 3);
    assert_true(body.features == LONE_FEATURES && body.window == LONE_WINDOW);
    ack = lone_sent(s);
    assert_int_equal(ack.header.type, FRAME_ACK);
    assert_true(frame_ack_decode(ack.body, &acked, NULL));
    assert_true(acked.next_seq == 1 && acked.bytes == 1);
    lone_expect_nothing(s);
    lone_feed_data(s, 3);
    lone_expect_state(s, SESSION_ACTIVE);
}

static void half_open_connection_is_replaced(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);
    const guint8 *bytes;

    lone_say(s, 1000);
    lone_say(s, 500);
    /* Half a frame is on the way when the source comes back over another connection. */
    assert_true(session_output(s, &bytes) > 500);
    session_output_done(s, 500);
    assert_true(session_unsent_bytes(s) == 500);
    assert_true(session_ping(s, 7));
    lone_resume(s, 0);
    assert_int_equal(session_take_actions(s), SESSION_DO_REJOINED);
    assert_true(session_unsent_bytes(s) == 1500);
    lone_expect_sent(s, FRAME_ACK);
    lone_expect_sent_seq(s, FRAME_DATA, 0);
    lone_expect_sent_seq(s, FRAME_DATA, 1);
    /* The PING was lost with it. */
    lone_expect_nothing(s);
    assert_true(session_ping(s, 8));
}

static void resuming_hello_that_is_wrong_is_refused(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);
    HelloBody hello;

    lone_say(s, 10);
    lone_send_all(s);
    lone_say(s, 10);
    session_on_channel_lost(s, "cut");

    hello = lone_resume_hello(0);
    hello.auth[31] ^= 1;
    lone_expect_refused(s, &hello, HELLO_ERROR_TOKEN, "wrong proof");
    assert_false(session_judge_hello(s, &hello, NULL, NULL));
    hello = lone_resume_hello(0);
    assert_false(session_judge_hello(s, &hello, NULL, NULL));
    /* The token is no proof. */
    memset(hello.auth, 0x22, HELLO_TOKEN_LEN);
    lone_expect_refused(s, &hello, HELLO_ERROR_TOKEN, "wrong proof");
    /* What was not sent cannot have been received. */
    hello = lone_resume_hello(2);
    lone_expect_refused(s, &hello, HELLO_ERROR_PROTOCOL, "resume sequence is 2, expected 0 to 1");
    hello = lone_resume_hello(G_MAXUINT64);
    lone_expect_refused(s, &hello, HELLO_ERROR_PROTOCOL, "resume sequence");
    hello = lone_resume_hello(0);
    hello.window--;
    lone_expect_refused(s, &hello, HELLO_ERROR_PROTOCOL, "not what was agreed on");
    hello = lone_resume_hello(0);
    hello.features = SESSION_FEATURE_RESUME;
    lone_expect_refused(s, &hello, HELLO_ERROR_PROTOCOL, "not what was agreed on");
    hello = lone_resume_hello(0);
    hello.session[0] ^= 1;
    lone_expect_refused(s, &hello, HELLO_ERROR_SESSION, "session");

    assert_true(session_is_lost(s));
    lone_expect_nothing(s);
    lone_resume(s, 1);
    /* What was acknowledged is gone. */
    lone_feed_ack(s, 1, 10);
    session_on_channel_lost(s, "cut");
    hello = lone_resume_hello(0);
    lone_expect_refused(s, &hello, HELLO_ERROR_PROTOCOL, "resume sequence is 0, expected 1 to 1");
}

static void judged_ill_and_yet_taken_changes_nothing(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);
    HelloBody hello = lone_resume_hello(5);

    session_on_channel_lost(s, "cut");
    assert_false(session_on_hello(s, &hello, NULL));
    lone_expect_state(s, SESSION_ACTIVE);
    assert_true(session_is_lost(s));
}

static void answer_that_is_wrong_fails_the_source(void **state)
{
    static const struct {
        HelloAckBody ack;
        const char *names;
    } rows[] = {
        { { 1, LONE_FEATURES, LONE_WINDOW, FALSE, 0 }, "HELLO_ACK does not resume" },
        { { 1, LONE_FEATURES, LONE_WINDOW, TRUE, 2 }, "resume sequence is 2, expected 0 to 1" },
        { { 1, LONE_FEATURES, LONE_WINDOW / 2, TRUE, 0 },
          " and window 131072 is not what was agreed on" },
        { { 1, 4, LONE_WINDOW, TRUE, 0 }, "HELLO_ACK with features 0x4" },
        { { 1, LONE_FEATURES | 1 << 30, LONE_WINDOW, TRUE, 0 },
          "features 0x40000000 were not offered" },
        { { 2, LONE_FEATURES, LONE_WINDOW, TRUE, 0 }, "HELLO_ACK version 2" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Session) s = lone_active(SESSION_SOURCE);

        lone_say(s, 10);
        lone_send_all(s);
        session_on_channel_lost(s, "cut");
        session_on_channel_up(s, lone_proof, NULL);
        lone_send_all(s);
        lone_feed(s, frame_new_hello_ack(&rows[i].ack));
        lone_expect_state(s, SESSION_FAILED);
        assert_contains(session_reason(s), rows[i].names);
        lone_expect_sent(s, FRAME_ERROR);
        lone_expect_nothing(s);
    }
}

static void nothing_may_come_before_the_answer(void **state)
{
    static const guint8 zeros[16];
    static const struct {
        FrameType type;
        gsize len;
    } rows[] = {
        { FRAME_HELLO, 1 }, { FRAME_DATA, 1 }, { FRAME_EOF, 0 },  { FRAME_RESET, 0 },
        { FRAME_ACK, 16 },  { FRAME_PING, 8 }, { FRAME_PONG, 8 }, { FRAME_BYE, 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Session) s = lone_active(SESSION_SOURCE);

        session_on_channel_lost(s, "cut");
        session_on_channel_up(s, lone_proof, NULL);
        lone_feed(s, frame_new(rows[i].type, 0, zeros, rows[i].len));
        lone_expect_state(s, SESSION_FAILED);
        assert_contains(session_reason(s), frame_type_name(rows[i].type));
        assert_contains(session_reason(s), "comes before the answer to HELLO");
        /* The peer has to hear HELLO to hear this. */
        lone_expect_sent(s, FRAME_HELLO);
        lone_expect_sent(s, FRAME_ERROR);
    }
}

static void refusal_ends_the_source(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_SOURCE);
    g_autoptr(Session) cancelled = lone_active(SESSION_SOURCE);

    session_on_channel_lost(s, "cut");
    session_on_channel_up(s, lone_proof, NULL);
    lone_send_all(s);
    lone_feed(s, frame_new_error(HELLO_ERROR_SESSION, "the session has ended: QEMU went away"));
    lone_expect_state(s, SESSION_FAILED);
    assert_string_equal(session_reason(s),
                        "the destination refused: the session has ended: QEMU went away");
    assert_int_equal(session_ended_by(s), SESSION_ENDED_BY_PEER);

    session_on_channel_lost(cancelled, "cut");
    session_on_channel_up(cancelled, lone_proof, NULL);
    lone_feed(cancelled, frame_new_error(HELLO_ERROR_CANCELLED, "enough"));
    lone_expect_state(cancelled, SESSION_CANCELLED);
}

/* ---- the first connection ---- */

static void source_that_was_not_answered_dials_again_with_the_token(void **state)
{
    g_autoptr(Session) s = lone_new(SESSION_SOURCE, LONE_WINDOW, LONE_FEATURES);

    /* The first dial may fail before HELLO is out. */
    session_on_channel_lost(s, "reset");
    lone_expect_state(s, SESSION_SETUP);
    for (int i = 0; i < 3; i++) {
        g_auto(Frame) frame = { 0 };
        HelloBody hello;

        assert_true(session_is_lost(s));
        assert_int_equal(session_take_actions(s) & SESSION_DO_REJOIN, SESSION_DO_REJOIN);
        assert_false(session_wants_proof(s));
        assert_true(session_on_channel_up(s, NULL, NULL));
        lone_expect_state(s, SESSION_HELLO_SENT);
        frame = lone_sent(s);
        assert_true(hello_body_decode(frame.body, &hello, NULL));
        assert_false(hello.resume);
        assert_int_equal(hello.auth[0], 0x22);
        if (i < 2)
            session_on_channel_lost(s, "cut");
    }
    lone_feed_hello_ack(s, FALSE, 0);
    lone_expect_state(s, SESSION_AWAIT_QEMU);
    assert_false(session_is_lost(s));
    assert_true(session_wants_proof(s));
    assert_int_equal(session_take_actions(s), SESSION_DO_REJOINED);
    /* That it has its answer is said at once: the token is worth nothing from there on. */
    lone_expect_sent(s, FRAME_ACK);
    lone_expect_nothing(s);
}

static void source_without_the_feature_fails_at_once(void **state)
{
    g_autoptr(Session) s = lone_new(SESSION_SOURCE, LONE_WINDOW, SESSION_FEATURE_RAM);
    g_autoptr(Session) refused = lone_new(SESSION_SOURCE, LONE_WINDOW, LONE_FEATURES);

    session_on_channel_up(s, NULL, NULL);
    session_on_channel_lost(s, "cut");
    lone_expect_state(s, SESSION_FAILED);
    assert_string_equal(session_reason(s), "cut");

    /* Offered, and not agreed on. */
    session_on_channel_up(refused, NULL, NULL);
    lone_feed(refused, frame_new_hello_ack(&(HelloAckBody){ 1, 3, LONE_WINDOW, FALSE, 0 }));
    lone_expect_sent(refused, FRAME_HELLO);
    lone_expect_nothing(refused);
    session_on_channel_lost(refused, "cut");
    lone_expect_state(refused, SESSION_FAILED);
}

static void token_is_good_until_the_source_has_its_answer(void **state)
{
    g_autoptr(Session) s = lone_new(SESSION_DESTINATION, LONE_WINDOW, LONE_FEATURES);
    HelloBody hello = lone_token_hello(), resuming = lone_resume_hello(0);

    lone_expect_refused(s, &resuming, HELLO_ERROR_PROTOCOL, "not agreed on");
    session_take_actions(s);
    assert_true(session_on_hello(s, &hello, NULL));
    assert_int_equal(session_take_actions(s), SESSION_DO_FETCH_QEMU);
    lone_expect_refused(s, &resuming, HELLO_ERROR_PROTOCOL, "not agreed on");

    /* While QEMU is being connected to; once more is not asked for it. */
    session_on_channel_lost(s, "cut");
    assert_true(session_is_lost(s));
    assert_true(session_judge_hello(s, &hello, NULL, NULL));
    assert_true(session_on_hello(s, &hello, NULL));
    assert_int_equal(session_take_actions(s), SESSION_DO_REJOINED);
    lone_expect_nothing(s);

    /* HELLO_ACK and what follows it were lost. */
    session_on_qemu_attached(s, NULL);
    lone_say(s, 100);
    session_on_qemu_eof(s, NULL);
    lone_expect_state(s, SESSION_LOCAL_ENDED);
    lone_send_all(s);
    assert_true(session_on_hello(s, &hello, NULL));
    lone_expect_sent(s, FRAME_HELLO_ACK);
    lone_expect_sent_seq(s, FRAME_DATA, 0);
    lone_expect_sent_seq(s, FRAME_EOF, 1);

    lone_feed_ack(s, 0, 0);
    lone_expect_refused(s, &hello, HELLO_ERROR_TOKEN_USED, "token already used");
    assert_false(session_on_hello(s, &hello, NULL));
    assert_true(session_judge_hello(s, &resuming, lone_proof, NULL));
}

static void qemu_may_come_while_the_source_is_away(void **state)
{
    g_autoptr(Session) s = lone_new(SESSION_DESTINATION, LONE_WINDOW, LONE_FEATURES);
    HelloBody hello = lone_token_hello();

    session_on_hello(s, &hello, NULL);
    session_on_channel_lost(s, "cut");
    assert_true(session_on_qemu_attached(s, NULL));
    lone_expect_state(s, SESSION_ACTIVE);
    lone_expect_nothing(s);
    assert_true(session_on_hello(s, &hello, NULL));
    lone_expect_sent(s, FRAME_HELLO_ACK);
    lone_expect_nothing(s);
}

static void hello_with_the_token_must_repeat_its_offer(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);
    g_autoptr(Session) plain = lone_new(SESSION_DESTINATION, LONE_WINDOW, SESSION_FEATURE_RAM);
    HelloBody hello = lone_token_hello();

    hello.features &= ~SESSION_FEATURE_RAM;
    lone_expect_refused(s, &hello, HELLO_ERROR_PROTOCOL, "not what was agreed on");
    hello = lone_token_hello();
    hello.window = FRAME_PAGES_MAX;
    lone_expect_refused(s, &hello, HELLO_ERROR_PROTOCOL, "not what was agreed on");
    hello = lone_token_hello();
    hello.auth[3] ^= 1;
    lone_expect_refused(s, &hello, HELLO_ERROR_TOKEN, "wrong token");

    /* Without the feature a token is good once. */
    hello = lone_token_hello();
    session_on_hello(plain, &hello, NULL);
    lone_expect_refused(plain, &hello, HELLO_ERROR_TOKEN_USED, "token already used");
    hello = lone_resume_hello(0);
    lone_expect_refused(plain, &hello, HELLO_ERROR_PROTOCOL, "not agreed on");
}

static void source_waits_for_its_qemu_over_any_number_of_connections(void **state)
{
    g_autoptr(Session) s = lone_new(SESSION_SOURCE, LONE_WINDOW, LONE_FEATURES);
    guint64 cookie;

    session_on_channel_up(s, NULL, NULL);
    lone_feed_hello_ack(s, FALSE, 0);
    lone_send_all(s);
    lone_feed_data(s, 0);
    for (guint64 i = 0; i < 3; i++) {
        lone_lose_and_resume(s, 0);
        lone_expect_state(s, SESSION_AWAIT_QEMU);
        lone_feed_ack(s, 0, 0);
        assert_true(session_ping(s, i));
        lone_feed(s, frame_new_ping(FRAME_PONG, i));
        assert_true(session_take_pong(s, &cookie));
        assert_true(cookie == i);
    }
    lone_feed_data(s, 1);
    session_on_qemu_attached(s, NULL);
    assert_non_null(session_received(s, &(FrameType){ 0 }));
    lone_feed_ack(s, 1, 0);
    lone_expect_state(s, SESSION_FAILED);
}

/* A session without RAM in it, with the smallest window. */
static void passthrough_resumes_as_well(void **state)
{
    g_auto(SessionPair) pair;
    Session *s, *d;
    HelloBody hello;

    session_pair_init_features(&pair, HELLO_WINDOW_MIN, HELLO_WINDOW_MIN, 1,
                               (PairFeatures){ SESSION_FEATURES_ALL, SESSION_FEATURES_ALL });
    session_pair_activate(&pair);
    session_pair_drain(&pair);
    s = pair.source.session;
    d = pair.destination.session;
    assert_true(session_features(s) ==
                (SESSION_FEATURE_RESUME | SESSION_FEATURE_DISKS));
    assert_true(session_features(d) ==
                (SESSION_FEATURE_RESUME | SESSION_FEATURE_DISKS));
    session_on_channel_lost(s, "cut");
    session_on_channel_lost(d, "cut");
    assert_true(session_on_channel_up(s, lone_proof, NULL));
    {
        g_auto(Frame) frame = lone_sent(s);

        assert_true(hello_body_decode(frame.body, &hello, NULL));
    }
    assert_true(session_judge_hello(d, &hello, lone_proof, NULL));
    assert_true(session_on_hello(d, &hello, NULL));
    pair.source.send_len = 100000;
    session_pair_run(&pair, 10000);
    assert_state(&pair.source, SESSION_COMPLETED);
    assert_state(&pair.destination, SESSION_COMPLETED);
    assert_true(pair.destination.received == 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_session_goes_on_within_its_window),
        cmocka_unit_test(frames_of_a_lost_connection_mean_nothing),
        cmocka_unit_test(what_broke_inside_fails_a_lost_session),
        cmocka_unit_test(lost_session_that_is_given_up_fails),
        cmocka_unit_test(each_vain_dial_asks_for_another),
        cmocka_unit_test(connection_that_is_there_is_not_replaced_by_the_source),
        cmocka_unit_test(source_resumes_by_proof_and_says_what_it_expects),
        cmocka_unit_test(destination_answers_what_it_expects_and_acknowledges),
        cmocka_unit_test(half_open_connection_is_replaced),
        cmocka_unit_test(resuming_hello_that_is_wrong_is_refused),
        cmocka_unit_test(judged_ill_and_yet_taken_changes_nothing),
        cmocka_unit_test(answer_that_is_wrong_fails_the_source),
        cmocka_unit_test(nothing_may_come_before_the_answer),
        cmocka_unit_test(refusal_ends_the_source),
        cmocka_unit_test(source_that_was_not_answered_dials_again_with_the_token),
        cmocka_unit_test(source_without_the_feature_fails_at_once),
        cmocka_unit_test(token_is_good_until_the_source_has_its_answer),
        cmocka_unit_test(qemu_may_come_while_the_source_is_away),
        cmocka_unit_test(hello_with_the_token_must_repeat_its_offer),
        cmocka_unit_test(source_waits_for_its_qemu_over_any_number_of_connections),
        cmocka_unit_test(passthrough_resumes_as_well),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
