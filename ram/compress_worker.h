/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One thread that compresses PAGES bodies, so that the relay's thread never stands still for it.
 *
 * Results come in the order of the jobs. One thread submits and takes; it can poll a descriptor. */
#pragma once

#include "ram/page_frames.h"

/* Jobs under way or done and not taken, at most. */
#define COMPRESS_JOBS_MAX 8

typedef struct {
    guint8 *bytes;  /* reserve, then the body; g_free() */
    gsize body_len;
    gsize plain_len; /* of the body that was submitted */
    gboolean compressed; /* FALSE: it did not get smaller, bytes is the plain body */
    guint target_pages;
} CompressJob;

typedef struct CompressWorker CompressWorker;

/* level: zstd's, 1 to 19. reserve: bytes left free in front of every body. */
CompressWorker *compress_worker_new(int level, gsize reserve, GError **error);
/* Waits for the thread. */
void compress_worker_free(CompressWorker *worker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CompressWorker, compress_worker_free)

/* Readable while the oldest job is done. */
int compress_worker_fd(const CompressWorker *worker);
/* Takes bytes (a buffer from pages_batch_finish()). FALSE, and nothing is taken: COMPRESS_JOBS_MAX. */
gboolean compress_worker_submit(CompressWorker *worker, guint8 *bytes, gsize body_len,
                                guint target_pages);
/* The oldest job if it is done; its bytes are the caller's. */
gboolean compress_worker_take(CompressWorker *worker, CompressJob *ret_job);
/* Submitted and not taken. */
guint compress_worker_pending(const CompressWorker *worker);
