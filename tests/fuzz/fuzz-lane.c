/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the other end of an open preempt channel may send. The first byte chooses the side, whether
 * what comes is consumed, answered, or the lane is finished before it, and whether a HELLO is
 * another connection: at the destination it is that one's, and at the source, which gets none, the
 * moment when it has lost the one before and dials. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "tls/lane.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MODE_SOURCE 1
#define MODE_CONSUME 2
#define MODE_ANSWER 4
#define MODE_FINISH 8
#define MODE_RESUME 16

static const guint8 proof[HELLO_PROOF_LEN];

static Lane *open_lane(gboolean source)
{
    LaneConfig config = {
        .side = source ? SESSION_SOURCE : SESSION_DESTINATION,
        .kind = CHANNEL_PREEMPT,
        .channel = 1,
        .window = FRAME_PAGES_MAX,
        .features = SESSION_FEATURES_ALL,
    };
    HelloBody hello = { .version_min = 1, .version_max = 1, .features = SESSION_FEATURES_ALL,
                        .window = FRAME_PAGES_MAX };
    Lane *lane = lane_new(&config);

    if (source) {
        HelloAckBody body = { 1, SESSION_FEATURES_ALL, FRAME_PAGES_MAX, FALSE, 0 };
        g_autoptr(GBytes) whole = frame_new_hello_ack(&body);
        g_auto(Frame) ack = { { FRAME_HELLO_ACK, 0, 20 },
                              g_bytes_new_from_bytes(whole, FRAME_HEADER_LEN, 20) };

        lane_on_channel_up(lane, proof, NULL);
        lane_on_frame(lane, &ack);
    } else {
        lane_on_hello(lane, &hello, NULL);
    }
    g_assert(lane_state(lane) == LANE_OPEN);
    lane_send(lane, source ? FRAME_PAGES : FRAME_REQUEST, g_malloc0(FRAME_HEADER_LEN + 20), 20);
    return lane;
}

static void another_connection(Lane *lane, gboolean source, const Frame *frame)
{
    g_auto(HelloBody) hello = { 0 };

    if (source) {
        lane_on_channel_lost(lane, "lost");
        if (lane_is_lost(lane))
            g_assert(lane_on_channel_up(lane, proof, NULL));
        return;
    }
    if (!hello_body_decode(frame->body, &hello, NULL))
        return;
    memset(hello.session, 0, sizeof hello.session);
    memset(hello.auth, 0, sizeof hello.auth);
    hello.auth_len = HELLO_PROOF_LEN;
    hello.kind = CHANNEL_PREEMPT;
    hello.channel = 1;
    if (lane_judge_hello(lane, &hello, proof, NULL)) {
        g_assert(lane_on_hello(lane, &hello, NULL));
        g_assert(!lane_is_lost(lane));
    }
}

static void channel_takes(Lane *lane)
{
    const guint8 *bytes;
    gsize len;

    lane_settle(lane);
    while ((len = lane_output(lane, &bytes)) > 0)
        lane_output_done(lane, len);
}

static void react(Lane *lane, guint8 mode)
{
    FrameType type;
    GBytes *body = mode & MODE_CONSUME ? lane_received(lane, &type) : NULL;

    if (body) {
        g_assert(type == (mode & MODE_SOURCE ? FRAME_REQUEST : FRAME_PAGES));
        g_assert(g_bytes_get_size(body) > 0);
        lane_consume(lane);
    }
    if (mode & MODE_ANSWER)
        channel_takes(lane);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(Lane) lane = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(FrameReader) reader = { 0 };
    SessionStats stats;
    guint8 mode;

    if (size < 1)
        return 0;
    mode = *data++;
    lane = open_lane(mode & MODE_SOURCE);
    channel_takes(lane);
    if (mode & MODE_FINISH)
        lane_finish(lane);
    frame_reader_init(&reader, FALSE);

    for (size--; size > 0 && !error;) {
        g_auto(Frame) frame = { 0 };
        gboolean complete = FALSE;
        guint8 *space;
        gsize n = MIN(frame_reader_space(&reader, &space), size);

        memcpy(space, data, n);
        data += n;
        size -= n;
        if (!frame_reader_advance(&reader, n, &frame, &complete, &error))
            lane_on_bad_frame(lane, error);
        else if (complete && (mode & MODE_RESUME) && frame.header.type == FRAME_HELLO)
            another_connection(lane, mode & MODE_SOURCE, &frame);
        else if (complete)
            lane_on_frame(lane, &frame);
        react(lane, mode);
    }
    lane_get_stats(lane, &stats);
    g_assert(stats.held_high <= FRAME_PAGES_MAX && stats.in_flight_high <= FRAME_PAGES_MAX);
    if (lane_state(lane) == LANE_FAILED)
        g_assert(*lane_reason(lane) && lane_is_through(lane));
    if (error)
        g_assert(lane_is_through(lane));
    channel_takes(lane);
    return 0;
}
