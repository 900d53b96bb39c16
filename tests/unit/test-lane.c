/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A channel beside the main one: who may open it, what it carries in which direction, its window
 * and sequence, how it ends, and that each pair of state and event has the outcome it should. */
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

static Lane *lane_of_kind(SessionSide side, guint64 window, ChannelKind kind, guint16 number)
{
    LaneConfig config = {
        .side = side,
        .kind = kind,
        .channel = number,
        .window = window,
        .features = FEATURES,
    };

    memset(config.id, 0x11, sizeof config.id);
    return lane_new(&config);
}

static Lane *lane_of(SessionSide side, guint64 window)
{
    return lane_of_kind(side, window, CHANNEL_PREEMPT, 1);
}

static HelloBody good_hello(void)
{
    HelloBody hello = {
        .version_min = 1,
        .version_max = 1,
        .features = FEATURES,
        .kind = CHANNEL_PREEMPT,
        .channel = 1,
        .window = WINDOW,
        .auth_len = HELLO_PROOF_LEN,
    };

    memset(hello.session, 0x11, sizeof hello.session);
    memcpy(hello.auth, proof, HELLO_PROOF_LEN);
    return hello;
}

static GBytes *good_hello_ack(void)
{
    return frame_new_hello_ack(&(HelloAckBody){ 1, FEATURES, WINDOW, FALSE, 0 });
}

static void assert_lane(const Lane *lane, LaneState expected)
{
    if (lane_state(lane) != expected)
        fail_msg("state is %s (%s), expected %s", lane_state_name(lane_state(lane)),
                 lane_reason(lane), lane_state_name(expected));
}

/* frame: whole, taken */
static void feed(Lane *lane, GBytes *frame)
{
    g_auto(Frame) in = frame_from(frame);

    lane_on_frame(lane, &in);
}

static void send_zeros(Lane *lane, FrameType type, gsize body_len)
{
    lane_send(lane, type, g_malloc0(FRAME_HEADER_LEN + body_len), body_len);
}

/* ---- both ends ---- */

typedef struct {
    Lane *source;
    Lane *destination;
    FrameReader to_source;
    FrameReader to_destination;
} LanePair;

static void pair_init(LanePair *pair, guint64 window)
{
    *pair = (LanePair){
        .source = lane_of(SESSION_SOURCE, window),
        .destination = lane_of(SESSION_DESTINATION, window),
    };
}

static void lane_pair_clear(LanePair *pair)
{
    lane_free(pair->source);
    lane_free(pair->destination);
    frame_reader_clear(&pair->to_source);
    frame_reader_clear(&pair->to_destination);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LanePair, lane_pair_clear)

static void deliver(Lane *to, const Frame *frame)
{
    g_auto(HelloBody) hello = { 0 };
    g_autoptr(GError) error = NULL;

    if (frame->header.type != FRAME_HELLO) {
        lane_on_frame(to, frame);
    } else if (!hello_body_decode(frame->body, &hello, &error) ||
               !lane_judge_hello(to, &hello, proof, &error) ||
               !lane_on_hello(to, &hello, &error)) {
        fail_msg("HELLO: %s", error->message);
    }
}

/* Moves one piece; FALSE if there is none. */
static gboolean move(Lane *from, Lane *to, FrameReader *reader)
{
    g_auto(Frame) frame = { 0 };
    gboolean complete;
    const guint8 *bytes;
    guint8 *space;
    gsize len;

    lane_settle(from);
    len = lane_output(from, &bytes);
    if (len == 0)
        return FALSE;
    len = MIN(len, frame_reader_space(reader, &space));
    memcpy(space, bytes, len);
    lane_output_done(from, len);
    assert_true(frame_reader_advance(reader, len, &frame, &complete, NULL));
    if (complete)
        deliver(to, &frame);
    return TRUE;
}

static void move_all(LanePair *pair)
{
    while (move(pair->source, pair->destination, &pair->to_destination) ||
           move(pair->destination, pair->source, &pair->to_source))
        ;
}

