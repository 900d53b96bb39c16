/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a session sends again on another connection, and how one ends that was lost. What arrives in
 * the end is test-cuts. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/lone-session.h"
#include "tests/support/session-pair.h"

/* ---- what is sent again ---- */

/* Of the bodies in the next test. */
static guint64 bytes_of(guint64 from, guint64 to)
{
    guint64 bytes = 0;

    for (guint64 i = from; i <= to; i++)
        bytes += 100 + i;
    return bytes;
}

static void frames_are_sent_again_from_where_the_peer_is(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        for (guint64 from = 1; from <= 4; from++) {
            g_autoptr(Session) s = lone_active(side);
            SessionStats stats;

            /* 0 is acknowledged, 1 to 3 were sent, 4 in part, 5 not. */
            for (gsize i = 0; i <= 5; i++)
                lone_say(s, 100 + i);
            for (guint64 i = 0; i <= 3; i++)
                lone_expect_sent_seq(s, FRAME_DATA, i);
            session_output(s, &(const guint8 *){ NULL });
            session_output_done(s, 50);
            lone_feed_ack(s, 1, 100);
            assert_true(session_unsent_bytes(s) == 105);
            session_on_channel_lost(s, "cut");
            assert_true(session_unsent_bytes(s) == bytes_of(4, 5));
            lone_resume(s, from);
            assert_true(session_unsent_bytes(s) == bytes_of(from, 5));
            lone_expect_sent(s, FRAME_ACK);
            for (guint64 i = from; i <= 5; i++) {
                g_auto(Frame) frame = lone_sent(s);

                assert_true(frame.header.seq == i);
                assert_int_equal(frame.header.body_len, 100 + i);
                assert_int_equal(*(const guint8 *)g_bytes_get_data(frame.body, NULL),
                                 (guint8)(i ? bytes_of(0, i - 1) : 0));
            }
            lone_expect_nothing(s);
            session_get_stats(s, &stats);
            assert_true(stats.resumes == 1);
            assert_true(stats.bytes_sent_again == (from < 4 ? bytes_of(from, 3) : 0));
            assert_true(session_sent_bytes(s) == bytes_of(0, 5));
            lone_feed_ack(s, 6, bytes_of(0, 5));
            lone_expect_state(s, SESSION_ACTIVE);
            assert_true(session_acked_bytes(s) == bytes_of(0, 5));
        }
    }
}

/* Received is not handed on: what the peer has stays until it acknowledges it. */
static void what_the_peer_has_received_may_be_acknowledged_later(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_SOURCE);

    for (int i = 0; i < 4; i++)
        lone_say(s, 10);
    lone_send_all(s);
    lone_lose_and_resume(s, 3);
    assert_true(session_send_room(s) == FRAME_PAGES_MAX);
    assert_true(session_acked_bytes(s) == 0);
    lone_feed_ack(s, 3, 30);
    lone_expect_state(s, SESSION_ACTIVE);
    assert_true(session_acked_bytes(s) == 30);
    /* The last one is on its way again only now. */
    lone_feed_ack(s, 4, 40);
    lone_expect_state(s, SESSION_FAILED);
    assert_contains(session_reason(s), "ACK sequence is beyond what was sent: 4, expected 3");
}

/* One that was given up may be read after the one that took its place. */
static void hello_that_comes_late_does_no_harm(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);

    for (int i = 0; i < 4; i++)
        lone_say(s, 10);
    lone_send_all(s);
    lone_resume(s, 4);
    lone_send_all(s);
    lone_resume(s, 2);
    lone_send_all(s);
    lone_resume(s, 2);
    /* The peer has had all four since the first. */
    lone_resume(s, 4);
    lone_expect_sent(s, FRAME_ACK);
    lone_expect_nothing(s);
    lone_feed_ack(s, 4, 40);
    lone_expect_state(s, SESSION_ACTIVE);
}

static void connection_takes_what_is_not_sequenced_with_it(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);

    assert_true(session_ping(s, 1));
    lone_feed(s, frame_new_ping(FRAME_PING, 2));
    lone_feed_data(s, 0);
    lone_consume_all(s);
    session_settle(s);
    lone_lose_and_resume(s, 0);
    lone_expect_sent(s, FRAME_ACK);
    lone_expect_nothing(s);
    /* Its answer would answer nothing now. */
    lone_feed(s, frame_new_ping(FRAME_PONG, 1));
    lone_expect_state(s, SESSION_FAILED);
    assert_contains(session_reason(s), "answers no PING");
}

