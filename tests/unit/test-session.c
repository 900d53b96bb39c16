/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The session machine, both ends in one process: what goes in at one end comes out at the
 * other, whatever the pieces and delays; whatever breaks has the outcome it should. */
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

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text, part);
}

static void assert_state(const PairEnd *end, SessionState expected)
{
    SessionState state = session_state(end->session);

    if (state != expected)
        fail_msg("state is %s (%s), expected %s", session_state_name(state),
                 session_reason(end->session), session_state_name(expected));
}

static void drain_links(SessionPair *pair)
{
    while (pair_send(pair, &pair->source, ALL) || pair_send(pair, &pair->destination, ALL) ||
           pair_receive(pair, &pair->source, ALL) || pair_receive(pair, &pair->destination, ALL))
        ;
}

/* ---- the ordinary way ---- */

static void handshake_goes_through_its_states(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    assert_string_equal(session_state_status(session_state(pair.source.session)), "setup");
    assert_true(session_on_channel_up(pair.source.session, NULL));
    assert_state(&pair.source, SESSION_HELLO_SENT);
    drain_links(&pair);
    assert_state(&pair.destination, SESSION_AWAIT_QEMU);
    assert_true(pair.destination.seen & SESSION_DO_FETCH_QEMU);
    /* No answer before QEMU is there. */
    assert_state(&pair.source, SESSION_HELLO_SENT);

    assert_true(session_on_qemu_attached(pair.destination.session, NULL));
    assert_state(&pair.destination, SESSION_ACTIVE);
    drain_links(&pair);
    assert_state(&pair.source, SESSION_AWAIT_QEMU);
    assert_string_equal(session_state_status(SESSION_AWAIT_QEMU), "setup");
    assert_true(session_on_qemu_attached(pair.source.session, NULL));
    assert_state(&pair.source, SESSION_ACTIVE);
}

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
        drain_links(&pair);
        assert_state(second, SESSION_PEER_ENDED);
        assert_true(second->shut);
        assert_false(second->closed);

        /* The other direction goes on. */
        assert_true(pair_qemu_read(second, 300));
        drain_links(&pair);
        assert_true(pair_qemu_write(first, ALL));
        assert_int_equal(first->received, 300);
        assert_true(pair_qemu_read(second, 300));
        assert_state(second, SESSION_DRAINING);
        drain_links(&pair);
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
    drain_links(&pair);
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
    drain_links(&pair);
    assert_state(&pair.source, SESSION_DRAINING);
    assert_state(&pair.destination, SESSION_DRAINING);
    assert_true(pair_qemu_write(&pair.destination, 10));
    drain_links(&pair);
    assert_state(&pair.source, SESSION_COMPLETED);
    assert_state(&pair.destination, SESSION_COMPLETED);
}

