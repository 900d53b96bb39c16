/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a session carries, both ends in one process: what goes in at one end comes out at the other,
 * whatever the pieces and delays, within the windows. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/session-pair.h"

#define WINDOW (256 * 1024)
#define ALL G_MAXSIZE

/* ---- the ordinary way ---- */

static void streams_arrive_unchanged_whatever_the_pieces(void **state)
{
    static const gsize most[] = { 1, 17, 1000, 70000, 1000000 };

    for (guint32 seed = 0; seed < 40; seed++) {
        g_auto(SessionPair) pair;
        gsize piece = most[seed % G_N_ELEMENTS(most)];

        session_pair_init(&pair, WINDOW, seed & 1 ? WINDOW : HELLO_WINDOW_MIN, seed);
        session_pair_activate(&pair);
        pair.source.send_len = piece < 1000 ? 20000 : 3000000;
        pair.destination.send_len = seed % 3 ? 5000 : 0;
        session_pair_run(&pair, piece);

        assert_state(&pair.source, SESSION_COMPLETED);
        assert_state(&pair.destination, SESSION_COMPLETED);
        assert_true(pair.destination.received == pair.source.send_len);
        assert_true(pair.source.received == pair.destination.send_len);
        assert_false(pair.source.received_wrong || pair.destination.received_wrong);
        assert_true(pair.source.shut && pair.destination.shut);
        assert_true(pair.source.closed && pair.destination.closed);
        /* Each got the other's BYE, and nothing is left to say. */
        assert_true(pair.source.seen & SESSION_DO_CLOSE_CHANNEL);
        assert_true(pair.destination.seen & SESSION_DO_CLOSE_CHANNEL);
        assert_int_equal(pair_under_way(&pair.source) + pair_under_way(&pair.destination), 0);
        assert_string_equal(session_reason(pair.source.session), "");
    }
}

static void each_direction_ends_alone_in_either_order(void **state)
{
    for (int order = 0; order < 2; order++) {
        g_auto(SessionPair) pair;
        PairEnd *first, *second;

        session_pair_init(&pair, WINDOW, WINDOW, 1);
        session_pair_activate(&pair);
        first = order ? &pair.source : &pair.destination;
        second = order ? &pair.destination : &pair.source;
        second->send_len = 300;

        assert_true(pair_qemu_read(first, ALL));
        assert_state(first, SESSION_LOCAL_ENDED);
        session_pair_drain(&pair);
        assert_state(second, SESSION_PEER_ENDED);
        assert_true(second->shut);
        assert_false(second->closed);

        /* The other direction goes on. */
        assert_true(pair_qemu_read(second, 300));
        session_pair_drain(&pair);
        assert_true(pair_qemu_write(first, ALL));
        assert_int_equal(first->received, 300);
        assert_true(pair_qemu_read(second, 300));
        assert_state(second, SESSION_DRAINING);
        session_pair_drain(&pair);
        assert_state(first, SESSION_COMPLETED);
        assert_state(second, SESSION_COMPLETED);
    }
}

static void eof_waits_for_the_bytes_before_it(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    pair.source.send_len = 1000;
    assert_true(pair_qemu_read(&pair.source, 1000));
    assert_true(pair_qemu_read(&pair.source, 1000));
    session_pair_drain(&pair);
    assert_false(pair.destination.shut);
    assert_true(pair_qemu_write(&pair.destination, 999));
    assert_false(pair.destination.shut);
    assert_true(pair_qemu_write(&pair.destination, 1));
    assert_true(pair.destination.shut);
}

static void is_not_completed_before_the_peer_handed_everything_on(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    pair.source.send_len = 10;
    assert_true(pair_qemu_read(&pair.source, 10));
    assert_true(pair_qemu_read(&pair.source, 10));
    assert_true(pair_qemu_read(&pair.destination, 10));
    session_pair_drain(&pair);
    assert_state(&pair.source, SESSION_DRAINING);
    assert_state(&pair.destination, SESSION_DRAINING);
    assert_true(pair_qemu_write(&pair.destination, 10));
    session_pair_drain(&pair);
    assert_state(&pair.source, SESSION_COMPLETED);
    assert_state(&pair.destination, SESSION_COMPLETED);
}

