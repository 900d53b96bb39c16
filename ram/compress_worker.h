/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The threads that compress PAGES bodies, so that the relay's thread never stands still for it.
 *
 * Each job goes to the next thread in turn, and results are taken in the same turn: they come in the order of
 * the jobs. One thread submits and takes; it can poll a descriptor. */
#pragma once

#include "ram/job_limits.h"
#include "ram/page_frames.h"

#define COMPRESS_THREADS_MAX JOB_COMPRESSION_THREADS_MAX

typedef struct {
    guint8 *bytes;  /* reserve, then the body; g_free() */
    gsize body_len;
    gsize plain_len; /* of the body that was submitted */
    PagesEncoding encoding; /* PAGES_PLAIN: it did not get smaller, bytes is the plain body */
    guint target_pages;
} CompressJob;

typedef struct CompressWorker CompressWorker;

typedef struct {
    PagesLevels levels;
    guint threads; /* 1 to COMPRESS_THREADS_MAX */
    gsize reserve; /* bytes left free in front of every body */
} CompressConfig;

CompressWorker *compress_worker_new(const CompressConfig *config, GError **error);
/* Waits for the threads. */
void compress_worker_free(CompressWorker *worker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CompressWorker, compress_worker_free)

/* Readable while the oldest job is done. Another one after each take: ask again. */
int compress_worker_fd(const CompressWorker *worker);
/* Jobs under way, or done and not taken, at most: each thread has one and a few wait. */
guint compress_worker_jobs_max(const CompressWorker *worker);
/* Takes bytes (a buffer from pages_batch_finish()), to be compressed with encoding. FALSE, and nothing is
 * taken: compress_worker_jobs_max(). */
gboolean compress_worker_submit(CompressWorker *worker, PagesEncoding encoding, guint8 *bytes,
                                gsize body_len, guint target_pages);
/* The oldest job if it is done; its bytes are the caller's. */
gboolean compress_worker_take(CompressWorker *worker, CompressJob *ret_job);
/* Submitted and not taken. */
guint compress_worker_pending(const CompressWorker *worker);
