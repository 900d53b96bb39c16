/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Continuous checkpoints (COLO): the guest runs on both hosts, and the destination's memory goes
 * its own way between two checkpoints. So what the source sends goes into a second copy of RAM, the
 * cache. When a checkpoint is complete it is committed: every page that either guest has written
 * since the last one is copied from the cache into the guest's memory. When the source is lost the
 * cache is dropped, and the destination's guest goes on with what it has.
 *
 *   FILLING ──► LOADING ──commit──► FLUSHING ──► LOADING ...
 *
 * Fill and flush work in steps, so that a thread that has other things to do can do them. While
 * flushing, the guest's memory is of neither checkpoint: a failover then has to finish the flush
 * first, which takes nothing from the source. As much memory as the guest has, as it is touched. One
 * thread. */
#pragma once

#include "ram/mapped/dirty_log.h"
#include "ram/mapped/guest_memory.h"
#include "ram/qemu_stream.h"

typedef enum { COLO_CACHE_FILLING, COLO_CACHE_LOADING, COLO_CACHE_FLUSHING } ColoCacheState;

typedef struct {
    guint64 checkpoints;    /* flushed to the end */
    guint64 pages_loaded;   /* target pages, from the source */
    guint64 pages_diverged; /* that the destination's guest has written between checkpoints, without
                             * those that the source had sent as well; counted at the commit */
    guint64 pages_flushed;
    guint64 pages_pending;  /* in the cache and perhaps not the same in the guest's memory */
} ColoCacheStats;

typedef struct ColoCache ColoCache;

/* memory and log (of the destination's guest) are borrowed. Blocks that are ignored have no copy. */
ColoCache *colo_cache_new(GuestMemory *memory, DirtyLog *log, GError **error);
/* Dropped: what was loaded and not committed is forgotten. */
void colo_cache_free(ColoCache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoCache, colo_cache_free)

ColoCacheState colo_cache_state(const ColoCache *cache);
void colo_cache_get_stats(const ColoCache *cache, ColoCacheStats *ret_stats);

/* FILLING: copies about max_bytes more of the guest's memory, which is not written to meanwhile.
 * *ret_done: all of it, and the log begins anew; the guest may run. */
gboolean colo_cache_fill(ColoCache *cache, guint64 max_bytes, gboolean *ret_done, GError **error);

/* LOADING: a page (RAW, ZERO or XBZRLE: to what the cache has) of the next checkpoint.
 * RAM_ERROR_PROTOCOL: not a page of a block that has a copy, not one of these kinds, or a broken
 * difference. */
gboolean colo_cache_load(ColoCache *cache, const QemuPage *page, GError **error);

/* LOADING → FLUSHING: the checkpoint is complete, and the destination's guest has stopped. What it
 * has written is read from the log (MemoryClientOps.log_sync comes before, for a log that asks the
 * client). */
gboolean colo_cache_commit(ColoCache *cache, GError **error);
/* FLUSHING: copies about max_bytes more into the guest's memory. *ret_done: all of it, which is the
 * checkpoint now; the log begins anew, the guest may run, and the next checkpoint may come. */
gboolean colo_cache_flush(ColoCache *cache, guint64 max_bytes, gboolean *ret_done, GError **error);