static const PairFeatures all_features = { SESSION_FEATURES_ALL, SESSION_FEATURES_ALL };

static void carried_frames_come_out_in_order_and_whole(void **state)
{
    static const struct {
        FrameType type;
        gsize len;
    } rows[] = {
        { FRAME_DATA, 1 },      { FRAME_PHASE, 1 },     { FRAME_DATA, FRAME_DATA_MAX },
        { FRAME_BLOCKS, 300 },  { FRAME_PAGES, 40000 }, { FRAME_PAGES, FRAME_PAGES_MAX },
        { FRAME_RAM_END, 16 },  { FRAME_QEMU_CHANNEL, 1 }, { FRAME_DATA, 32768 },
    };
    g_auto(SessionPair) pair;
    Session *to;

    session_pair_begin(&pair, 4 * WINDOW, all_features);
    to = pair.destination.session;
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        guint8 *buf = g_malloc(FRAME_HEADER_LEN + rows[i].len);

        memset(buf + FRAME_HEADER_LEN, i + 1, rows[i].len);
        session_send(pair.source.session, rows[i].type, buf, rows[i].len);
    }
    session_on_qemu_eof(pair.source.session, NULL);
    session_pair_drain(&pair);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        FrameType type;
        GBytes *body = session_received(to, &type);
        const guint8 *bytes;
        gsize size;

        assert_non_null(body);
        assert_int_equal(type, rows[i].type);
        bytes = g_bytes_get_data(body, &size);
        assert_int_equal(size, rows[i].len);
        assert_true(bytes[0] == i + 1 && bytes[size - 1] == i + 1);
        assert_false(session_take_actions(to) & SESSION_DO_SHUT_QEMU);
        session_consume(to);
    }
    /* EOF came to the front: it is the session's own business. */
    assert_true(session_take_actions(to) & SESSION_DO_SHUT_QEMU);
    assert_null(session_received(to, &(FrameType){ 0 }));
}

static void large_bodies_go_out_without_a_copy(void **state)
{
    g_auto(SessionPair) pair;
    guint8 *large = g_malloc(FRAME_HEADER_LEN + FRAME_DATA_MAX / 2);
    guint8 *small = g_malloc(FRAME_HEADER_LEN + FRAME_DATA_MAX / 2 - 1);
    const guint8 *bytes;
    gsize len;

    session_pair_begin(&pair, WINDOW, all_features);
    session_send(pair.source.session, FRAME_DATA, large, FRAME_DATA_MAX / 2);
    len = session_output(pair.source.session, &bytes);
    assert_ptr_equal(bytes, large);
    session_output_done(pair.source.session, len);
    session_send(pair.source.session, FRAME_DATA, small, FRAME_DATA_MAX / 2 - 1);
    assert_true(session_output(pair.source.session, &bytes) > 0);
    assert_ptr_not_equal(bytes, small);
}

static void bytes_are_counted_sent_unsent_and_acknowledged(void **state)
{
    g_auto(SessionPair) pair;
    Session *from;

    session_pair_begin(&pair, WINDOW, all_features);
    from = pair.source.session;
    pair_send_frame(&pair.source, FRAME_DATA, 1000);
    pair_send_frame(&pair.source, FRAME_PAGES, 200);
    pair_send_frame(&pair.source, FRAME_PHASE, 30);
    assert_true(session_sent_bytes(from) == 1230);
    assert_true(session_unsent_bytes(from) == 1230);
    /* One byte is taken, so the frame is on its way. */
    assert_true(pair_send(&pair, &pair.source, 1));
    assert_true(session_unsent_bytes(from) == 230);
    assert_true(pair_send(&pair, &pair.source, ALL));
    assert_true(session_unsent_bytes(from) == 230);
    session_pair_drain(&pair);
    assert_true(session_unsent_bytes(from) == 0);
    assert_true(session_acked_bytes(from) == 0);

    session_consume(pair.destination.session);
    session_consume(pair.destination.session);
    session_consume(pair.destination.session);
    session_pair_drain(&pair);
    assert_true(session_acked_bytes(from) == 1230);
    assert_true(session_sent_bytes(from) == 1230);
    assert_state(&pair.source, SESSION_ACTIVE);
}

