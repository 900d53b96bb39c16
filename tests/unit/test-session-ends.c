/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a session ends before its time: what breaks at either end, and what a peer may not do. */
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

static const PairFeatures all_features = { SESSION_FEATURES_ALL, SESSION_FEATURES_ALL };

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

        session_pair_drain(&pair);
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
            session_on_channel_up(pair.source.session, NULL, NULL);
        if (phase > 1)
            session_pair_drain(&pair);
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
        session_pair_drain(&pair);
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
        session_pair_drain(&pair);
        /* What follows from it is no cause. */
        session_on_cancel(s, "later", NULL);
        session_on_cancel(pair.destination.session, "later", NULL);
        assert_int_equal(session_ended_by(s), rows[i].here);
        if (rows[i].there)
            assert_int_equal(session_ended_by(pair.destination.session), rows[i].there);
    }
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
    static const HelloAckBody ack = { 1, 0, WINDOW, FALSE, 0 };

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
        session_pair_drain(&pair);
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

static void carried_frame_in_the_wrong_place_is_refused_by_name(void **state)
{
    static const FrameType ram_types[] = { FRAME_PHASE, FRAME_BLOCKS, FRAME_PAGES, FRAME_RAM_END,
                                           FRAME_QEMU_CHANNEL, FRAME_DISCARD };
    static const PairFeatures none = { 0, 0 };
    static const guint8 zeros[20];

    for (guint type = FRAME_PHASE; type <= FRAME_RECEIVED; type++) {
        for (int to_source = 0; to_source < 2; to_source++) {
            for (int agreed = 0; agreed < 2; agreed++) {
                g_auto(SessionPair) pair;
                gboolean fine = FALSE;
                PairEnd *at;

                session_pair_begin(&pair, WINDOW, agreed ? all_features : none);
                at = to_source ? &pair.source : &pair.destination;
                pair_inject(at, frame_new(type, 0, zeros, type == FRAME_DISCARD ? 20 : 16));
                while (pair_receive(&pair, at, ALL))
                    ;
                fine = agreed && to_source && type == FRAME_RECEIVED;
                for (gsize i = 0; i < G_N_ELEMENTS(ram_types); i++)
                    fine |= agreed && !to_source && type == ram_types[i];
                assert_state(at, fine ? SESSION_ACTIVE : SESSION_FAILED);
                if (!fine)
                    assert_contains(session_reason(at->session), frame_type_name(type));
            }
        }
    }
}

static void reason_says_what_is_wrong_with_a_carried_frame(void **state)
{
    static const struct {
        FrameType type;
        gboolean agreed;
        gboolean to_source;
        const char *reason;
    } rows[] = {
        { FRAME_PAGES, FALSE, FALSE, "PAGES needs a feature that was not agreed on" },
        { FRAME_PAGES, TRUE, TRUE, "PAGES goes from the source to the destination only" },
        { FRAME_REQUEST, TRUE, TRUE, "REQUEST does not belong on the main channel" },
        { FRAME_RECEIVED, FALSE, TRUE, "RECEIVED needs a feature that was not agreed on" },
        { FRAME_RECEIVED, TRUE, FALSE, "RECEIVED goes from the destination to the source only" },
    };
    static const guint8 zeros[16];

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(SessionPair) pair;
        PairEnd *at;

        session_pair_begin(&pair, WINDOW, rows[i].agreed ? all_features : (PairFeatures){ 0, 0 });
        at = rows[i].to_source ? &pair.source : &pair.destination;
        pair_inject(at, frame_new(rows[i].type, 0, zeros, sizeof zeros));
        while (pair_receive(&pair, at, ALL))
            ;
        assert_contains(session_reason(at->session), rows[i].reason);
    }
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
        cmocka_unit_test(broken_qemu_resets_the_other_end),
        cmocka_unit_test(lost_channel_fails_and_closes_qemu),
        cmocka_unit_test(lost_channel_after_the_end_changes_nothing),
        cmocka_unit_test(cancel_reaches_the_peer_from_every_state),
        cmocka_unit_test(first_end_is_remembered_as_the_cause),
        cmocka_unit_test(violation_fails_the_session_and_names_the_field),
        cmocka_unit_test(ack_going_back_is_refused),
        cmocka_unit_test(more_than_the_window_is_refused),
        cmocka_unit_test(more_frames_than_allowed_are_refused),
        cmocka_unit_test(nothing_may_follow_eof_in_its_direction),
        cmocka_unit_test(carried_frame_in_the_wrong_place_is_refused_by_name),
        cmocka_unit_test(reason_says_what_is_wrong_with_a_carried_frame),
        cmocka_unit_test(noise_on_the_channel_fails_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
