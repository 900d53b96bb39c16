/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the other end of an open preempt channel may send. The first byte chooses the side, and
 * whether what comes is consumed, answered, or the lane is finished before it. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "tls/lane.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MODE_SOURCE 1
#define MODE_CONSUME 2
#define MODE_ANSWER 4
#define MODE_FINISH 8

static Lane *open_lane(gboolean source)
{
    static const guint8 proof[HELLO_PROOF_LEN];
    LaneConfig config = {
        .side = source ? SESSION_SOURCE : SESSION_DESTINATION,
        .kind = CHANNEL_PREEMPT,
        .channel = 1,
        .window = FRAME_PAGES_MAX,
    };
    HelloBody hello = { .version_min = 1, .version_max = 1, .window = FRAME_PAGES_MAX };
    Lane *lane = lane_new(&config);

    if (source) {
        g_autoptr(GBytes) whole = frame_new_hello_ack(&(HelloAckBody){ 1, 0, FRAME_PAGES_MAX });
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
        else if (complete)
            lane_on_frame(lane, &frame);
        react(lane, mode);
    }
    if (lane_state(lane) == LANE_FAILED)
        g_assert(*lane_reason(lane) && lane_is_through(lane));
    if (error)
        g_assert(lane_is_through(lane));
    channel_takes(lane);
    return 0;
}
