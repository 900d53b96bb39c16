/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/frame_queue.h"

#include <string.h>

#define BYTES_MAX (128 * 1024)

typedef struct {
    gboolean is_barrier; /* nothing else, then */
    FrameType type;
    guint8 *buf; /* FRAME_HEADER_LEN, then the body */
    gsize len;   /* of the body */
    gsize room;
} QueuedFrame;

static void queued_frame_free(gpointer data)
{
    QueuedFrame *frame = data;

    g_free(frame->buf);
    g_free(frame);
}

void frame_queue_init(FrameQueue *queue)
{
    g_queue_init(&queue->frames);
    queue->bytes = 0;
}

void frame_queue_clear(FrameQueue *queue)
{
    g_queue_clear_full(&queue->frames, queued_frame_free);
    queue->bytes = 0;
}

static QueuedFrame *queue_begin(FrameQueue *queue, FrameType type, gsize room)
{
    QueuedFrame *frame = g_new(QueuedFrame, 1);

    *frame = (QueuedFrame){ .type = type, .buf = g_malloc(FRAME_HEADER_LEN + room), .room = room };
    g_queue_push_tail(&queue->frames, frame);
    return frame;
}

static void queue_append(FrameQueue *queue, QueuedFrame *frame, const guint8 *bytes, gsize len)
{
    if (len)
        memcpy(frame->buf + FRAME_HEADER_LEN + frame->len, bytes, len);
    frame->len += len;
    queue->bytes += len;
}

void frame_queue_put_data(FrameQueue *queue, const guint8 *bytes, gsize len)
{
    QueuedFrame *tail = queue->frames.tail ? queue->frames.tail->data : NULL;

    while (len > 0) {
        gsize n;

        if (!tail || tail->type != FRAME_DATA || tail->len == tail->room)
            tail = queue_begin(queue, FRAME_DATA, FRAME_DATA_MAX);
        n = MIN(len, tail->room - tail->len);
        queue_append(queue, tail, bytes, n);
        bytes += n;
        len -= n;
    }
}

void frame_queue_put(FrameQueue *queue, FrameType type, const guint8 *body, gsize len)
{
    queue_append(queue, queue_begin(queue, type, len), body, len);
}

void frame_queue_put_first(FrameQueue *queue, FrameType type, const guint8 *body, gsize len)
{
    frame_queue_put(queue, type, body, len);
    g_queue_push_head_link(&queue->frames, g_queue_pop_tail_link(&queue->frames));
}

void frame_queue_put_barrier(FrameQueue *queue)
{
    QueuedFrame *barrier = g_new0(QueuedFrame, 1);

    barrier->is_barrier = TRUE;
    g_queue_push_tail(&queue->frames, barrier);
}

gboolean frame_queue_at_barrier(const FrameQueue *queue)
{
    const QueuedFrame *front = queue->frames.head ? queue->frames.head->data : NULL;

    return front && front->is_barrier;
}

void frame_queue_pass_barrier(FrameQueue *queue)
{
    g_return_if_fail(frame_queue_at_barrier(queue));
    queued_frame_free(g_queue_pop_head(&queue->frames));
}

gboolean frame_queue_is_full(const FrameQueue *queue)
{
    return queue->bytes >= BYTES_MAX;
}

gboolean frame_queue_is_empty(const FrameQueue *queue)
{
    return queue->frames.length == 0;
}

void frame_queue_send(FrameQueue *queue, Session *session, Flow *flow, gint64 now_us)
{
    while (queue->frames.length > 0 && !frame_queue_at_barrier(queue)) {
        QueuedFrame *frame = queue->frames.head->data;

        if ((flow && flow_room(flow) == 0) || session_send_room(session) < frame->len)
            return;
        g_queue_pop_head(&queue->frames);
        queue->bytes -= frame->len;
        if (flow)
            flow_on_sent(flow, frame->len, now_us);
        session_send(session, frame->type, g_steal_pointer(&frame->buf), frame->len);
        queued_frame_free(frame);
    }
}
