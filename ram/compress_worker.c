/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/compress_worker.h"

#include <glib/gi18n.h>
#include <poll.h>

#include "ram/mailbox.h"

/* Jobs beyond one for each thread: what the threads begin next, while results wait for the link. More of
 * them would be in front of a page that is requested a moment later. */
#define JOBS_WAITING 2

/* One thread. */
typedef struct {
    CompressWorker *worker;
    GThread *thread;
    PagesCompressor *compressor; /* the thread's */
    Mailbox *todo;
    Mailbox *done;
    CompressJob end; /* the last message to the thread */
} Hand;

struct CompressWorker {
    Hand *hands;
    guint n_hands;
    gsize reserve;
    guint pending; /* these are the owner's */
    guint next_in; /* whose turn it is */
    guint next_out;
    int stopping;  /* atomic: what is still to do is not worth doing */
};

static void job_free(gpointer message)
{
    CompressJob *job = message;

    g_free(job->bytes);
    g_free(job);
}

/* job's encoding is what it was submitted for. */
static void compress(Hand *hand, CompressJob *job)
{
    gsize reserve = hand->worker->reserve;
    gsize len;
    guint8 *bytes = pages_compress(hand->compressor, job->encoding, job->bytes + reserve,
                                   job->plain_len, reserve, &len);

    if (!bytes) {
        job->encoding = PAGES_PLAIN;
        return;
    }
    g_free(job->bytes);
    job->bytes = bytes;
    job->body_len = len;
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
    Hand *hand = data;
    CompressJob *job;

    while ((job = wait_for_job(hand->todo)) != &hand->end) {
        if (!g_atomic_int_get(&hand->worker->stopping))
            compress(hand, job);
        mailbox_post(hand->done, job);
    }
    return NULL;
}

static gboolean hand_start(Hand *hand, CompressWorker *worker, const PagesLevels *levels,
                           GError **error)
{
    hand->worker = worker;
    hand->compressor = pages_compressor_new(levels);
    hand->todo = mailbox_new(job_free, error);
    if (!hand->todo)
        return FALSE;
    hand->done = mailbox_new(job_free, error);
    if (!hand->done)
        return FALSE;
    hand->thread = g_thread_try_new("compress", compress_thread, hand, error);
    return hand->thread != NULL;
}

static void hand_clear(Hand *hand)
{
    if (hand->thread)
        g_thread_join(hand->thread);
    mailbox_free(hand->todo);
    mailbox_free(hand->done);
    pages_compressor_free(hand->compressor);
}

CompressWorker *compress_worker_new(const CompressConfig *config, GError **error)
{
    g_autoptr(CompressWorker) worker = g_new0(CompressWorker, 1);

    if (!pages_levels_check(&config->levels, error))
        return NULL;
    if (config->threads < 1 || config->threads > COMPRESS_THREADS_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("%u threads to compress with are out of range (1 to %d)"), config->threads,
                    COMPRESS_THREADS_MAX);
        return NULL;
    }
    worker->reserve = config->reserve;
    worker->hands = g_new0(Hand, config->threads);
    while (worker->n_hands < config->threads) {
        if (!hand_start(&worker->hands[worker->n_hands++], worker, &config->levels, error))
            return NULL;
    }
    return g_steal_pointer(&worker);
}

void compress_worker_free(CompressWorker *worker)
{
    if (!worker)
        return;
    g_atomic_int_set(&worker->stopping, 1);
    for (guint i = 0; i < worker->n_hands; i++) {
        if (worker->hands[i].thread)
            mailbox_post(worker->hands[i].todo, &worker->hands[i].end);
    }
    for (guint i = 0; i < worker->n_hands; i++)
        hand_clear(&worker->hands[i]);
    g_free(worker->hands);
    g_free(worker);
}

int compress_worker_fd(const CompressWorker *worker)
{
    return mailbox_fd(worker->hands[worker->next_out].done);
}

guint compress_worker_jobs_max(const CompressWorker *worker)
{
    return worker->n_hands + JOBS_WAITING;
}

gboolean compress_worker_submit(CompressWorker *worker, PagesEncoding encoding, guint8 *bytes,
                                gsize body_len, guint target_pages)
{
    CompressJob *job;

    if (worker->pending == compress_worker_jobs_max(worker))
        return FALSE;
    job = g_new(CompressJob, 1);
    *job = (CompressJob){
        .bytes = bytes,
        .body_len = body_len,
        .plain_len = body_len,
        .encoding = encoding,
        .target_pages = target_pages,
    };
    worker->pending++;
    mailbox_post(worker->hands[worker->next_in].todo, job);
    worker->next_in = (worker->next_in + 1) % worker->n_hands;
    return TRUE;
}

gboolean compress_worker_take(CompressWorker *worker, CompressJob *ret_job)
{
    CompressJob *job = mailbox_receive(worker->hands[worker->next_out].done);

    if (!job)
        return FALSE;
    worker->next_out = (worker->next_out + 1) % worker->n_hands;
    worker->pending--;
    *ret_job = *job;
    g_free(job);
    return TRUE;
}

guint compress_worker_pending(const CompressWorker *worker)
{
    return worker->pending;
}
