/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much background data may be in flight.
 *
 * Whatever is in flight beyond one bandwidth-delay product only stands in queues, and a requested
 * page stands behind it. So the rate and the round trip are measured from the peer's
 * acknowledgements, and the limit follows them: enough to keep the link busy, plus a small standing
 * queue (FLOW_QUEUE_TARGET bytes) that shows that it is.
 *
 * Pure; time is an argument, monotonic microseconds, never going back. One thread. */
#pragma once

#include <glib.h>

#define FLOW_LIMIT_MIN (32 * 1024) /* bytes: below this the overhead of waking up is what limits */

typedef struct {
    guint64 max;          /* bytes: the limit never goes beyond this window */
    guint64 queue_target; /* bytes of standing queue that are aimed at; 0: the default */
} FlowConfig;

typedef struct Flow Flow;

Flow *flow_new(const FlowConfig *config);
void flow_free(Flow *flow);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Flow, flow_free)

/* Bytes that may be sent now: 0 when the limit is reached. May exceed the room by what one frame
 * takes: a sender asks before each frame. */
guint64 flow_room(const Flow *flow);
/* len more bytes were handed to the channel. */
void flow_on_sent(Flow *flow, gsize len, gint64 now_us);
/* The sender had nothing to send although there was room: what follows says nothing of the link. */
void flow_on_idle(Flow *flow);
/* The peer has acknowledged acked_total bytes of all that were ever sent. */
void flow_on_acked(Flow *flow, guint64 acked_total, gint64 now_us);

typedef struct {
    guint64 limit;       /* bytes */
    guint64 in_flight;   /* bytes */
    guint64 rate;        /* bytes/s, the highest of late; 0: not measured yet */
    guint64 rtt_us;      /* smoothed */
    guint64 rtt_min_us;  /* the lowest of late: without queues */
} FlowStats;

void flow_get_stats(const Flow *flow, FlowStats *ret_stats);
