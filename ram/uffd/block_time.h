/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long the guest's threads wait for pages: each one, all of them at once, and any of them. Thread ids are the
 * kernel's, as faults name them. Pure; one thread. */
#pragma once

#include "ram/histogram.h"

#define BLOCK_TIME_THREADS_MAX 4096

typedef struct BlockTime BlockTime;

BlockTime *block_time_new(void);
void block_time_free(BlockTime *times);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlockTime, block_time_free)

/* The vCPUs' threads, if they are known: from now on "all" means these. Without it, or of none, every thread
 * that has waited so far. */
void block_time_set_vcpus(BlockTime *times, const guint32 *threads, guint n, gint64 now_us);

/* thread begins to wait for a host page. Again for the same one: no change; for another one: it was woken
 * without the page, and waits for this one from now on. thread 0 (not known) counts as one thread. */
void block_time_begin(BlockTime *times, guint32 thread, guint block, guint64 offset,
                      gint64 now_us);
/* The page is there: every thread that waits for it goes on. How many these were. */
guint block_time_end(BlockTime *times, guint block, guint64 offset, gint64 now_us);
/* The same for all of [offset, offset + length). */
guint block_time_end_range(BlockTime *times, guint block, guint64 offset, guint64 length,
                           gint64 now_us);

typedef struct {
    guint threads;       /* that have waited so far, or are vCPUs */
    guint waiting;       /* now */
    guint64 total_us;    /* sum over the threads */
    guint64 all_us;      /* all of them at the same time */
    guint64 any_us;      /* at least one */
    Histogram latency;   /* of single waits */
} BlockTimeStats;

void block_time_get_stats(const BlockTime *times, gint64 now_us, BlockTimeStats *ret_stats);
typedef struct {
    guint32 id;
    guint64 waited_us; /* in all, with the wait under way */
} BlockTimeThread;

/* Those that have waited longest, the longest first: at most max of them. How many these are. */
guint block_time_longest(const BlockTime *times, gint64 now_us, BlockTimeThread *ret_threads,
                         guint max);