static void bytes_before_the_source_qemu_are_kept_for_it(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_on_channel_up(pair.source.session, NULL);
    drain_links(&pair);
    session_on_qemu_attached(pair.destination.session, NULL);
    pair.destination.send_len = 5;
    assert_true(pair_qemu_read(&pair.destination, 5));
    drain_links(&pair);
    assert_state(&pair.source, SESSION_AWAIT_QEMU);
    assert_false(pair_qemu_write(&pair.source, 5));
    session_on_qemu_attached(pair.source.session, NULL);
    assert_true(pair_qemu_write(&pair.source, 5));
    assert_false(pair.source.received_wrong);
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
    drain_links(&pair);
    assert_false(session_wants_qemu(pair.source.session));
    session_get_stats(pair.source.session, &stats);
    assert_true(stats.in_flight_high == HELLO_WINDOW_MIN * 2);

    /* The destination's QEMU takes something: the source goes on. */
    while (pair_qemu_write(&pair.destination, 4096))
        ;
    drain_links(&pair);
    assert_true(session_wants_qemu(pair.source.session));
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
    drain_links(&pair);
    session_get_stats(pair.destination.session, &before);
    while (pair_qemu_write(&pair.destination, ALL))
        ;
    drain_links(&pair);
    session_get_stats(pair.destination.session, &after);
    assert_int_equal(after.frames_sent - before.frames_sent, 1);
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
    drain_links(&pair);
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

/* ---- what breaks ---- */

static void broken_qemu_resets_the_other_end(void **state)
{
    for (int side = 0; side < 2; side++) {
        g_auto(SessionPair) pair;
        PairEnd *broken, *other;

        session_pair_init(&pair, WINDOW, WINDOW, 1);
        session_pair_activate(&pair);
        broken = side ? &pair.source : &pair.destination;
        other = side ? &pair.destination : &pair.source;
        broken->send_len = WINDOW;
        /* Something half sent, something unsent: RESET comes right after what is half sent. */
        while (pair_qemu_read(broken, 50000))
            ;
        assert_true(pair_send(&pair, broken, 20));
        assert_true(session_on_qemu_broken(broken->session, "Broken pipe", NULL));
        pair_act(broken);
        assert_state(broken, SESSION_FAILED);
        assert_contains(session_reason(broken->session), "QEMU broke: Broken pipe");
        assert_true(broken->closed);

        drain_links(&pair);
        assert_state(other, SESSION_FAILED);
        assert_contains(session_reason(other->session), side ? "on the source" : "on the dest");
        assert_true(other->closed);
        assert_true(other->received == 0);
    }
}

static void lost_channel_fails_and_closes_qemu(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    session_on_channel_lost(pair.source.session, "connection reset by peer");
    pair_act(&pair.source);
    assert_state(&pair.source, SESSION_FAILED);
    assert_string_equal(session_reason(pair.source.session), "connection reset by peer");
    assert_true(pair.source.closed);
    assert_true(pair.source.seen & SESSION_DO_CLOSE_CHANNEL);
}

static void lost_channel_after_the_end_changes_nothing(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    session_pair_run(&pair, 100);
    session_on_channel_lost(pair.source.session, "gone");
    assert_state(&pair.source, SESSION_COMPLETED);
    assert_string_equal(session_reason(pair.source.session), "");
}

static void cancel_reaches_the_peer_from_every_state(void **state)
{
    for (int phase = 0; phase < 4; phase++) {
        g_auto(SessionPair) pair;

        session_pair_init(&pair, WINDOW, WINDOW, 1);
        if (phase > 0)
            session_on_channel_up(pair.source.session, NULL);
        if (phase > 1)
            drain_links(&pair);
        if (phase > 2)
            session_pair_activate(&pair);
        if (phase == 3) {
            pair.source.send_len = WINDOW;
            while (pair_qemu_read(&pair.source, ALL))
                ;
        }
        assert_true(session_on_cancel(pair.source.session, "aborted by client", NULL));
        pair_act(&pair.source);
        assert_state(&pair.source, SESSION_CANCELLED);
        assert_string_equal(session_reason(pair.source.session), "aborted by client");
        drain_links(&pair);
        if (phase > 1) {
            assert_state(&pair.destination, SESSION_CANCELLED);
            assert_contains(session_reason(pair.destination.session),
                            "source cancelled the migration: aborted by client");
        }
        /* Once more is no error and no other reason. */
        assert_true(session_on_cancel(pair.source.session, "again", NULL));
        assert_string_equal(session_reason(pair.source.session), "aborted by client");
    }
}

static void source_hears_why_the_destination_qemu_is_missing(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_on_channel_up(pair.source.session, NULL);
    drain_links(&pair);
    assert_true(session_on_qemu_refused(pair.destination.session, "no such socket", NULL));
    drain_links(&pair);
    assert_state(&pair.destination, SESSION_FAILED);
    assert_state(&pair.source, SESSION_FAILED);
    assert_string_equal(session_reason(pair.source.session),
                        "the destination refused: no such socket");
}

static void destination_qemu_gone_before_the_start_fails(void **state)
{
    /* 0: before HELLO_ACK is out, 1: after it, 2: in an orderly way */
    static const char *const reasons[] = { "QEMU broke: reset", "QEMU on the destination broke",
                                           "QEMU on the destination closed its end" };

    for (int how = 0; how < 3; how++) {
        g_auto(SessionPair) pair;

        session_pair_init(&pair, WINDOW, WINDOW, 1);
        session_on_channel_up(pair.source.session, NULL);
        drain_links(&pair);
        session_on_qemu_attached(pair.destination.session, NULL);
        if (how == 1)
            assert_true(pair_send(&pair, &pair.destination, ALL));
        if (how == 2)
            session_on_qemu_eof(pair.destination.session, NULL);
        else
            session_on_qemu_broken(pair.destination.session, "reset", NULL);
        drain_links(&pair);
        assert_state(&pair.source, SESSION_FAILED);
        assert_state(&pair.destination, SESSION_FAILED);
        assert_contains(session_reason(pair.source.session), reasons[how]);
    }
}

static void first_end_is_remembered_as_the_cause(void **state)
{
    static const struct {
        int what;
        SessionEndedBy here;
        SessionEndedBy there;
    } rows[] = {
        { 0, SESSION_ENDED_BY_QEMU, SESSION_ENDED_BY_PEER },
        { 1, SESSION_ENDED_BY_QEMU, SESSION_ENDED_BY_PEER },
        { 2, SESSION_ENDED_BY_CANCEL, SESSION_ENDED_BY_PEER },
        { 3, SESSION_ENDED_BY_CHANNEL, SESSION_ENDED_BY_NOBODY },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(SessionPair) pair;
        Session *s;

        session_pair_init(&pair, WINDOW, WINDOW, 1);
        session_pair_activate(&pair);
        s = pair.source.session;
        assert_int_equal(session_ended_by(s), SESSION_ENDED_BY_NOBODY);
        if (rows[i].what == 0)
            session_on_qemu_eof(s, NULL);
        else if (rows[i].what == 1)
            session_on_qemu_broken(s, "reset", NULL);
        else if (rows[i].what == 2)
            session_on_cancel(s, "user", NULL);
        else
            session_on_channel_lost(s, "gone");
        drain_links(&pair);
        /* What follows from it is no cause. */
        session_on_cancel(s, "later", NULL);
        session_on_cancel(pair.destination.session, "later", NULL);
        assert_int_equal(session_ended_by(s), rows[i].here);
        if (rows[i].there)
            assert_int_equal(session_ended_by(pair.destination.session), rows[i].there);
    }
}

/* ---- HELLO ---- */

static void bad_hello_is_judged_and_changes_nothing(void **state)
{
    static const struct {
        gsize offset;
        gsize len;
        const char *bytes;
        HelloError code;
        const char *names;
    } rows[] = {
        { G_STRUCT_OFFSET(HelloBody, session), 1, "\x12", HELLO_ERROR_SESSION, "session id" },
        { G_STRUCT_OFFSET(HelloBody, auth) + 31, 1, "\x23", HELLO_ERROR_TOKEN, "wrong token" },
        { G_STRUCT_OFFSET(HelloBody, kind), 1, "\x01", HELLO_ERROR_KIND, "(preempt)" },
        { G_STRUCT_OFFSET(HelloBody, kind), 1, "\x02", HELLO_ERROR_KIND, "(bulk)" },
        { G_STRUCT_OFFSET(HelloBody, kind), 1, "\xff", HELLO_ERROR_KIND, "kind 255" },
        { G_STRUCT_OFFSET(HelloBody, channel), 1, "\x01", HELLO_ERROR_KIND, "channel number" },
        { G_STRUCT_OFFSET(HelloBody, version_max), 2, "\0\0", HELLO_ERROR_VERSION, "versions" },
        { G_STRUCT_OFFSET(HelloBody, auth_len), 2, "\0\0", HELLO_ERROR_TOKEN, "wrong token" },
    };
    g_auto(SessionPair) pair;
    HelloBody good = { .version_min = 1, .version_max = 1, .window = WINDOW };

    memset(good.session, 0x11, sizeof good.session);
    memset(good.auth, 0x22, HELLO_TOKEN_LEN);
    good.auth_len = HELLO_TOKEN_LEN;
    session_pair_init(&pair, WINDOW, WINDOW, 1);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        HelloBody hello = good;
        g_autoptr(GError) error = NULL;

        memcpy((char *)&hello + rows[i].offset, rows[i].bytes, rows[i].len);
        assert_false(session_judge_hello(pair.destination.session, &hello, &error));
        assert_true(g_error_matches(error, HELLO_ERROR, rows[i].code));
        assert_contains(error->message, rows[i].names);
        assert_state(&pair.destination, SESSION_SETUP);
    }
    assert_true(session_judge_hello(pair.destination.session, &good, NULL));
}