static void pair_open(LanePair *pair, guint64 window)
{
    pair_init(pair, window);
    assert_true(lane_on_channel_up(pair->source, proof, NULL));
    assert_lane(pair->source, LANE_HELLO_SENT);
    move_all(pair);
    assert_lane(pair->source, LANE_OPEN);
    assert_lane(pair->destination, LANE_OPEN);
}

static void pages_go_one_way_and_requests_the_other(void **state)
{
    g_auto(LanePair) pair;
    FrameType type;
    GBytes *body;

    pair_open(&pair, WINDOW);
    assert_int_equal(lane_kind(pair.source), CHANNEL_PREEMPT);
    for (gsize i = 1; i <= 3; i++) {
        guint8 *buf = g_malloc(FRAME_HEADER_LEN + i * 1000);

        memset(buf + FRAME_HEADER_LEN, i, i * 1000);
        lane_send(pair.source, FRAME_PAGES, buf, i * 1000);
    }
    send_zeros(pair.destination, FRAME_REQUEST, 16);
    assert_true(lane_next_seq(pair.source) == 3);
    assert_true(lane_sent_bytes(pair.source) == 6000);
    move_all(&pair);
    assert_true(lane_acked_bytes(pair.source) == 0);

    for (gsize i = 1; i <= 3; i++) {
        assert_true(lane_consumed_seq(pair.destination) == i - 1);
        body = lane_received(pair.destination, &type);
        assert_non_null(body);
        assert_int_equal(type, FRAME_PAGES);
        assert_int_equal(g_bytes_get_size(body), i * 1000);
        assert_int_equal(*(const guint8 *)g_bytes_get_data(body, NULL), i);
        lane_consume(pair.destination);
    }
    assert_true(lane_consumed_seq(pair.destination) == 3);
    assert_null(lane_received(pair.destination, &type));
    assert_non_null(lane_received(pair.source, &type));
    assert_int_equal(type, FRAME_REQUEST);
    lane_consume(pair.source);
    move_all(&pair);
    assert_true(lane_acked_bytes(pair.source) == 6000);
    assert_true(lane_acked_bytes(pair.destination) == 16);
    assert_string_equal(lane_reason(pair.source), "");
}

static void full_window_stops_sending_until_an_ack(void **state)
{
    g_auto(LanePair) pair;

    pair_open(&pair, FRAME_PAGES_MAX + 100);
    assert_int_equal(lane_send_room(pair.source), FRAME_PAGES_MAX);
    send_zeros(pair.source, FRAME_PAGES, FRAME_PAGES_MAX);
    assert_int_equal(lane_send_room(pair.source), 100);
    send_zeros(pair.source, FRAME_PAGES, 100);
    assert_int_equal(lane_send_room(pair.source), 0);
    move_all(&pair);
    assert_int_equal(lane_send_room(pair.source), 0);
    lane_consume(pair.destination);
    move_all(&pair);
    assert_int_equal(lane_send_room(pair.source), FRAME_PAGES_MAX);
    assert_lane(pair.source, LANE_OPEN);
}

static void smaller_window_of_both_counts(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_autoptr(Lane) lane = lane_of(side, WINDOW);
        HelloBody hello = good_hello();

        hello.window = FRAME_PAGES_MAX;
        if (side == SESSION_SOURCE) {
            lane_on_channel_up(lane, proof, NULL);
            feed(lane, frame_new_hello_ack(
                           &(HelloAckBody){ 1, FEATURES, FRAME_PAGES_MAX, FALSE, 0 }));
        } else {
            lane_on_hello(lane, &hello, NULL);
        }
        send_zeros(lane, side == SESSION_SOURCE ? FRAME_PAGES : FRAME_REQUEST, 64);
        assert_int_equal(lane_send_room(lane), FRAME_PAGES_MAX - 64);
    }
}

/* ---- opening ---- */

