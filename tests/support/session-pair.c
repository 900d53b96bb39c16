/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/session-pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

/* What QEMU is read with: less than this is not worth a frame while the window is nearly full. */
#define ROOM_LEAST (FRAME_DATA_MAX / 4)

guint8 pair_byte(guint32 seed, guint64 at)
{
    return (guint8)((at * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) + seed) >> 29);
}

static void end_init(PairEnd *end, SessionSide side, guint64 window, guint64 features)
{
    SessionConfig config = { .side = side, .window = window, .features = features };

    memset(config.id, 0x11, sizeof config.id);
    memset(config.token, 0x22, sizeof config.token);
    *end = (PairEnd){ .session = session_new(&config), .link = g_byte_array_new() };
    frame_reader_init(&end->reader, side == SESSION_DESTINATION);
    end->greeted = side == SESSION_SOURCE;
    session_start(end->session, NULL);
}

void session_pair_init_features(SessionPair *pair, guint64 source_window,
                                guint64 destination_window, guint32 seed, PairFeatures features)
{
    pair->rand = g_rand_new_with_seed(seed);
    end_init(&pair->source, SESSION_SOURCE, source_window, features.source);
    end_init(&pair->destination, SESSION_DESTINATION, destination_window, features.destination);
    pair->source.send_seed = pair->destination.receive_seed = 1;
    pair->destination.send_seed = pair->source.receive_seed = 2;
}

void session_pair_init(SessionPair *pair, guint64 source_window, guint64 destination_window,
                       guint32 seed)
{
    session_pair_init_features(pair, source_window, destination_window, seed,
                               (PairFeatures){ 0, 0 });
}

static void end_clear(PairEnd *end)
{
    session_free(end->session);
    frame_reader_clear(&end->reader);
    g_byte_array_unref(end->link);
    g_clear_error(&end->refused);
}

void session_pair_clear(SessionPair *pair)
{
    end_clear(&pair->source);
    end_clear(&pair->destination);
    g_rand_free(pair->rand);
}

void pair_act(PairEnd *end)
{
    SessionActions actions = session_take_actions(end->session);

    end->seen |= actions;
    if (actions & SESSION_DO_SHUT_QEMU)
        end->shut = TRUE;
    if (actions & SESSION_DO_CLOSE_QEMU)
        end->closed = TRUE;
}

gboolean pair_send(SessionPair *pair, PairEnd *from, gsize most)
{
    PairEnd *to = from == &pair->source ? &pair->destination : &pair->source;
    const guint8 *bytes;
    gsize len;

    session_settle(from->session);
    len = MIN(session_output(from->session, &bytes), most);
    if (len == 0)
        return FALSE;
    if (!from->link_cut)
        g_byte_array_append(to->link, bytes, len);
    session_output_done(from->session, len);
    pair_act(from);
    return TRUE;
}

gsize pair_under_way(const PairEnd *at)
{
    return at->link->len - at->link_done;
}

static void take_hello(PairEnd *at, const Frame *frame)
{
    g_auto(HelloBody) hello = { 0 };

    if (hello_body_decode(frame->body, &hello, &at->refused) &&
        session_judge_hello(at->session, &hello, NULL, &at->refused) &&
        session_on_hello(at->session, &hello, &at->refused))
        at->greeted = TRUE;
}

gboolean pair_receive(SessionPair *pair, PairEnd *at, gsize most)
{
    g_auto(Frame) frame = { 0 };
    g_autoptr(GError) error = NULL;
    gboolean complete;
    guint8 *space;
    gsize len = MIN(MIN(frame_reader_space(&at->reader, &space), most), pair_under_way(at));

    if (len == 0 || at->refused)
        return FALSE;
    memcpy(space, at->link->data + at->link_done, len);
    at->link_done += len;
    if (pair_under_way(at) == 0) {
        g_byte_array_set_size(at->link, 0);
        at->link_done = 0;
    }
    if (!frame_reader_advance(&at->reader, len, &frame, &complete, &error)) {
        frame_reader_clear(&at->reader);
        session_on_bad_frame(at->session, error);
    } else if (complete && !at->greeted) {
        take_hello(at, &frame);
    } else if (complete) {
        session_on_frame(at->session, &frame);
    }
    pair_act(at);
    return TRUE;
}

