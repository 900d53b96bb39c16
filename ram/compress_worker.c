/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/compress_worker.h"

#include <glib/gi18n.h>
#include <poll.h>

#include "ram/mailbox.h"

#define LEVEL_MIN 1
#define LEVEL_MAX 19

struct CompressWorker {
    GThread *thread;
    PagesCompressor *compressor; /* the thread's */
    gsize reserve;
    Mailbox *todo;
    Mailbox *done;
    guint pending;   /* the owner's */
    int stopping;    /* atomic: what is still to do is not worth doing */
    CompressJob end; /* the last message to the thread */
};

static void job_free(gpointer message)
{
    CompressJob *job = message;

    g_free(job->bytes);
    g_free(job);
}

static void compress(CompressWorker *worker, CompressJob *job)
{
    gsize len;
    guint8 *bytes = pages_compress(worker->compressor, job->bytes + worker->reserve,
                                   job->plain_len, worker->reserve, &len);

    if (!bytes)
        return;
    g_free(job->bytes);
    job->bytes = bytes;
    job->body_len = len;
    job->compressed = TRUE;
}

static CompressJob *wait_for_job(Mailbox *todo)
{
    struct pollfd fd = { .fd = mailbox_fd(todo), .events = POLLIN };
    CompressJob *job;

    while (!(job = mailbox_receive(todo)))
        poll(&fd, 1, -1);
    return job;
}

static gpointer compress_thread(gpointer data)
{
    CompressWorker *worker = data;
    CompressJob *job;

    while ((job = wait_for_job(worker->todo)) != &worker->end) {
        if (!g_atomic_int_get(&worker->stopping))
            compress(worker, job);
        mailbox_post(worker->done, job);
    }
    return NULL;
}

CompressWorker *compress_worker_new(int level, gsize reserve, GError **error)
{
    g_autoptr(CompressWorker) worker = g_new0(CompressWorker, 1);

    if (level < LEVEL_MIN || level > LEVEL_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("zstd level %d is out of range (%d to %d)"), level, LEVEL_MIN, LEVEL_MAX);
        return NULL;
    }
    worker->reserve = reserve;
    worker->compressor = pages_compressor_new(level);
    worker->todo = mailbox_new(job_free, error);
    if (!worker->todo)
        return NULL;
    worker->done = mailbox_new(job_free, error);
    if (!worker->done)
        return NULL;
    worker->thread = g_thread_try_new("compress", compress_thread, worker, error);
    return worker->thread ? g_steal_pointer(&worker) : NULL;
}

void compress_worker_free(CompressWorker *worker)
{
    if (!worker)
        return;
    if (worker->thread) {
        g_atomic_int_set(&worker->stopping, 1);
        mailbox_post(worker->todo, &worker->end);
        g_thread_join(worker->thread);
    }
    mailbox_free(worker->todo);
    mailbox_free(worker->done);
    pages_compressor_free(worker->compressor);
    g_free(worker);
}

int compress_worker_fd(const CompressWorker *worker)
{
    return mailbox_fd(worker->done);
}

gboolean compress_worker_submit(CompressWorker *worker, guint8 *bytes, gsize body_len,
                                guint target_pages)
{
    CompressJob *job;

    if (worker->pending == COMPRESS_JOBS_MAX)
        return FALSE;
    job = g_new(CompressJob, 1);
    *job = (CompressJob){
        .bytes = bytes,
        .body_len = body_len,
        .plain_len = body_len,
        .target_pages = target_pages,
    };
    worker->pending++;
    mailbox_post(worker->todo, job);
    return TRUE;
}

gboolean compress_worker_take(CompressWorker *worker, CompressJob *ret_job)
{
    CompressJob *job = mailbox_receive(worker->done);

    if (!job)
        return FALSE;
    worker->pending--;
    *ret_job = *job;
    g_free(job);
    return TRUE;
}

guint compress_worker_pending(const CompressWorker *worker)
{
    return worker->pending;
}