static void token_is_good_for_one_channel(void **state)
{
    g_auto(SessionPair) pair;
    g_autoptr(GError) error = NULL;
    HelloBody again = { .version_min = 1, .version_max = 1, .window = WINDOW };

    memset(again.session, 0x11, sizeof again.session);
    memset(again.auth, 0x22, HELLO_TOKEN_LEN);
    again.auth_len = HELLO_TOKEN_LEN;
    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    assert_false(session_judge_hello(pair.destination.session, &again, &error));
    assert_true(g_error_matches(error, HELLO_ERROR, HELLO_ERROR_TOKEN_USED));
    assert_string_equal(error->message, "token already used");

    /* Who does not know the token is not told that it was used. */
    again.auth[0] ^= 1;
    g_clear_error(&error);
    assert_false(session_judge_hello(pair.destination.session, &again, &error));
    assert_true(g_error_matches(error, HELLO_ERROR, HELLO_ERROR_TOKEN));
}

/* ---- protocol violations ---- */

static GBytes *data_frame(guint64 seq, gsize len)
{
    g_autofree guint8 *zeros = g_malloc0(len);

    return frame_new(FRAME_DATA, seq, zeros, len);
}

static GBytes *ack_frame(guint64 next_seq, guint64 bytes)
{
    return frame_new_ack(&(FrameAck){ next_seq, bytes });
}