static void hello_says_what_the_lane_is(void **state)
{
    g_autoptr(Lane) lane = lane_of(SESSION_SOURCE, WINDOW);
    g_autoptr(GBytes) body = NULL;
    HelloBody hello, expected = good_hello();
    const guint8 *bytes;
    gsize len;

    assert_null(lane_received(lane, &(FrameType){ 0 }));
    assert_int_equal(lane_send_room(lane), 0);
    lane_on_channel_up(lane, proof, NULL);
    len = lane_output(lane, &bytes);
    assert_int_equal(bytes[4], FRAME_HELLO);
    body = g_bytes_new(bytes + FRAME_HEADER_LEN, len - FRAME_HEADER_LEN);
    assert_true(hello_body_decode(body, &hello, NULL));
    assert_int_equal(hello.kind, expected.kind);
    assert_int_equal(hello.channel, expected.channel);
    assert_true(hello.features == FEATURES && hello.window == WINDOW);
    assert_memory_equal(hello.session, expected.session, HELLO_SESSION_LEN);
    assert_true(hello_auth_equal(&hello, proof));
}

static void bad_hello_is_judged_and_changes_nothing(void **state)
{
    static const struct {
        gsize offset;
        gsize len;
        const char *bytes;
        HelloError code;
        const char *names;
    } rows[] = {
        { G_STRUCT_OFFSET(HelloBody, version_max), 2, "\0\0", HELLO_ERROR_VERSION, "versions" },
        { G_STRUCT_OFFSET(HelloBody, session), 1, "\x12", HELLO_ERROR_SESSION, "session id" },
        { G_STRUCT_OFFSET(HelloBody, kind), 1, "\x00", HELLO_ERROR_KIND, "(main)" },
        { G_STRUCT_OFFSET(HelloBody, kind), 1, "\x02", HELLO_ERROR_KIND, "(bulk)" },
        { G_STRUCT_OFFSET(HelloBody, channel), 2, "\0\0", HELLO_ERROR_KIND,
          "the preempt channel is 1" },
        { G_STRUCT_OFFSET(HelloBody, features), 8, "\0\0\0\0\0\0\0\0", HELLO_ERROR_PROTOCOL,
          "HELLO features 0x0 are not those of the main channel, 0x" },
        { G_STRUCT_OFFSET(HelloBody, window), 8, "\0\0\0\0\0\0\0\0", HELLO_ERROR_PROTOCOL,
          "HELLO window 0" },
        { G_STRUCT_OFFSET(HelloBody, auth), 1, "\xff", HELLO_ERROR_TOKEN, "wrong proof" },
        { G_STRUCT_OFFSET(HelloBody, auth) + 31, 1, "\x01", HELLO_ERROR_TOKEN, "wrong proof" },
        { G_STRUCT_OFFSET(HelloBody, auth_len), 2, "\0\0", HELLO_ERROR_TOKEN, "wrong proof" },
    };
    g_autoptr(Lane) lane = lane_of(SESSION_DESTINATION, WINDOW);
    HelloBody good = good_hello();

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        HelloBody hello = good;
        g_autoptr(GError) error = NULL;

        memcpy((char *)&hello + rows[i].offset, rows[i].bytes, rows[i].len);
        assert_false(lane_judge_hello(lane, &hello, proof, &error));
        assert_contains(error->message, rows[i].names);
        assert_true(g_error_matches(error, HELLO_ERROR, rows[i].code));
        assert_lane(lane, LANE_NONE);
    }
    assert_true(lane_judge_hello(lane, &good, proof, NULL));
    /* It may offer more than was agreed on. */
    good.features |= G_GUINT64_CONSTANT(1) << 63;
    assert_true(lane_judge_hello(lane, &good, proof, NULL));
}

static void second_channel_is_refused_even_with_its_proof(void **state)
{
    g_autoptr(Lane) lane = lane_of(SESSION_DESTINATION, WINDOW);
    HelloBody hello = good_hello();
    g_autoptr(GError) error = NULL;

    assert_true(lane_on_hello(lane, &hello, NULL));
    assert_lane(lane, LANE_OPEN);
    /* That shows that the source has its answer. */
    feed(lane, frame_new_ping(FRAME_PING, 1));
    assert_false(lane_judge_hello(lane, &hello, proof, &error));
    assert_true(g_error_matches(error, HELLO_ERROR, HELLO_ERROR_TOKEN_USED));

    /* A proof replayed from the first channel is not the one of this one, and that is all the peer
     * is told. */
    g_clear_error(&error);
    hello.auth[5] ^= 1;
    assert_false(lane_judge_hello(lane, &hello, proof, &error));
    assert_true(g_error_matches(error, HELLO_ERROR, HELLO_ERROR_TOKEN));
}

