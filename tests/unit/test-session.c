/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a session begins, and its table: HELLO and what both sides agree on, what may come when, and
 * that each pair of state and event has the outcome it should. */
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

static void handshake_goes_through_its_states(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    assert_string_equal(session_state_status(session_state(pair.source.session)), "setup");
    assert_true(session_on_channel_up(pair.source.session, NULL, NULL));
    assert_state(&pair.source, SESSION_HELLO_SENT);
    session_pair_drain(&pair);
    assert_state(&pair.destination, SESSION_AWAIT_QEMU);
    assert_true(pair.destination.seen & SESSION_DO_FETCH_QEMU);
    /* No answer before QEMU is there. */
    assert_state(&pair.source, SESSION_HELLO_SENT);

    assert_true(session_on_qemu_attached(pair.destination.session, NULL));
    assert_state(&pair.destination, SESSION_ACTIVE);
    session_pair_drain(&pair);
    assert_state(&pair.source, SESSION_AWAIT_QEMU);
    assert_string_equal(session_state_status(SESSION_AWAIT_QEMU), "setup");
    assert_true(session_on_qemu_attached(pair.source.session, NULL));
    assert_state(&pair.source, SESSION_ACTIVE);
}

static void bytes_before_the_source_qemu_are_kept_for_it(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_on_channel_up(pair.source.session, NULL, NULL);
    session_pair_drain(&pair);
    session_on_qemu_attached(pair.destination.session, NULL);
    pair.destination.send_len = 5;
    assert_true(pair_qemu_read(&pair.destination, 5));
    session_pair_drain(&pair);
    assert_state(&pair.source, SESSION_AWAIT_QEMU);
    assert_false(pair_qemu_write(&pair.source, 5));
    session_on_qemu_attached(pair.source.session, NULL);
    assert_true(pair_qemu_write(&pair.source, 5));
    assert_false(pair.source.received_wrong);
}

static void source_hears_why_the_destination_qemu_is_missing(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_on_channel_up(pair.source.session, NULL, NULL);
    session_pair_drain(&pair);
    assert_true(session_on_qemu_refused(pair.destination.session, "no such socket", NULL));
    session_pair_drain(&pair);
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
        session_on_channel_up(pair.source.session, NULL, NULL);
        session_pair_drain(&pair);
        session_on_qemu_attached(pair.destination.session, NULL);
        if (how == 1)
            assert_true(pair_send(&pair, &pair.destination, ALL));
        if (how == 2)
            session_on_qemu_eof(pair.destination.session, NULL);
        else
            session_on_qemu_broken(pair.destination.session, "reset", NULL);
        session_pair_drain(&pair);
        assert_state(&pair.source, SESSION_FAILED);
        assert_state(&pair.destination, SESSION_FAILED);
        assert_contains(session_reason(pair.source.session), reasons[how]);
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
        assert_false(session_judge_hello(pair.destination.session, &hello, NULL, &error));
        assert_true(g_error_matches(error, HELLO_ERROR, rows[i].code));
        assert_contains(error->message, rows[i].names);
        assert_state(&pair.destination, SESSION_SETUP);
    }
    assert_true(session_judge_hello(pair.destination.session, &good, NULL, NULL));
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
    assert_false(session_judge_hello(pair.destination.session, &again, NULL, &error));
    assert_true(g_error_matches(error, HELLO_ERROR, HELLO_ERROR_TOKEN_USED));
    assert_string_equal(error->message, "token already used");

    /* Who does not know the token is not told that it was used. */
    again.auth[0] ^= 1;
    g_clear_error(&error);
    assert_false(session_judge_hello(pair.destination.session, &again, NULL, &error));
    assert_true(g_error_matches(error, HELLO_ERROR, HELLO_ERROR_TOKEN));
}

static void source_may_not_speak_before_hello_ack(void **state)
{
    g_auto(SessionPair) pair;

    session_pair_init(&pair, WINDOW, WINDOW, 1);
    session_on_channel_up(pair.source.session, NULL, NULL);
    session_pair_drain(&pair);
    pair_inject(&pair.destination, frame_new(FRAME_DATA, 0, "x", 1));
    session_pair_drain(&pair);
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
        { { 2, 0, WINDOW, FALSE, 0 }, "HELLO_ACK version 2" },
        { { 0, 0, WINDOW, FALSE, 0 }, "HELLO_ACK version 0" },
        { { 1, 4, WINDOW, FALSE, 0 }, "HELLO_ACK features 0x4" },
        { { 1, 0, 1, FALSE, 0 }, "HELLO_ACK window 1" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(SessionPair) pair;

        session_pair_init(&pair, WINDOW, WINDOW, 1);
        session_on_channel_up(pair.source.session, NULL, NULL);
        pair_inject(&pair.source, frame_new_hello_ack(&rows[i].ack));
        while (pair_receive(&pair, &pair.source, ALL))
            ;
        assert_state(&pair.source, SESSION_FAILED);
        assert_contains(session_reason(pair.source.session), rows[i].names);
    }
}

