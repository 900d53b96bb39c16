/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Batches that are compressed: given to the worker in the order of the channels' turns, taken back in that
 * order, and kept for their channels until these have room. */
#include "config.h"

#include "ram/page_sender_priv.h"

G_STATIC_ASSERT(PAGE_JOBS_MAX > 2 * COMPRESS_THREADS_MAX);

guint page_sender_jobs(const PageSender *s)
{
    guint jobs = 0;

    for (guint i = 0; i < s->n_channels; i++)
        jobs += s->channels[i].jobs;
    return jobs;
}

void page_sender_collect_jobs(PageSender *s)
{
    CompressJob job;

    while (s->n_jobs > 0 && compress_worker_take(s->config.worker, &job)) {
        PageChannel *channel = &s->channels[s->job_channels[s->job_first]];
        CompressJob *done = g_new(CompressJob, 1);

        *done = job;
        s->job_first = (s->job_first + 1) % PAGE_JOBS_MAX;
        s->n_jobs--;
        g_queue_push_tail(&channel->ready, done);
    }
}

/* One channel has all of them; of several each has its share, and none that cannot send what it has. */
static guint jobs_max(const PageSender *s, const PageChannel *channel)
{
    guint most = compress_worker_jobs_max(s->config.worker);

    if (s->n_channels == 1)
        return most;
    return page_channel_may_send(s, channel) ? MAX(most / s->n_channels, 2) : 0;
}

gboolean page_sender_takes_job(const PageSender *s, const PageChannel *channel)
{
    return channel->jobs < jobs_max(s, channel) &&
           s->n_jobs < compress_worker_jobs_max(s->config.worker);
}

void page_sender_submit(PageSender *s, PageChannel *channel, guint8 *buf, gsize len, guint pages)
{
    PagesEncoding encoding = pages_encoding_choose(session_features(s->session));

    if (!compress_worker_submit(s->config.worker, encoding, buf, len, pages))
        g_error("the compressor refuses a job");
    s->job_channels[(s->job_first + s->n_jobs) % PAGE_JOBS_MAX] = (guint8)(channel - s->channels);
    s->n_jobs++;
    channel->jobs++;
}

gboolean page_sender_waits_for_worker(const PageSender *s)
{
    if (s->n_jobs == 0)
        return FALSE;
    for (guint i = 0; i < s->n_channels; i++) {
        if (s->channels[i].jobs > 0 && page_channel_may_send(s, &s->channels[i]))
            return TRUE;
    }
    return FALSE;
}