static void answer_must_agree_to_what_was_offered(void **state)
{
    static const struct {
        HelloAckBody ack;
        const char *names;
    } rows[] = {
        { { 2, FEATURES, WINDOW, FALSE, 0 }, "HELLO_ACK version 2" },
        { { 1, FEATURES | 1 << 30, WINDOW, FALSE, 0 },
          "HELLO_ACK features 0x40000000 were not offered" },
        { { 1, SESSION_FEATURE_RAM, WINDOW, FALSE, 0 }, "HELLO_ACK features 0x1 are not those" },
        { { 1, FEATURES, FRAME_PAGES_MAX - 1, FALSE, 0 }, "HELLO_ACK window 67583 is too small" },
        { { 1, FEATURES, WINDOW, TRUE, 0 }, "HELLO_ACK resumes, which HELLO did not" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Lane) lane = lane_of(SESSION_SOURCE, WINDOW);

        lane_on_channel_up(lane, proof, NULL);
        feed(lane, frame_new_hello_ack(&rows[i].ack));
        assert_lane(lane, LANE_FAILED);
        assert_contains(lane_reason(lane), rows[i].names);
        assert_contains(lane_reason(lane), "destination on the preempt channel");
    }
}

static void refusal_says_why(void **state)
{
    g_autoptr(Lane) lane = lane_of(SESSION_SOURCE, WINDOW);
    const guint8 *bytes;

    lane_on_channel_up(lane, proof, NULL);
    lane_output_done(lane, lane_output(lane, &bytes));
    feed(lane, frame_new_error(HELLO_ERROR_TOKEN, "wrong proof"));
    assert_lane(lane, LANE_FAILED);
    assert_string_equal(lane_reason(lane),
                        "the destination refused the preempt channel: wrong proof");
    assert_true(lane_is_through(lane));
    assert_int_equal(lane_output(lane, &bytes), 0);
}

/* ---- what breaks ---- */

/* Open, with the smallest window; one frame of 20 bytes was sent. */
static Lane *open_lane(SessionSide side)
{
    Lane *lane = lane_of(side, FRAME_PAGES_MAX);
    HelloBody hello = good_hello();
    const guint8 *bytes;
    gsize len;

    if (side == SESSION_SOURCE) {
        lane_on_channel_up(lane, proof, NULL);
        feed(lane, good_hello_ack());
    } else {
        lane_on_hello(lane, &hello, NULL);
    }
    send_zeros(lane, side == SESSION_SOURCE ? FRAME_PAGES : FRAME_REQUEST, 20);
    while ((len = lane_output(lane, &bytes)) > 0)
        lane_output_done(lane, len);
    return lane;
}