static void features_are_those_both_sides_have(void **state)
{
    static const guint64 ram = SESSION_FEATURE_RAM, zstd = SESSION_FEATURE_ZSTD,
                         resume = SESSION_FEATURE_RESUME;
    const struct {
        PairFeatures have;
        guint64 source_window;
        guint64 destination_window;
        guint64 agreed;
    } rows[] = {
        { { 0, 0 }, WINDOW, WINDOW, 0 },
        { { ram, 0 }, WINDOW, WINDOW, 0 },
        { { 0, ram }, WINDOW, WINDOW, 0 },
        { { ram | zstd, ram }, WINDOW, WINDOW, ram },
        { { ram, ram | zstd }, WINDOW, WINDOW, ram },
        { { ram | zstd, ram | zstd }, FRAME_PAGES_MAX, FRAME_PAGES_MAX, ram | zstd },
        { { resume, resume }, HELLO_WINDOW_MIN, HELLO_WINDOW_MIN, resume },
        { { ram | resume, zstd | resume }, WINDOW, WINDOW, resume },
        { { ram, ram | resume }, WINDOW, WINDOW, ram },
        /* A full PAGES must fit, both ways. */
        { { ram | resume, ram | resume }, WINDOW, HELLO_WINDOW_MIN, resume },
        { { ram | resume, ram | resume }, HELLO_WINDOW_MIN, WINDOW, resume },
        { { ram | zstd, ram | zstd }, WINDOW, FRAME_PAGES_MAX - 1, 0 },
        { { ram | zstd, ram | zstd }, FRAME_PAGES_MAX - 1, WINDOW, 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(SessionPair) pair;

        session_pair_init_features(&pair, rows[i].source_window, rows[i].destination_window, 1,
                                   rows[i].have);
        session_on_channel_up(pair.source.session, NULL, NULL);
        assert_true(session_features(pair.destination.session) == 0);
        session_pair_drain(&pair);
        assert_true(session_features(pair.source.session) == 0);
        session_on_qemu_attached(pair.destination.session, NULL);
        session_pair_drain(&pair);
        assert_state(&pair.source, SESSION_AWAIT_QEMU);
        assert_true(session_features(pair.source.session) == rows[i].agreed);
        assert_true(session_features(pair.destination.session) == rows[i].agreed);
    }
}

static void feature_that_was_not_offered_is_refused(void **state)
{
    static const struct {
        guint64 offered;
        HelloAckBody ack;
        const char *names;
    } rows[] = {
        { SESSION_FEATURE_RAM, { 1, SESSION_FEATURE_ZSTD, WINDOW, FALSE, 0 },
          "features 0x2 were not" },
        { SESSION_FEATURES_ALL, { 1, 1 << 30 | 1, WINDOW, FALSE, 0 },
          "features 0x40000000 were not" },
        { SESSION_FEATURES_ALL, { 1, SESSION_FEATURE_RESUME, WINDOW, TRUE, 0 },
          "HELLO_ACK resumes, which HELLO did not" },
        { SESSION_FEATURE_RAM, { 1, SESSION_FEATURE_RAM, FRAME_PAGES_MAX - 1, FALSE, 0 },
          "HELLO_ACK window 67583 is too small" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(SessionPair) pair;

        session_pair_init_features(&pair, WINDOW, WINDOW, 1,
                                   (PairFeatures){ rows[i].offered, 0 });
        session_on_channel_up(pair.source.session, NULL, NULL);
        pair_inject(&pair.source, frame_new_hello_ack(&rows[i].ack));
        while (pair_receive(&pair, &pair.source, ALL))
            ;
        assert_state(&pair.source, SESSION_FAILED);
        assert_contains(session_reason(pair.source.session), rows[i].names);
        assert_true(session_features(pair.source.session) == 0);
    }
}

/* ---- the table ---- */

#define FEATURES SESSION_FEATURE_RESUME

static HelloBody good_hello(gboolean resume)
{
    return (HelloBody){ .version_min = 1, .version_max = 1, .features = FEATURES,
                        .window = WINDOW, .resume = resume };
}

/* Brings a fresh session of that side into the state, the shortest way. */
static Session *session_in_state(SessionSide side, SessionState wanted)
{
    SessionConfig config = { .side = side, .window = WINDOW, .features = FEATURES };
    Session *s = session_new(&config);
    HelloBody hello = good_hello(FALSE);
    g_auto(Frame) ack =
        frame_from(frame_new_hello_ack(&(HelloAckBody){ 1, FEATURES, WINDOW, FALSE, 0 }));
    g_auto(Frame) eof = frame_from(frame_new(FRAME_EOF, 0, NULL, 0));

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
        session_on_channel_up(s, NULL, NULL);
    else
        session_on_hello(s, &hello, NULL);
    if (wanted == SESSION_FAILED) {
        session_on_channel_gone(s, "test");
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
        g_auto(Frame) last = frame_from(frame_new_ack(&(FrameAck){ 1, 0 }));
        const guint8 *p;
        gsize n;

        while ((n = session_output(s, &p)) > 0)
            session_output_done(s, n);
        session_on_frame(s, &last);
    }
    return s;
}

static GBytes *body_of_event(SessionEvent event, SessionState at)
{
    static const guint8 error_body[] = { 0, 0, 0, 9, 'x' };
    static const guint8 cancelled_body[] = { 0, 0, 0, 8, 'x' };
    static const guint8 zeros[16];

    switch (event) {
    case SESSION_EV_FRAME_ERROR:
        return g_bytes_new_static(error_body, sizeof error_body);
    case SESSION_EV_FRAME_CANCELLED:
        return g_bytes_new_static(cancelled_body, sizeof cancelled_body);
    case SESSION_EV_FRAME_CARRIED:
        return g_bytes_new_static(zeros, 1);
    case SESSION_EV_FRAME_ACK:
        return g_bytes_new_static(zeros, 16);
    case SESSION_EV_FRAME_PING:
    case SESSION_EV_FRAME_PONG:
        return g_bytes_new_static(zeros, 8);
    case SESSION_EV_FRAME_HELLO_ACK:
    case SESSION_EV_FRAME_RESUMED: {
        HelloAckBody ack = { 1, FEATURES, WINDOW, event == SESSION_EV_FRAME_RESUMED,
                             at == SESSION_COMPLETED };
        g_autoptr(GBytes) frame = frame_new_hello_ack(&ack);

        return g_bytes_new_from_bytes(frame, FRAME_HEADER_LEN,
                                      g_bytes_get_size(frame) - FRAME_HEADER_LEN);
    }
    default:
        return g_bytes_new_static(zeros, 0);
    }
}

static FrameType type_of_event(SessionEvent event)
{
    static const FrameType types[] = {
        FRAME_HELLO, FRAME_HELLO_ACK, FRAME_HELLO_ACK, FRAME_ERROR, FRAME_ERROR, FRAME_DATA,
        FRAME_EOF,   FRAME_RESET,     FRAME_ACK,       FRAME_PING,  FRAME_PONG,  FRAME_BYE,
    };

    return types[event - SESSION_EV_FRAME_HELLO];
}

/* The connection is lost; a source has dialled another. */
static void lose_and_dial(Session *s)
{
    static const guint8 proof[HELLO_PROOF_LEN];

    session_on_channel_lost(s, "test");
    if (session_wants_proof(s))
        session_on_channel_up(s, proof, NULL);
}

/* Feeds one frame event; the sequence is the one expected next in that state. */
static void feed_frame(Session *s, SessionEvent event, SessionState at)
{
    gboolean peer_ended = at == SESSION_PEER_ENDED || at == SESSION_DRAINING;
    g_auto(Frame) frame = { { type_of_event(event), 0, 0 }, body_of_event(event, at) };

    if (event == SESSION_EV_FRAME_RESUMED && session_wants_proof(s))
        lose_and_dial(s);
    frame.header.body_len = g_bytes_get_size(frame.body);
    if (frame_type_is_sequenced(frame.header.type) && peer_ended)
        frame.header.seq = 1;
    session_on_frame(s, &frame);
}

static gboolean feed_local(Session *s, SessionEvent event, GError **error)
{
    static const guint8 proof[HELLO_PROOF_LEN];
    HelloBody hello = good_hello(event == SESSION_EV_HELLO_RESUME);

    if (session_state(s) == SESSION_COMPLETED)
        hello.resume_seq = 1; /* our EOF is acknowledged */
    switch (event) {
    case SESSION_EV_START:
        return session_start(s, error);
    case SESSION_EV_CHANNEL_UP:
        if (session_wants_proof(s))
            session_on_channel_lost(s, "test");
        return session_on_channel_up(s, proof, error);
    case SESSION_EV_HELLO:
    case SESSION_EV_HELLO_AGAIN:
    case SESSION_EV_HELLO_RESUME:
        return session_on_hello(s, &hello, error);
    case SESSION_EV_QEMU_ATTACHED:
        return session_on_qemu_attached(s, error);
    case SESSION_EV_QEMU_REFUSED:
        return session_on_qemu_refused(s, "test", error);
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

static gboolean is_token(SessionEvent event)
{
    return event == SESSION_EV_HELLO || event == SESSION_EV_HELLO_AGAIN;
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

                /* What is carried has tests of its own: test-session-flow. HELLO with the token is
                 * HELLO_AGAIN when it is not the first. */
                if (!state_exists(side, at) || event == SESSION_EV_SEND ||
                    event == SESSION_EV_CONSUME ||
                    (event == SESSION_EV_HELLO) != (at == SESSION_SETUP && is_token(event)))
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

/* What becomes of it is not the session's end while another may take its place. */
static void every_state_waits_for_a_connection_or_ends_without(void **state)
{
    for (SessionSide side = 0; side < SESSION_SIDE_MAX; side++) {
        for (SessionState at = 0; at < SESSION_STATE_MAX; at++) {
            g_autoptr(Session) lost = NULL;
            g_autoptr(Session) gone = NULL;
            SessionState next = at;

            if (!state_exists(side, at))
                continue;
            lost = session_in_state(side, at);
            assert_int_equal(session_has_row(side, at, SESSION_EV_CHANNEL_LOST, &next),
                             (side == SESSION_SOURCE && at == SESSION_SETUP) ||
                                 (at >= SESSION_HELLO_SENT && at <= SESSION_COMPLETED));
            session_take_actions(lost);
            session_on_channel_lost(lost, "test");
            assert_int_equal(session_state(lost), next);
            assert_int_equal(session_is_lost(lost),
                             session_has_row(side, at, SESSION_EV_CHANNEL_LOST, &next));
            assert_int_equal(!!(session_take_actions(lost) & SESSION_DO_REJOIN),
                             session_is_lost(lost));
            if (session_is_lost(lost)) {
                session_on_channel_gone(lost, "given up");
                assert_false(session_is_lost(lost));
                assert_int_equal(session_state(lost),
                                 at == SESSION_COMPLETED ? at : SESSION_FAILED);
                assert_true(session_take_actions(lost) & SESSION_DO_CLOSE_CHANNEL);
            }

            next = at;
            gone = session_in_state(side, at);
            session_has_row(side, at, SESSION_EV_CHANNEL_GONE, &next);
            session_on_channel_gone(gone, "test");
            assert_int_equal(session_state(gone), next);
            assert_false(session_is_lost(gone));
        }
    }
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
                if (event == SESSION_EV_FRAME_PONG && row && !session_state_is_end(at))
                    next = SESSION_FAILED;
                if (!row && session_state_is_end(at))
                    next = at;
                /* With everything at zero, an EOF in local-ended waits for an ACK of ours. */
                if (session_state(s) != next)
                    fail_msg("%s, %s in %s: %s, expected %s", session_side_name(side),
                             session_event_name(event), session_state_name(at),
                             session_state_name(session_state(s)), session_state_name(next));
                if (event == SESSION_EV_FRAME_RESUMED && !row && !session_state_is_end(at)) {
                    assert_contains(session_reason(s), "HELLO_ACK");
                } else if (!row && !session_state_is_end(at)) {
                    assert_contains(session_reason(s), event == SESSION_EV_FRAME_CARRIED
                                                           ? "DATA"
                                                           : session_event_name(event));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake_goes_through_its_states),
        cmocka_unit_test(bytes_before_the_source_qemu_are_kept_for_it),
        cmocka_unit_test(source_hears_why_the_destination_qemu_is_missing),
        cmocka_unit_test(destination_qemu_gone_before_the_start_fails),
        cmocka_unit_test(bad_hello_is_judged_and_changes_nothing),
        cmocka_unit_test(token_is_good_for_one_channel),
        cmocka_unit_test(source_may_not_speak_before_hello_ack),
        cmocka_unit_test(hello_ack_must_choose_what_was_offered),
        cmocka_unit_test(features_are_those_both_sides_have),
        cmocka_unit_test(feature_that_was_not_offered_is_refused),
        cmocka_unit_test(every_local_event_is_a_row_or_refused),
        cmocka_unit_test(every_state_waits_for_a_connection_or_ends_without),
        cmocka_unit_test(every_frame_is_a_row_or_a_protocol_error),
        cmocka_unit_test(ended_states_are_never_left),
        cmocka_unit_test(every_status_is_a_word_of_qemu),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
