/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the engine counts. Pages are target pages; a side leaves at 0 what it cannot know. */
#pragma once

#include "ram/histogram.h"
#include "ram/page_frames.h"
#include "ram/uffd/block_time.h"
#include "ram/xbzrle_encoder.h"

#define RAM_STATS_THREADS 64

typedef struct {
    /* of this epoch, since the switch to post-copy */
    guint64 pages_normal;     /* with data */
    guint64 pages_zero;
    guint64 pages_background; /* on the main channel */
    guint64 pages_urgent;     /* on the preempt channel */
    guint64 pages_direct;     /* destination: placed in its QEMU's memory, of both */
    guint64 duplicates;       /* pages that came again and were dropped */
    guint64 pages_read;       /* source: read from its QEMU's memory */
    guint64 pages_dropped;    /* source: those that came on its stream as well, later */
    guint64 memory_bytes_read; /* source: for that, and to prove where it is */
    guint64 requests;         /* host pages that the destination QEMU asked for */
    guint64 requests_staged;  /* source: of them found in the stage */
    guint64 requests_asked;   /* source: of them passed on to the source QEMU */
    guint64 requests_read;    /* source: of them read from the source QEMU's memory */
    guint64 requests_late;    /* source: of them sent already */
    guint64 requests_outstanding; /* destination: asked for and not handed to QEMU yet */
    guint64 blocked_us; /* destination: at least one of them was outstanding */
    guint64 blocked_all_us;     /* of memory that is placed by userfaultfd: all threads that ever waited, at once */
    guint64 blocked_threads_us; /* the same: sum over these threads */
    guint64 blocked_threads;    /* and how many they are */
    guint n_blocked_longest;    /* of them; those that have waited longest */
    BlockTimeThread blocked_longest[RAM_STATS_THREADS];
    guint64 ram_bytes;  /* of all blocks; the destination knows it from the switch-over on */
    guint64 ram_remaining_bytes; /* from the switch-over on: not sent yet; not handed to QEMU yet */
    guint64 stage_bytes;
    guint64 stage_high_water;
    guint64 plain_bytes;      /* bodies of PAGES before compression */
    guint64 encoded_bytes;    /* and as they were sent: the ratio is plain / encoded */
    guint64 compressed_frames;
    PagesEncoding encoding;   /* of the last one of these */
    /* source of a mapped session */
    guint64 dirty_syncs;      /* of the dirty bitmaps */
    guint64 dirty_rate;       /* pages a second that were written anew, in the last period */
    guint64 dirty_rounds;     /* the first pass is none */
    guint64 page_rate;        /* pages a second that were sent, in the last second */
    guint64 setup_us;         /* until both sides were ready */
    guint64 downtime_us;      /* from when the guest was to stop until it ran on the other side */
    guint64 expected_downtime_us; /* if it were to stop now; G_MAXUINT64: not known */
    guint64 throttle_percent;
    guint64 hinted_pages;     /* free, so that they were not sent */
    guint64 discarded_pages;  /* that the destination was told to drop at the switch-over */
    guint64 released_bytes;   /* given back to the host */
    XbzrleStats xbzrle;
    guint64 checkpoints;      /* that are complete: the destination's guest was made what they are */
    guint64 diverged_pages;   /* that the destination's guest alone had written before one */
    /* the link, from the acknowledgements of the main channel */
    guint64 rate;             /* bytes/s */
    guint64 rtt_us;
    guint64 rtt_min_us;
    guint64 in_flight_limit;
    /* destination: from the request of a page until it was handed to QEMU */
    Histogram request_latency;
} RamStats;