static void violation_fails_the_lane_and_names_the_field(void **state)
{
    static const guint8 zeros[FRAME_PAGES_MAX];
    static const struct {
        SessionSide side;
        FrameType type;
        guint64 seq;
        gsize len;
        const char *names;
    } rows[] = {
        { SESSION_DESTINATION, FRAME_PAGES, 1, 1, "frame sequence of PAGES is 1, expected 0" },
        { SESSION_SOURCE, FRAME_REQUEST, 7, 16, "frame sequence of REQUEST is 7, expected 0" },
        { SESSION_SOURCE, FRAME_PAGES, 0, 1, "PAGES goes to the destination only" },
        { SESSION_DESTINATION, FRAME_REQUEST, 0, 16, "REQUEST goes to the source only" },
        { SESSION_DESTINATION, FRAME_DATA, 0, 1, "DATA is not expected on the preempt channel" },
        { SESSION_DESTINATION, FRAME_BLOCKS, 0, 1, "BLOCKS is not expected" },
        { SESSION_DESTINATION, FRAME_PHASE, 0, 1, "PHASE is not expected" },
        { SESSION_DESTINATION, FRAME_RAM_END, 0, 16, "RAM_END is not expected" },
        { SESSION_DESTINATION, FRAME_QEMU_CHANNEL, 0, 1, "QEMU_CHANNEL is not expected" },
        { SESSION_DESTINATION, FRAME_EOF, 0, 0, "EOF is not expected" },
        { SESSION_SOURCE, FRAME_RESET, 0, 0, "RESET is not expected" },
        { SESSION_SOURCE, FRAME_PONG, 0, 8, "answers no PING" },
        { SESSION_SOURCE, FRAME_HELLO, 0, 9, "HELLO is not expected" },
        { SESSION_SOURCE, FRAME_HELLO_ACK, 0, 20, "HELLO_ACK is not expected" },
        { SESSION_SOURCE, FRAME_ERROR, 0, 4, "ERROR code is 0" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Lane) lane = open_lane(rows[i].side);
        const guint8 *bytes;

        feed(lane, frame_new(rows[i].type, rows[i].seq, zeros, rows[i].len));
        assert_lane(lane, LANE_FAILED);
        assert_contains(lane_reason(lane), rows[i].names);
        /* The peer is told the same. */
        assert_true(lane_output(lane, &bytes) > 0);
        assert_int_equal(bytes[4], FRAME_ERROR);
    }
}

static void wrong_acks_are_refused(void **state)
{
    static const struct {
        FrameAck ack;
        const char *names;
    } rows[] = {
        { { 2, 20 }, "ACK sequence is beyond what was sent: 2, expected 1" },
        { { 1, 19 }, "ACK bytes do not fit its sequence: 19, expected 20" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Lane) lane = open_lane(SESSION_SOURCE);

        feed(lane, frame_new_ack(&rows[i].ack));
        assert_lane(lane, LANE_FAILED);
        assert_contains(lane_reason(lane), rows[i].names);
    }
}

static void more_than_the_window_is_refused(void **state)
{
    static const guint8 zeros[FRAME_PAGES_MAX];
    g_autoptr(Lane) lane = open_lane(SESSION_DESTINATION);

    feed(lane, frame_new(FRAME_PAGES, 0, zeros, FRAME_PAGES_MAX));
    assert_lane(lane, LANE_OPEN);
    feed(lane, frame_new(FRAME_PAGES, 1, zeros, 1));
    assert_lane(lane, LANE_FAILED);
    assert_contains(lane_reason(lane), "67585 bytes in flight are more than the window of 67584");
    assert_null(lane_received(lane, &(FrameType){ 0 }));
}

static void more_requests_than_allowed_are_refused(void **state)
{
    static const guint8 zeros[16];
    g_autoptr(Lane) lane = open_lane(SESSION_SOURCE);

    for (guint i = 0; i <= SESSION_FRAMES_MAX; i++) {
        assert_lane(lane, LANE_OPEN);
        feed(lane, frame_new(FRAME_REQUEST, i, zeros, sizeof zeros));
    }
    assert_lane(lane, LANE_FAILED);
    assert_contains(lane_reason(lane), "4097 frames in flight");
}

static void channel_that_is_gone_fails_the_lane(void **state)
{
    g_auto(LanePair) pair;
    g_autoptr(Lane) early = lane_of(SESSION_SOURCE, WINDOW);

    pair_open(&pair, WINDOW);
    lane_on_channel_gone(pair.source, "connection reset by peer");
    assert_lane(pair.source, LANE_FAILED);
    assert_string_equal(lane_reason(pair.source), "connection reset by peer");
    assert_true(lane_is_through(pair.source));
    assert_int_equal(lane_send_room(pair.source), 0);
    send_zeros(pair.source, FRAME_PAGES, 10);
    assert_true(lane_sent_bytes(pair.source) == 0);

    lane_on_channel_gone(early, "no route to host");
    assert_lane(early, LANE_FAILED);
    assert_string_equal(lane_reason(early), "no route to host");
}