gboolean pair_qemu_read(PairEnd *end, gsize most)
{
    gsize room = MIN(session_send_room(end->session), FRAME_DATA_MAX);
    gsize len = MIN(MIN(room, most), end->send_len - end->sent);

    if (end->closed || end->sent_eof || room < ROOM_LEAST)
        return FALSE;
    if (len == 0) {
        end->sent_eof = TRUE;
        session_on_qemu_eof(end->session, NULL);
    } else {
        guint8 *buf = g_malloc(FRAME_HEADER_LEN + len);

        for (gsize i = 0; i < len; i++)
            buf[FRAME_HEADER_LEN + i] = pair_byte(end->send_seed, end->sent + i);
        end->sent += len;
        session_send(end->session, FRAME_DATA, buf, len);
    }
    pair_act(end);
    return TRUE;
}

gboolean pair_qemu_write(PairEnd *end, gsize most)
{
    FrameType type;
    GBytes *body = session_received(end->session, &type);
    const guint8 *bytes;
    gsize size, len;

    if (!body || type != FRAME_DATA || end->closed)
        return FALSE;
    bytes = g_bytes_get_data(body, &size);
    len = MIN(size - end->front_done, most);
    for (gsize i = 0; i < len; i++) {
        if (bytes[end->front_done + i] != pair_byte(end->receive_seed, end->received + i))
            end->received_wrong = TRUE;
    }
    end->received += len;
    end->front_done += len;
    if (end->front_done == size) {
        end->front_done = 0;
        session_consume(end->session);
    }
    pair_act(end);
    return TRUE;
}

void pair_send_frame(PairEnd *end, FrameType type, gsize body_len)
{
    session_send(end->session, type, g_malloc0(FRAME_HEADER_LEN + body_len), body_len);
}

void pair_inject(PairEnd *at, GBytes *frame)
{
    gsize size;
    const guint8 *bytes = g_bytes_get_data(frame, &size);

    g_byte_array_append(at->link, bytes, size);
    g_bytes_unref(frame);
}

static gboolean one_step(SessionPair *pair, guint which, gsize most)
{
    PairEnd *end = which & 1 ? &pair->source : &pair->destination;

    switch (which >> 1) {
    case 0:
        return pair_send(pair, end, most);
    case 1:
        return pair_receive(pair, end, most);
    case 2:
        return pair_qemu_read(end, most);
    default:
        return pair_qemu_write(end, most);
    }
}

static gboolean any_step(SessionPair *pair, gsize most)
{
    for (guint which = 0; which < 8; which++) {
        if (one_step(pair, which, most))
            return TRUE;
    }
    return FALSE;
}

void session_pair_run(SessionPair *pair, gsize most)
{
    gboolean moved = TRUE;

    while (moved) {
        guint idle = 0;

        /* A run of steps of one kind now and then: delays, bursts, full windows. */
        while (idle < 16) {
            guint which = g_rand_int_range(pair->rand, 0, 8);
            guint times = g_rand_int_range(pair->rand, 0, 8) ? 1 : 200;
            gsize bytes = g_rand_int_range(pair->rand, 1, most + 1);
            gboolean any = FALSE;

            while (times-- && one_step(pair, which, bytes))
                any = TRUE;
            idle = any ? 0 : idle + 1;
        }
        moved = any_step(pair, most);
    }
}

void session_pair_drain(SessionPair *pair)
{
    while (pair_send(pair, &pair->source, G_MAXSIZE) ||
           pair_send(pair, &pair->destination, G_MAXSIZE) ||
           pair_receive(pair, &pair->source, G_MAXSIZE) ||
           pair_receive(pair, &pair->destination, G_MAXSIZE))
        ;
}

void session_pair_activate(SessionPair *pair)
{
    session_on_channel_up(pair->source.session, NULL, NULL);
    session_pair_drain(pair);
    session_on_qemu_attached(pair->destination.session, NULL);
    session_pair_drain(pair);
    session_on_qemu_attached(pair->source.session, NULL);
    pair_act(&pair->source);
    pair_act(&pair->destination);
}

void session_pair_begin(SessionPair *pair, guint64 window, PairFeatures features)
{
    session_pair_init_features(pair, window, window, 1, features);
    session_pair_activate(pair);
}

Frame frame_from(GBytes *whole)
{
    gsize body_len = g_bytes_get_size(whole) - FRAME_HEADER_LEN;
    Frame frame;

    assert_true(frame_header_decode(g_bytes_get_data(whole, NULL), &frame.header, NULL));
    frame.body = g_bytes_new_from_bytes(whole, FRAME_HEADER_LEN, body_len);
    g_bytes_unref(whole);
    return frame;
}

void assert_state(const PairEnd *end, SessionState expected)
{
    SessionState state = session_state(end->session);

    if (state != expected)
        fail_msg("state is %s (%s), expected %s", session_state_name(state),
                 session_reason(end->session), session_state_name(expected));
}

void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text, part);
}