static GBytes *violation(guint which)
{
    static const HelloAckBody ack = { 1, 0, WINDOW };

    switch (which) {
    case 0:
        return data_frame(1, 1);
    case 1:
        return frame_new(FRAME_EOF, 7, NULL, 0);
    case 2:
        return frame_new(FRAME_RESET, G_MAXUINT64, NULL, 0);
    case 3:
        return ack_frame(3, 20);
    case 4:
        return ack_frame(G_MAXUINT64, 0);
    case 5:
        return ack_frame(2, 19);
    case 6:
        return frame_new_hello_ack(&ack);
    case 7:
        return frame_new(FRAME_HELLO, 0, "x", 1);
    case 8:
        return frame_new(FRAME_BYE, 0, NULL, 0);
    case 9:
        return frame_new_ping(FRAME_PONG, 5);
    case 10:
        return frame_new(FRAME_ERROR, 0, "\0\0\0\1\xff", 5);
    default:
        return NULL;
    }
}

static void violation_fails_the_session_and_names_the_field(void **state)
{
    static const char *const names[] = {
        "frame sequence of DATA is 1, expected 0",
        "frame sequence of EOF is 7, expected 0",
        "frame sequence of RESET",
        "ACK sequence is beyond what was sent: 3, expected 2",
        "ACK sequence is beyond what was sent",
        "ACK bytes do not fit its sequence: 19, expected 20",
        "HELLO_ACK is not expected in state active",
        "HELLO is not expected in state active",
        "BYE is not expected in state active",
        "PONG cookie 0x0000000000000005 answers no PING",
        "ERROR text",
    };

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_auto(SessionPair) pair;

        session_pair_init(&pair, WINDOW, WINDOW, 1);
        session_pair_activate(&pair);
        /* Two frames of ten bytes are sent, a third is not yet. */
        pair.source.send_len = 1000;
        for (int k = 0; k < 3; k++)
            assert_true(pair_qemu_read(&pair.source, 10));
        assert_true(pair_send(&pair, &pair.source, ALL));
        assert_true(pair_send(&pair, &pair.source, ALL));

        pair_inject(&pair.source, violation(i));
        while (pair_receive(&pair, &pair.source, ALL))
            ;
        assert_state(&pair.source, SESSION_FAILED);
        assert_contains(session_reason(pair.source.session), "protocol error of the destination");
        assert_contains(session_reason(pair.source.session), names[i]);
        assert_true(pair.source.closed);

        /* The peer is told the same. */
        drain_links(&pair);
        assert_state(&pair.destination, SESSION_FAILED);
        assert_contains(session_reason(pair.destination.session), names[i]);
    }
}