static void bad_bytes_fail_the_lane_and_the_peer_is_told(void **state)
{
    g_auto(LanePair) pair;
    g_autoptr(GError) error =
        g_error_new_literal(FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER, "unknown frame type 99");

    pair_open(&pair, WINDOW);
    lane_on_bad_frame(pair.destination, error);
    assert_lane(pair.destination, LANE_FAILED);
    move_all(&pair);
    assert_lane(pair.source, LANE_FAILED);
    assert_string_equal(lane_reason(pair.source),
                        "error at the destination on the preempt channel: unknown frame type 99");
}

static void ping_is_answered(void **state)
{
    g_autoptr(Lane) lane = open_lane(SESSION_DESTINATION);
    const guint8 *bytes;

    feed(lane, frame_new_ping(FRAME_PING, 7));
    assert_int_equal(lane_output(lane, &bytes), FRAME_HEADER_LEN + 8);
    assert_int_equal(bytes[4], FRAME_PONG);
    assert_int_equal(bytes[FRAME_HEADER_LEN + 7], 7);
}

/* ---- the end ---- */

static void finished_lane_sends_what_is_left_and_bye(void **state)
{
    g_auto(LanePair) pair;

    pair_open(&pair, WINDOW);
    send_zeros(pair.source, FRAME_PAGES, 10);
    lane_finish(pair.source);
    assert_lane(pair.source, LANE_ENDED);
    assert_int_equal(lane_send_room(pair.source), 0);
    assert_false(lane_is_through(pair.source));
    move_all(&pair);
    /* The other end answers BYE, and what came before it is not lost. */
    assert_lane(pair.destination, LANE_ENDED);
    assert_true(lane_is_through(pair.destination));
    assert_true(lane_is_through(pair.source));
    assert_non_null(lane_received(pair.destination, &(FrameType){ 0 }));
    lane_consume(pair.destination);
    assert_true(lane_consumed_seq(pair.destination) == 1);
    lane_finish(pair.destination);
    lane_on_channel_lost(pair.destination, "closed");
    assert_lane(pair.destination, LANE_ENDED);
    assert_string_equal(lane_reason(pair.destination), "");
}

static void lane_finished_before_its_answer_says_bye_after_it(void **state)
{
    g_autoptr(Lane) lane = lane_of(SESSION_SOURCE, WINDOW);
    const guint8 *bytes;

    lane_on_channel_up(lane, proof, NULL);
    lane_output_done(lane, lane_output(lane, &bytes));
    lane_finish(lane);
    assert_lane(lane, LANE_ENDED);
    assert_int_equal(lane_output(lane, &bytes), 0);
    feed(lane, good_hello_ack());
    assert_int_equal(lane_output(lane, &bytes), FRAME_HEADER_LEN);
    assert_int_equal(bytes[4], FRAME_BYE);
    lane_output_done(lane, FRAME_HEADER_LEN);
    feed(lane, good_hello_ack());
    assert_int_equal(lane_output(lane, &bytes), 0);
    assert_false(lane_is_through(lane));
    feed(lane, frame_new(FRAME_BYE, 0, NULL, 0));
    assert_true(lane_is_through(lane));
}

static void lane_that_never_opened_has_nothing_to_finish(void **state)
{
    for (int side = 0; side < SESSION_SIDE_MAX; side++) {
        g_autoptr(Lane) lane = lane_of(side, WINDOW);
        const guint8 *bytes;

        lane_finish(lane);
        assert_lane(lane, LANE_NONE);
        assert_int_equal(lane_output(lane, &bytes), 0);
    }
}

/* ---- the table ---- */

static Lane *lane_in_state(SessionSide side, LaneState wanted)
{
    Lane *lane;

    if (wanted == LANE_NONE || wanted == LANE_HELLO_SENT) {
        lane = lane_of(side, WINDOW);
        if (wanted == LANE_HELLO_SENT)
            lane_on_channel_up(lane, proof, NULL);
        return lane;
    }
    lane = open_lane(side);
    if (wanted == LANE_ENDED)
        lane_finish(lane);
    else if (wanted == LANE_FAILED)
        lane_on_channel_gone(lane, "test");
    return lane;
}

