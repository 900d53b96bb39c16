/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames that wait for room on the main channel, in order. Bytes of QEMU's stream that follow each other
 * share a DATA frame. Pure. */
#pragma once

#include "ram/flow.h"
#include "tls/session.h"

typedef struct {
    GQueue frames;  /* of QueuedFrame */
    gsize bytes;    /* of bodies */
} FrameQueue;

void frame_queue_init(FrameQueue *queue);
void frame_queue_clear(FrameQueue *queue);

/* QEMU's bytes: copied. */
void frame_queue_put_data(FrameQueue *queue, const guint8 *bytes, gsize len);
/* Copied. */
void frame_queue_put(FrameQueue *queue, FrameType type, const guint8 *body, gsize len);

/* The same, but before all others. */
void frame_queue_put_first(FrameQueue *queue, FrameType type, const guint8 *body, gsize len);

/* What is put in from now on waits until the barrier is taken away. */
void frame_queue_put_barrier(FrameQueue *queue);
/* Everything before the oldest barrier is sent. */
gboolean frame_queue_at_barrier(const FrameQueue *queue);
/* Takes it away. */
void frame_queue_pass_barrier(FrameQueue *queue);

/* QEMU, whose bytes they are, should not be read: they wait for the main channel. */
gboolean frame_queue_is_full(const FrameQueue *queue);

/* A barrier is something. */
gboolean frame_queue_is_empty(const FrameQueue *queue);

/* Sends what goes: up to a barrier, as long as the session has room for the next frame and flow (NULL:
 * not asked) does. */
void frame_queue_send(FrameQueue *queue, Session *session, Flow *flow, gint64 now_us);