static void ack_going_back_is_refused(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    pair.source.send_len = 1000;
    assert_true(pair_qemu_read(&pair.source, 10));
    assert_true(pair_send(&pair, &pair.source, ALL));
    pair_inject(&pair.source, ack_frame(1, 10));
    pair_inject(&pair.source, ack_frame(1, 10));
    while (pair_receive(&pair, &pair.source, ALL))
        ;
    assert_state(&pair.source, SESSION_ACTIVE);
    pair_inject(&pair.source, ack_frame(0, 0));
    while (pair_receive(&pair, &pair.source, ALL))
        ;
    assert_state(&pair.source, SESSION_FAILED);
    assert_contains(session_reason(pair.source.session), "ACK sequence goes back: 0, expected 1");
}

static void more_than_the_window_is_refused(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, HELLO_WINDOW_MIN, 1);
    session_pair_activate(&pair);
    pair_inject(&pair.destination, data_frame(0, FRAME_DATA_MAX));
    while (pair_receive(&pair, &pair.destination, ALL))
        ;
    assert_state(&pair.destination, SESSION_ACTIVE);
    pair_inject(&pair.destination, data_frame(1, 1));
    while (pair_receive(&pair, &pair.destination, ALL))
        ;
    assert_state(&pair.destination, SESSION_FAILED);
    assert_contains(session_reason(pair.destination.session),
                    "65537 bytes in flight are more than the window of 65536");
}

static void more_frames_than_allowed_are_refused(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    for (guint i = 0; i <= SESSION_FRAMES_MAX; i++) {
        assert_state(&pair.destination, SESSION_ACTIVE);
        pair_inject(&pair.destination, data_frame(i, 1));
        while (pair_receive(&pair, &pair.destination, ALL))
            ;
    }
    assert_state(&pair.destination, SESSION_FAILED);
    assert_contains(session_reason(pair.destination.session), "4097 frames in flight");
}

static void nothing_may_follow_eof_in_its_direction(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_pair_activate(&pair);
    pair_inject(&pair.destination, frame_new(FRAME_EOF, 0, NULL, 0));
    pair_inject(&pair.destination, data_frame(1, 1));
    while (pair_receive(&pair, &pair.destination, ALL))
        ;
    assert_state(&pair.destination, SESSION_FAILED);
    assert_contains(session_reason(pair.destination.session),
                    "DATA is not expected in state peer-ended");
}

static void source_may_not_speak_before_hello_ack(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_on_channel_up(pair.source.session, NULL);
    drain_links(&pair);
    pair_inject(&pair.destination, data_frame(0, 1));
    drain_links(&pair);
    assert_state(&pair.destination, SESSION_FAILED);
    assert_state(&pair.source, SESSION_FAILED);
    assert_contains(session_reason(pair.source.session), "DATA is not expected in state await");
}