static GBytes *frame_of_event(SessionSide side, LaneEvent event)
{
    static const guint8 zeros[16];

    switch (event) {
    case LANE_EV_FRAME_HELLO:
        return frame_new(FRAME_HELLO, 0, zeros, 1);
    case LANE_EV_FRAME_HELLO_ACK:
        return good_hello_ack();
    case LANE_EV_FRAME_RESUMED:
        return frame_new_hello_ack(&(HelloAckBody){ 1, FEATURES, WINDOW, TRUE, 0 });
    case LANE_EV_FRAME_ERROR:
        return frame_new_error(HELLO_ERROR_INTERNAL, "test");
    case LANE_EV_FRAME_CARRIED:
        return frame_new(side == SESSION_SOURCE ? FRAME_REQUEST : FRAME_PAGES, 0, zeros, 16);
    case LANE_EV_FRAME_ACK:
        return frame_new_ack(&(FrameAck){ 0, 0 });
    case LANE_EV_FRAME_PING:
    case LANE_EV_FRAME_PONG:
        return frame_new_ping(event == LANE_EV_FRAME_PING ? FRAME_PING : FRAME_PONG, 1);
    case LANE_EV_FRAME_BYE:
        return frame_new(FRAME_BYE, 0, NULL, 0);
    default:
        return frame_new(FRAME_DATA, 0, zeros, 1);
    }
}

/* What comes next is for a connection that was lost. */
static gboolean lose_if_open(Lane *lane)
{
    if (lane_state(lane) != LANE_OPEN)
        return FALSE;
    lane_on_channel_lost(lane, "test");
    return TRUE;
}

static void feed_event(Lane *lane, SessionSide side, LaneEvent event)
{
    g_autoptr(GError) cause = g_error_new_literal(FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER, "test");
    HelloBody hello = good_hello();

    switch (event) {
    case LANE_EV_CHANNEL_UP:
        lose_if_open(lane);
        lane_on_channel_up(lane, proof, NULL);
        break;
    case LANE_EV_HELLO:
    case LANE_EV_HELLO_AGAIN:
    case LANE_EV_HELLO_RESUME:
        hello.resume = event == LANE_EV_HELLO_RESUME;
        lane_on_hello(lane, &hello, NULL);
        break;
    case LANE_EV_SEND:
        send_zeros(lane, side == SESSION_SOURCE ? FRAME_PAGES : FRAME_REQUEST, 16);
        break;
    case LANE_EV_CONSUME:
        lane_consume(lane);
        break;
    case LANE_EV_FINISH:
        lane_finish(lane);
        break;
    case LANE_EV_CHANNEL_LOST:
        lane_on_channel_lost(lane, "test");
        break;
    case LANE_EV_CHANNEL_GONE:
        lane_on_channel_gone(lane, "test");
        break;
    case LANE_EV_FRAME_RESUMED:
        if (side == SESSION_SOURCE && lose_if_open(lane))
            lane_on_channel_up(lane, proof, NULL);
        feed(lane, frame_of_event(side, event));
        break;
    case LANE_EV_BAD_FRAME:
        lane_on_bad_frame(lane, cause);
        break;
    default:
        feed(lane, frame_of_event(side, event));
    }
}

static void request_does_not_come_on_a_bulk_channel(void **state)
{
    g_autoptr(Lane) lane = lane_of_kind(SESSION_SOURCE, WINDOW, CHANNEL_BULK, 3);
    FrameType type;

    assert_string_equal(lane_name(lane), "bulk-3");
    assert_int_equal(lane_number(lane), 3);
    feed_event(lane, SESSION_SOURCE, LANE_EV_CHANNEL_UP);
    feed_event(lane, SESSION_SOURCE, LANE_EV_FRAME_HELLO_ACK);
    assert_lane(lane, LANE_OPEN);
    feed_event(lane, SESSION_SOURCE, LANE_EV_FRAME_CARRIED);
    assert_lane(lane, LANE_FAILED);
    assert_contains(lane_reason(lane), "REQUEST does not go on bulk channels");
    assert_null(lane_received(lane, &type));
}