static void peer_that_resumes_for_ever_costs_nothing(void **state)
{
    g_autoptr(Session) s = lone_active(SESSION_DESTINATION);
    SessionStats stats;
    guint64 seq = 0;

    while (session_send_room(s) >= FRAME_DATA_MAX)
        lone_say(s, FRAME_DATA_MAX);
    lone_send_all(s);
    for (guint i = 0; i < 3000; i++) {
        HelloBody hello = lone_resume_hello(i % 5);

        assert_true(session_on_hello(s, &hello, NULL));
        lone_feed_data(s, seq++);
        lone_feed(s, frame_new_ping(FRAME_PING, i));
        lone_consume_all(s);
        if (i % 10 == 0)
            lone_send_all(s);
        assert_int_equal(session_send_room(s), 0);
    }
    lone_send_all(s);
    lone_expect_state(s, SESSION_ACTIVE);
    session_get_stats(s, &stats);
    assert_true(stats.in_flight_high == LONE_WINDOW);
    assert_true(stats.resumes == 3000);
    lone_feed_ack(s, 4, LONE_WINDOW);
    lone_expect_state(s, SESSION_ACTIVE);
}

/* ---- the end ---- */

static void completed_session_tells_a_peer_that_lost_its_last_words(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_autoptr(Session) s = lone_completed(side);

        lone_send_all(s);
        session_take_actions(s);
        session_on_channel_lost(s, "cut");
        lone_expect_state(s, SESSION_COMPLETED);
        assert_true(session_is_lost(s));
        assert_int_equal(session_take_actions(s), SESSION_DO_REJOIN);
        lone_resume(s, 1);
        assert_int_equal(session_take_actions(s),
                         SESSION_DO_REJOINED | SESSION_DO_FINISH_CHANNEL);
        lone_expect_sent(s, FRAME_ACK);
        lone_expect_sent(s, FRAME_BYE);
        lone_expect_nothing(s);

        lone_feed(s, frame_new(FRAME_BYE, 0, NULL, 0));
        assert_int_equal(session_take_actions(s), SESSION_DO_CLOSE_CHANNEL);
        session_on_channel_lost(s, "closed");
        assert_false(session_is_lost(s));
        assert_int_equal(session_take_actions(s), SESSION_DO_CLOSE_CHANNEL);
        lone_expect_state(s, SESSION_COMPLETED);
    }
}

static void completed_session_waits_in_vain_without_harm(void **state)
{
    g_autoptr(Session) s = lone_completed(SESSION_SOURCE);
    g_autoptr(Session) refused = lone_completed(SESSION_SOURCE);

    session_on_channel_lost(s, "cut");
    session_on_channel_gone(s, "unknown session");
    lone_expect_state(s, SESSION_COMPLETED);
    assert_false(session_is_lost(s));
    assert_string_equal(session_reason(s), "");

    session_on_channel_lost(refused, "cut");
    session_on_channel_up(refused, lone_proof, NULL);
    lone_feed(refused, frame_new_error(HELLO_ERROR_SESSION, "the session has ended"));
    lone_expect_state(refused, SESSION_COMPLETED);
    assert_false(session_is_lost(refused));
}

static void session_may_complete_while_it_is_lost(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_autoptr(Session) s = lone_active(side);

        lone_feed_data(s, 0);
        lone_feed(s, frame_new(FRAME_EOF, 1, NULL, 0));
        session_on_qemu_eof(s, NULL);
        lone_send_all(s);
        lone_feed_ack(s, 1, 0);
        lone_expect_state(s, SESSION_DRAINING);
        session_on_channel_lost(s, "cut");
        session_take_actions(s);
        session_consume(s);
        lone_expect_state(s, SESSION_COMPLETED);
        assert_int_equal(session_take_actions(s),
                         SESSION_DO_REPORT | SESSION_DO_SHUT_QEMU | SESSION_DO_CLOSE_QEMU);
        lone_expect_nothing(s);
        lone_resume(s, 1);
        lone_expect_sent(s, FRAME_ACK);
        lone_expect_sent(s, FRAME_BYE);
        lone_expect_nothing(s);
    }
}

static void cancel_of_a_lost_session_is_told_if_there_is_somebody(void **state)
{
    g_autoptr(Session) lost = lone_active(SESSION_SOURCE);
    g_autoptr(Session) dialled = lone_active(SESSION_SOURCE);
    g_autoptr(Session) again = lone_new(SESSION_SOURCE, LONE_WINDOW, LONE_FEATURES);

    session_on_channel_lost(lost, "cut");
    session_on_cancel(lost, "enough", NULL);
    lone_expect_state(lost, SESSION_CANCELLED);
    assert_false(session_is_lost(lost));
    lone_expect_nothing(lost);
    assert_int_equal(session_take_actions(lost), SESSION_DO_REPORT | SESSION_DO_CLOSE_QEMU |
                                                     SESSION_DO_CLOSE_CHANNEL);
    assert_false(session_wants_proof(lost));
    assert_false(session_on_channel_up(lost, lone_proof, NULL));

    lone_say(dialled, 100);
    session_on_channel_lost(dialled, "cut");
    session_on_channel_up(dialled, lone_proof, NULL);
    session_on_cancel(dialled, "enough", NULL);
    assert_true(session_take_actions(dialled) & SESSION_DO_FINISH_CHANNEL);
    lone_expect_sent(dialled, FRAME_HELLO);
    lone_expect_sent(dialled, FRAME_ERROR);
    lone_expect_nothing(dialled);
    lone_feed_hello_ack(dialled, TRUE, 0);
    lone_expect_state(dialled, SESSION_CANCELLED);
    lone_expect_nothing(dialled);

    session_on_channel_lost(again, "cut");
    session_on_channel_up(again, NULL, NULL);
    session_on_cancel(again, "enough", NULL);
    lone_expect_sent(again, FRAME_HELLO);
    lone_expect_sent(again, FRAME_ERROR);
}