static void hello_ack_must_choose_what_was_offered(void **state)
{
    static const struct {
        HelloAckBody ack;
        const char *names;
    } rows[] = {
        { { 2, 0, WINDOW }, "HELLO_ACK version 2" },
        { { 0, 0, WINDOW }, "HELLO_ACK version 0" },
        { { 1, 4, WINDOW }, "HELLO_ACK features 0x4" },
        { { 1, 0, 1 }, "HELLO_ACK window 1" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(SessionPair) pair;

        session_pair_init(&pair, WINDOW, WINDOW, 1);
        session_on_channel_up(pair.source.session, NULL);
        pair_inject(&pair.source, frame_new_hello_ack(&rows[i].ack));
        while (pair_receive(&pair, &pair.source, ALL))
            ;
        assert_state(&pair.source, SESSION_FAILED);
        assert_contains(session_reason(pair.source.session), rows[i].names);
    }
}

/* ---- the table ---- */

/* Brings a fresh session of that side into the state, the shortest way. */
static Session *session_in_state(SessionSide side, SessionState wanted)
{
    SessionConfig config = { .side = side, .window = WINDOW };
    Session *s = session_new(&config);
    HelloBody hello = { .version_min = 1, .version_max = 1, .window = WINDOW };
    g_auto(Frame) ack = { { FRAME_HELLO_ACK, 0, 20 }, NULL };
    g_auto(Frame) eof = { { FRAME_EOF, 0, 0 }, g_bytes_new_static("", 0) };
    g_autoptr(GBytes) ack_bytes = frame_new_hello_ack(&(HelloAckBody){ 1, 0, WINDOW });

    ack.body = g_bytes_new_from_bytes(ack_bytes, FRAME_HEADER_LEN, 20);
    if (wanted == SESSION_NONE)
        return s;
    session_start(s, NULL);
    if (wanted == SESSION_SETUP)
        return s;
    if (wanted == SESSION_CANCELLED) {
        session_on_cancel(s, "test", NULL);
        return s;
    }
    if (side == SESSION_SOURCE)
        session_on_channel_up(s, NULL);
    else
        session_on_hello(s, &hello, NULL);
    if (wanted == SESSION_FAILED) {
        session_on_channel_lost(s, "test");
        return s;
    }
    if (wanted == SESSION_HELLO_SENT)
        return s;
    if (side == SESSION_SOURCE)
        session_on_frame(s, &ack);
    if (wanted == SESSION_AWAIT_QEMU)
        return s;
    session_on_qemu_attached(s, NULL);
    if (wanted == SESSION_ACTIVE)
        return s;
    if (wanted != SESSION_PEER_ENDED)
        session_on_qemu_eof(s, NULL);
    if (wanted != SESSION_LOCAL_ENDED)
        session_on_frame(s, &eof);
    if (wanted == SESSION_COMPLETED) {
        g_auto(Frame) last = { { FRAME_ACK, 0, 16 }, NULL };
        g_autoptr(GBytes) bytes = ack_frame(1, 0);
        const guint8 *p;
        gsize n;

        while ((n = session_output(s, &p)) > 0)
            session_output_done(s, n);
        last.body = g_bytes_new_from_bytes(bytes, FRAME_HEADER_LEN, 16);
        session_on_frame(s, &last);
    }
    return s;
}

static GBytes *body_of_event(SessionEvent event)
{
    static const guint8 error_body[] = { 0, 0, 0, 9, 'x' };
    static const guint8 cancelled_body[] = { 0, 0, 0, 8, 'x' };
    static const guint8 zeros[16];

    switch (event) {
    case SESSION_EV_FRAME_ERROR:
        return g_bytes_new_static(error_body, sizeof error_body);
    case SESSION_EV_FRAME_CANCELLED:
        return g_bytes_new_static(cancelled_body, sizeof cancelled_body);
    case SESSION_EV_FRAME_DATA:
        return g_bytes_new_static(zeros, 1);
    case SESSION_EV_FRAME_ACK:
        return g_bytes_new_static(zeros, 16);
    case SESSION_EV_FRAME_PING:
    case SESSION_EV_FRAME_PONG:
        return g_bytes_new_static(zeros, 8);
    case SESSION_EV_FRAME_HELLO_ACK: {
        g_autoptr(GBytes) frame = frame_new_hello_ack(&(HelloAckBody){ 1, 0, WINDOW });

        return g_bytes_new_from_bytes(frame, FRAME_HEADER_LEN, 20);
    }
    default:
        return g_bytes_new_static(zeros, 0);
    }
}

static FrameType type_of_event(SessionEvent event)
{
    static const FrameType types[] = {
        FRAME_HELLO, FRAME_HELLO_ACK, FRAME_ERROR, FRAME_ERROR, FRAME_DATA, FRAME_EOF,
        FRAME_RESET, FRAME_ACK,       FRAME_PING,  FRAME_PONG,  FRAME_BYE,
    };

    return types[event - SESSION_EV_FRAME_HELLO];
}

/* Feeds one frame event; the sequence is the one expected next in that state. */
static void feed_frame(Session *s, SessionEvent event, SessionState at)
{
    gboolean peer_ended = at == SESSION_PEER_ENDED || at == SESSION_DRAINING;
    g_auto(Frame) frame = { { type_of_event(event), 0, 0 }, body_of_event(event) };

    frame.header.body_len = g_bytes_get_size(frame.body);
    if (frame_type_is_sequenced(frame.header.type) && peer_ended)
        frame.header.seq = 1;
    session_on_frame(s, &frame);
}

static gboolean feed_local(Session *s, SessionEvent event, GError **error)
{
    HelloBody hello = { .version_min = 1, .version_max = 1, .window = WINDOW };

    switch (event) {
    case SESSION_EV_START:
        return session_start(s, error);
    case SESSION_EV_CHANNEL_UP:
        return session_on_channel_up(s, error);
    case SESSION_EV_HELLO:
        return session_on_hello(s, &hello, error);
    case SESSION_EV_QEMU_ATTACHED:
        return session_on_qemu_attached(s, error);
    case SESSION_EV_QEMU_REFUSED:
        return session_on_qemu_refused(s, "test", error);
    case SESSION_EV_QEMU_DATA: {
        guint8 *space;

        session_qemu_space(s, &space);
        *space = 0;
        return session_on_qemu_data(s, 1, error);
    }
    case SESSION_EV_QEMU_EOF:
        return session_on_qemu_eof(s, error);
    case SESSION_EV_QEMU_BROKEN:
        return session_on_qemu_broken(s, "test", error);
    case SESSION_EV_CANCEL:
        return session_on_cancel(s, "test", error);
    default:
        g_assert_not_reached();
    }
}

static gboolean state_exists(SessionSide side, SessionState at)
{
    return at != SESSION_HELLO_SENT || side == SESSION_SOURCE;
}

static void every_local_event_is_a_row_or_refused(void **state)
{
    guint refused = 0, taken = 0;

    for (SessionSide side = 0; side < SESSION_SIDE_MAX; side++) {
        for (SessionState at = 0; at < SESSION_STATE_MAX; at++) {
            for (SessionEvent event = 0; event <= SESSION_EV_CANCEL; event++) {
                g_autoptr(Session) s = NULL;
                g_autoptr(GError) error = NULL;
                SessionState next = at;
                gboolean row, ok;

                /* Written bytes need bytes to write: their own tests have them. */
                if (!state_exists(side, at) || event == SESSION_EV_QEMU_WRITTEN)
                    continue;
                s = session_in_state(side, at);
                assert_int_equal(session_state(s), at);
                row = session_has_row(side, at, event, &next);
                ok = feed_local(s, event, &error);
                assert_int_equal(ok, row);
                assert_int_equal(session_state(s), next);
                if (!ok) {
                    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_STATE));
                    assert_contains(error->message, session_event_name(event));
                    assert_contains(error->message, session_state_name(at));
                }
                ok ? taken++ : refused++;
            }
        }
    }
    assert_true(taken > 20 && refused > 60);
}