static void every_event_is_a_row_or_refused(void **state)
{
    guint rows = 0, refused = 0;

    for (SessionSide side = 0; side < SESSION_SIDE_MAX; side++) {
        for (LaneState at = 0; at < LANE_STATE_MAX; at++) {
            for (LaneEvent event = 0; event < LANE_EVENT_MAX; event++) {
                g_autoptr(Lane) lane = NULL;
                LaneState next = at;
                gboolean joined = at == LANE_HELLO_SENT || at == LANE_OPEN;

                if (at == LANE_HELLO_SENT && side == SESSION_DESTINATION)
                    continue;
                /* The same HELLO is HELLO_AGAIN when it is not the first. */
                if (event == LANE_EV_HELLO_AGAIN && at == LANE_NONE)
                    continue;
                lane = lane_in_state(side, at);
                assert_lane(lane, at);
                if (lane_has_row(side, at, event, &next))
                    rows++;
                else if (joined && event >= LANE_EV_FRAME_HELLO)
                    next = LANE_FAILED; /* a protocol error */
                else
                    refused++;
                /* A PONG without a PING breaks the rule of its row. */
                if (event == LANE_EV_FRAME_PONG && at == LANE_OPEN)
                    next = LANE_FAILED;
                feed_event(lane, side, event);
                if (lane_state(lane) != next)
                    fail_msg("%s, %s in %s: %s, expected %s", session_side_name(side),
                             lane_event_name(event), lane_state_name(at),
                             lane_state_name(lane_state(lane)), lane_state_name(next));
                if (next == LANE_FAILED)
                    assert_true(*lane_reason(lane));
            }
        }
    }
    assert_true(rows > 60 && refused > 30);
}

static void refused_event_names_itself_and_the_state(void **state)
{
    g_autoptr(Lane) lane = lane_of(SESSION_DESTINATION, WINDOW);
    g_autoptr(GError) error = NULL;

    assert_false(lane_on_channel_up(lane, proof, &error));
    assert_true(g_error_matches(error, SESSION_ERROR, SESSION_ERROR_STATE));
    assert_contains(error->message, "channel-up");
    assert_contains(error->message, "state none");
    for (LaneEvent event = 0; event < LANE_EVENT_MAX; event++)
        assert_non_null(lane_event_name(event));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_go_one_way_and_requests_the_other),
        cmocka_unit_test(request_does_not_come_on_a_bulk_channel),
        cmocka_unit_test(full_window_stops_sending_until_an_ack),
        cmocka_unit_test(smaller_window_of_both_counts),
        cmocka_unit_test(hello_says_what_the_lane_is),
        cmocka_unit_test(bad_hello_is_judged_and_changes_nothing),
        cmocka_unit_test(second_channel_is_refused_even_with_its_proof),
        cmocka_unit_test(answer_must_agree_to_what_was_offered),
        cmocka_unit_test(refusal_says_why),
        cmocka_unit_test(violation_fails_the_lane_and_names_the_field),
        cmocka_unit_test(wrong_acks_are_refused),
        cmocka_unit_test(more_than_the_window_is_refused),
        cmocka_unit_test(more_requests_than_allowed_are_refused),
        cmocka_unit_test(channel_that_is_gone_fails_the_lane),
        cmocka_unit_test(bad_bytes_fail_the_lane_and_the_peer_is_told),
        cmocka_unit_test(ping_is_answered),
        cmocka_unit_test(finished_lane_sends_what_is_left_and_bye),
        cmocka_unit_test(lane_finished_before_its_answer_says_bye_after_it),
        cmocka_unit_test(lane_that_never_opened_has_nothing_to_finish),
        cmocka_unit_test(every_event_is_a_row_or_refused),
        cmocka_unit_test(refused_event_names_itself_and_the_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