static void ended_session_sends_and_gives_nothing(void **state)
{
    g_auto(SessionPair) pair;
    FrameType type;

    session_pair_begin(&pair, WINDOW, all_features);
    pair_send_frame(&pair.source, FRAME_DATA, 10);
    session_pair_drain(&pair);
    pair_send_frame(&pair.source, FRAME_PAGES, 50);
    assert_true(session_unsent_bytes(pair.source.session) == 50);
    session_on_cancel(pair.source.session, "test", NULL);
    assert_true(session_unsent_bytes(pair.source.session) == 0);
    assert_int_equal(session_send_room(pair.source.session), 0);
    pair_send_frame(&pair.source, FRAME_DATA, 10);
    assert_true(session_sent_bytes(pair.source.session) == 60);
    session_pair_drain(&pair);
    assert_null(session_received(pair.destination.session, &type));
    session_consume(pair.destination.session);
    assert_state(&pair.destination, SESSION_CANCELLED);
}

/* ---- flow control and memory ---- */

static void full_window_stops_reading_until_an_ack(void **state)
{
    g_auto(SessionPair) pair;
    SessionStats stats;

    session_pair_init(&pair, WINDOW, HELLO_WINDOW_MIN * 2, 1);
    session_pair_activate(&pair);
    pair.source.send_len = 10 * WINDOW;
    while (pair_qemu_read(&pair.source, ALL))
        ;
    assert_true(pair.source.sent == HELLO_WINDOW_MIN * 2);
    session_pair_drain(&pair);
    assert_int_equal(session_send_room(pair.source.session), 0);
    session_get_stats(pair.source.session, &stats);
    assert_true(stats.in_flight_high == HELLO_WINDOW_MIN * 2);

    /* The destination's QEMU takes something: the source goes on. */
    while (pair_qemu_write(&pair.destination, 4096))
        ;
    session_pair_drain(&pair);
    assert_true(session_send_room(pair.source.session) == FRAME_PAGES_MAX);
    session_get_stats(pair.destination.session, &stats);
    assert_true(stats.held_high == HELLO_WINDOW_MIN * 2);
}

static void tiny_frames_are_bounded_by_number(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, HELLO_WINDOW_MAX, HELLO_WINDOW_MAX, 1);
    session_pair_activate(&pair);
    pair.source.send_len = 100000;
    while (pair_qemu_read(&pair.source, 1))
        ;
    assert_int_equal(pair.source.sent, SESSION_FRAMES_MAX - 1);
    session_pair_run(&pair, 1);
    assert_state(&pair.source, SESSION_COMPLETED);
    assert_true(pair.destination.received == 100000);
}

static void ack_speaks_for_a_batch(void **state)
{
    g_auto(SessionPair) pair;
    SessionStats before, after;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    pair.source.send_len = 1000;
    for (int i = 0; i < 50; i++)
        assert_true(pair_qemu_read(&pair.source, 10));
    session_pair_drain(&pair);
    session_get_stats(pair.destination.session, &before);
    while (pair_qemu_write(&pair.destination, ALL))
        ;
    session_pair_drain(&pair);
    session_get_stats(pair.destination.session, &after);
    assert_int_equal(after.frames_sent - before.frames_sent, 1);
}

static void every_carried_body_counts_in_the_window(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_begin(&pair, FRAME_PAGES_MAX + 300, all_features);
    pair_send_frame(&pair.source, FRAME_PAGES, FRAME_PAGES_MAX);
    assert_int_equal(session_send_room(pair.source.session), 300);
    pair_send_frame(&pair.source, FRAME_BLOCKS, 200);
    pair_send_frame(&pair.source, FRAME_PHASE, 30);
    assert_int_equal(session_send_room(pair.source.session), 70);
    session_pair_drain(&pair);
    session_consume(pair.destination.session);
    session_pair_drain(&pair);
    assert_int_equal(session_send_room(pair.source.session), FRAME_PAGES_MAX);
    session_consume(pair.destination.session);
    session_consume(pair.destination.session);
    session_pair_drain(&pair);
    assert_int_equal(session_send_room(pair.source.session), FRAME_PAGES_MAX);
    assert_state(&pair.source, SESSION_ACTIVE);
}