static void every_frame_is_a_row_or_a_protocol_error(void **state)
{
    for (SessionSide side = 0; side < SESSION_SIDE_MAX; side++) {
        /* Before there is a channel there are no frames. */
        for (SessionState at = SESSION_HELLO_SENT; at < SESSION_STATE_MAX; at++) {
            for (SessionEvent event = SESSION_EV_FRAME_HELLO; event < SESSION_EVENT_MAX;
                 event++) {
                g_autoptr(Session) s = NULL;
                SessionState next = SESSION_FAILED;
                gboolean row;

                if (!state_exists(side, at))
                    continue;
                s = session_in_state(side, at);
                assert_int_equal(session_state(s), at);
                row = session_has_row(side, at, event, &next);
                feed_frame(s, event, at);
                /* A PONG without a PING breaks the rule of its row. */
                if (event == SESSION_EV_FRAME_PONG && session_state_is_active(at))
                    next = SESSION_FAILED;
                if (!row && session_state_is_end(at))
                    next = at;
                /* With everything at zero, an EOF in local-ended waits for an ACK of ours. */
                if (session_state(s) != next)
                    fail_msg("%s, %s in %s: %s, expected %s", session_side_name(side),
                             session_event_name(event), session_state_name(at),
                             session_state_name(session_state(s)), session_state_name(next));
                if (!row && !session_state_is_end(at)) {
                    assert_contains(session_reason(s), session_event_name(event));
                    assert_contains(session_reason(s), session_state_name(at));
                }
            }
        }
    }
}