static void who_comes_back_to_an_ended_session_hears_why(void **state)
{
    g_autoptr(Session) cancelled = lone_active(SESSION_DESTINATION);
    g_autoptr(Session) failed = lone_active(SESSION_DESTINATION);
    g_autoptr(Session) early = lone_new(SESSION_DESTINATION, LONE_WINDOW, LONE_FEATURES);
    g_autoptr(Session) over = lone_completed(SESSION_DESTINATION);
    HelloBody hello = lone_resume_hello(0), token = lone_token_hello();

    session_on_channel_lost(cancelled, "cut");
    session_on_cancel(cancelled, "aborted by client", NULL);
    lone_expect_refused(cancelled, &hello, HELLO_ERROR_CANCELLED, "aborted by client");
    assert_false(session_on_hello(cancelled, &hello, NULL));

    session_on_channel_lost(failed, "cut");
    session_on_qemu_broken(failed, "Broken pipe", NULL);
    lone_expect_refused(failed, &hello, HELLO_ERROR_SESSION, "QEMU broke: Broken pipe");
    assert_false(session_on_hello(failed, &hello, NULL));
    hello.auth[0] ^= 1;
    lone_expect_refused(failed, &hello, HELLO_ERROR_TOKEN, "wrong proof");

    session_on_hello(early, &token, NULL);
    session_on_channel_lost(early, "cut");
    session_on_qemu_refused(early, "no such socket", NULL);
    lone_expect_refused(early, &token, HELLO_ERROR_SESSION, "no such socket");

    lone_feed(over, frame_new(FRAME_BYE, 0, NULL, 0));
    hello = lone_resume_hello(1);
    lone_expect_refused(over, &hello, HELLO_ERROR_SESSION, "the session has ended");
}

static void broken_qemu_is_told_as_far_as_the_handshake_is(void **state)
{
    g_autoptr(Session) resumed = lone_active(SESSION_DESTINATION);
    g_autoptr(Session) answered = lone_active(SESSION_DESTINATION);
    g_autoptr(Session) lost = lone_active(SESSION_DESTINATION);
    g_autoptr(Session) dialled = lone_active(SESSION_SOURCE);
    HelloBody hello = lone_resume_hello(0);

    /* HELLO_ACK of the resume is not out: ERROR takes its place. */
    lone_say(resumed, 10);
    lone_send_all(resumed);
    session_on_hello(resumed, &hello, NULL);
    session_on_qemu_broken(resumed, "reset", NULL);
    lone_expect_sent(resumed, FRAME_ERROR);
    lone_expect_nothing(resumed);

    /* It is: the peer expects 1 next, and nothing of what was not sent again. */
    for (int i = 0; i < 3; i++)
        lone_say(answered, 10);
    lone_send_all(answered);
    lone_lose_and_resume(answered, 1);
    session_on_qemu_broken(answered, "reset", NULL);
    lone_expect_sent_seq(answered, FRAME_RESET, 1);
    lone_expect_nothing(answered);

    session_on_channel_lost(lost, "cut");
    session_on_qemu_broken(lost, "reset", NULL);
    lone_expect_nothing(lost);
    assert_true(session_take_actions(lost) & SESSION_DO_CLOSE_CHANNEL);

    session_on_channel_lost(dialled, "cut");
    session_on_channel_up(dialled, lone_proof, NULL);
    session_on_qemu_broken(dialled, "reset", NULL);
    lone_expect_sent(dialled, FRAME_HELLO);
    lone_expect_sent(dialled, FRAME_ERROR);
    lone_expect_nothing(dialled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_sent_again_from_where_the_peer_is),
        cmocka_unit_test(what_the_peer_has_received_may_be_acknowledged_later),
        cmocka_unit_test(hello_that_comes_late_does_no_harm),
        cmocka_unit_test(connection_takes_what_is_not_sequenced_with_it),
        cmocka_unit_test(peer_that_resumes_for_ever_costs_nothing),
        cmocka_unit_test(completed_session_tells_a_peer_that_lost_its_last_words),
        cmocka_unit_test(completed_session_waits_in_vain_without_harm),
        cmocka_unit_test(session_may_complete_while_it_is_lost),
        cmocka_unit_test(cancel_of_a_lost_session_is_told_if_there_is_somebody),
        cmocka_unit_test(who_comes_back_to_an_ended_session_hears_why),
        cmocka_unit_test(broken_qemu_is_told_as_far_as_the_handshake_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