/* The sender measures the link by them. */
static void acks_come_every_64_kib_however_large_the_window(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_begin(&pair, HELLO_WINDOW_MAX, all_features);
    for (int i = 0; i < 100; i++)
        pair_send_frame(&pair.source, FRAME_PAGES, 32 * 1024);
    session_pair_drain(&pair);
    for (guint64 i = 1; i <= 99; i++) {
        session_consume(pair.destination.session);
        session_pair_drain(&pair);
        assert_true(session_acked_bytes(pair.source.session) == i / 2 * 64 * 1024);
    }
    /* Nothing is left: at once. */
    session_consume(pair.destination.session);
    session_pair_drain(&pair);
    assert_true(session_acked_bytes(pair.source.session) == 100 * 32 * 1024);
}

static void flood_of_pings_costs_one_pong(void **state)
{
    g_auto(SessionPair) pair;
    SessionStats before, after;
    const guint8 *bytes;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    session_get_stats(pair.source.session, &before);
    for (guint64 i = 0; i < 1000; i++) {
        pair_inject(&pair.source, frame_new_ping(FRAME_PING, i));
        while (pair_receive(&pair, &pair.source, ALL))
            ;
    }
    /* It answers the newest. */
    assert_int_equal(session_output(pair.source.session, &bytes), FRAME_HEADER_LEN + 8);
    assert_memory_equal(bytes + FRAME_HEADER_LEN, "\0\0\0\0\0\0\3\xe7", 8);
    pair.source.link_cut = TRUE;
    while (pair_send(&pair, &pair.source, ALL))
        ;
    session_get_stats(pair.source.session, &after);
    assert_int_equal(after.frames_sent - before.frames_sent, 1);
}

static void ping_is_answered_with_its_cookie(void **state)
{
    g_auto(SessionPair) pair;
    guint64 cookie = 0;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    assert_false(session_ping(pair.source.session, 1));
    session_pair_activate(&pair);
    assert_true(session_ping(pair.source.session, 4711));
    assert_false(session_ping(pair.source.session, 4712));
    assert_false(session_take_pong(pair.source.session, &cookie));
    session_pair_drain(&pair);
    assert_true(session_take_pong(pair.source.session, &cookie));
    assert_true(cookie == 4711);
    assert_false(session_take_pong(pair.source.session, &cookie));
    assert_true(session_ping(pair.source.session, 4712));
}

static void acks_and_pongs_overtake_queued_data(void **state)
{
    g_auto(SessionPair) pair;
    const guint8 *bytes;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    pair.source.send_len = WINDOW;
    while (pair_qemu_read(&pair.source, 1000))
        ;
    pair_inject(&pair.source, frame_new_ping(FRAME_PING, 1));
    while (pair_receive(&pair, &pair.source, ALL))
        ;
    session_output(pair.source.session, &bytes);
    assert_int_equal(bytes[4], FRAME_PONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_arrive_unchanged_whatever_the_pieces),
        cmocka_unit_test(each_direction_ends_alone_in_either_order),
        cmocka_unit_test(eof_waits_for_the_bytes_before_it),
        cmocka_unit_test(is_not_completed_before_the_peer_handed_everything_on),
        cmocka_unit_test(carried_frames_come_out_in_order_and_whole),
        cmocka_unit_test(large_bodies_go_out_without_a_copy),
        cmocka_unit_test(bytes_are_counted_sent_unsent_and_acknowledged),
        cmocka_unit_test(ended_session_sends_and_gives_nothing),
        cmocka_unit_test(full_window_stops_reading_until_an_ack),
        cmocka_unit_test(tiny_frames_are_bounded_by_number),
        cmocka_unit_test(ack_speaks_for_a_batch),
        cmocka_unit_test(every_carried_body_counts_in_the_window),
        cmocka_unit_test(acks_come_every_64_kib_however_large_the_window),
        cmocka_unit_test(flood_of_pings_costs_one_pong),
        cmocka_unit_test(ping_is_answered_with_its_cookie),
        cmocka_unit_test(acks_and_pongs_overtake_queued_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