static void ended_states_are_never_left(void **state)
{
    for (SessionSide side = 0; side < SESSION_SIDE_MAX; side++) {
        for (SessionState at = SESSION_COMPLETED; at < SESSION_STATE_MAX; at++) {
            for (SessionEvent event = 0; event < SESSION_EVENT_MAX; event++) {
                SessionState next = at;

                session_has_row(side, at, event, &next);
                assert_int_equal(next, at);
            }
        }
    }
}

static void every_status_is_a_word_of_qemu(void **state)
{
    static const char *const words[] = { "none",      "setup",  "active",
                                         "completed", "failed", "cancelled" };

    for (SessionState at = 0; at < SESSION_STATE_MAX; at++) {
        gboolean known = FALSE;

        for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
            known |= g_str_equal(session_state_status(at), words[i]);
        assert_true(known);
        assert_int_equal(g_str_equal(session_state_status(at), "active"),
                         session_state_is_active(at));
    }
    for (SessionEvent event = 0; event < SESSION_EVENT_MAX; event++)
        assert_non_null(session_event_name(event));
}

/* Random bytes on an active channel: never a crash, and the session ends as failed. */
static void noise_on_the_channel_fails_the_session(void **state)
{
    for (guint32 seed = 0; seed < 200; seed++) {
        g_auto(SessionPair) pair;
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

        session_pair_init(&pair, WINDOW, WINDOW, seed);
        session_pair_activate(&pair);
        for (int i = 0; i < 64; i++) {
            guint8 byte = g_rand_int(rand);

            g_byte_array_append(pair.destination.link, &byte, 1);
        }
        while (pair_receive(&pair, &pair.destination, ALL))
            ;
        assert_state(&pair.destination, SESSION_FAILED);
        assert_true(pair.destination.closed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake_goes_through_its_states),
        cmocka_unit_test(streams_arrive_unchanged_whatever_the_pieces),
        cmocka_unit_test(each_direction_ends_alone_in_either_order),
        cmocka_unit_test(eof_waits_for_the_bytes_before_it),
        cmocka_unit_test(is_not_completed_before_the_peer_handed_everything_on),
        cmocka_unit_test(bytes_before_the_source_qemu_are_kept_for_it),
        cmocka_unit_test(full_window_stops_reading_until_an_ack),
        cmocka_unit_test(tiny_frames_are_bounded_by_number),
        cmocka_unit_test(ack_speaks_for_a_batch),
        cmocka_unit_test(flood_of_pings_costs_one_pong),
        cmocka_unit_test(ping_is_answered_with_its_cookie),
        cmocka_unit_test(acks_and_pongs_overtake_queued_data),
        cmocka_unit_test(broken_qemu_resets_the_other_end),
        cmocka_unit_test(lost_channel_fails_and_closes_qemu),
        cmocka_unit_test(lost_channel_after_the_end_changes_nothing),
        cmocka_unit_test(cancel_reaches_the_peer_from_every_state),
        cmocka_unit_test(source_hears_why_the_destination_qemu_is_missing),
        cmocka_unit_test(destination_qemu_gone_before_the_start_fails),
        cmocka_unit_test(first_end_is_remembered_as_the_cause),
        cmocka_unit_test(bad_hello_is_judged_and_changes_nothing),
        cmocka_unit_test(token_is_good_for_one_channel),
        cmocka_unit_test(violation_fails_the_session_and_names_the_field),
        cmocka_unit_test(ack_going_back_is_refused),
        cmocka_unit_test(more_than_the_window_is_refused),
        cmocka_unit_test(more_frames_than_allowed_are_refused),
        cmocka_unit_test(nothing_may_follow_eof_in_its_direction),
        cmocka_unit_test(source_may_not_speak_before_hello_ack),
        cmocka_unit_test(hello_ack_must_choose_what_was_offered),
        cmocka_unit_test(every_local_event_is_a_row_or_refused),
        cmocka_unit_test(every_frame_is_a_row_or_a_protocol_error),
        cmocka_unit_test(ended_states_are_never_left),
        cmocka_unit_test(every_status_is_a_word_of_qemu),
        cmocka_unit_test(noise_on_the_channel_fails_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
