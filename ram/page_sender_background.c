/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages that nobody waits for yet: how much of them in a frame, compressed or not, and when. */
#include "config.h"

#include "ram/page_sender_priv.h"

/* A frame is not interrupted, so it must be short: so many of what goes over the link in a second. */
#define FRAMES_PER_SECOND 8000
#define PLAIN_MIN (16 * 1024)

/* Compressed frames become shorter by themselves, and better with more at a time. */
#define PLAIN_TO_COMPRESS (60 * 1024)

static gboolean next_page(PageSender *s, PageChannel *channel)
{
    Sending *sending = &channel->sending;

    if (!sending->busy)
        sending->busy = s->supply->ops->next(s->supply, &sending->page);
    return sending->busy;
}

/* Pages in the order of the supply, up to max bytes. NULL: none. */
static guint8 *next_batch(PageSender *s, PageChannel *channel, gsize max, gsize *ret_len,
                          guint *ret_pages)
{
    g_auto(PagesBatch) batch = { 0 };

    page_sender_begin(s, &batch);
    while (next_page(s, channel) && page_sender_add(s, &batch, &channel->sending, max)) {
        page_sender_done(s, &channel->sending, FALSE);
        channel->rush = FALSE;
    }
    if (batch.len == 0)
        return NULL;
    *ret_pages = batch.target_pages;
    return pages_batch_finish(&batch, ret_len);
}

static void send_pages(PageSender *s, PageChannel *channel, guint8 *buf, gsize len,
                       gsize plain_len, guint pages, gint64 now_us)
{
    s->stats.pages_background += pages;
    s->stats.plain_bytes += plain_len;
    s->stats.encoded_bytes += len;
    flow_on_sent(channel->flow, len, now_us);
    session_send(s->session, FRAME_PAGES, buf, len);
}

/* A huge page that is wanted and has begun goes on whatever is in flight. */
gboolean page_sender_may_send(const PageSender *s, const PageChannel *channel)
{
    return session_send_room(s->session) >= PAGES_HEAD_LEN + PAGES_PLAIN_MAX &&
           (flow_room(channel->flow) > 0 || channel->rush);
}

static gsize plain_frame_max(const PageChannel *channel)
{
    FlowStats flow;

    flow_get_stats(channel->flow, &flow);
    return CLAMP(flow.rate / FRAMES_PER_SECOND, PLAIN_MIN, PAGES_PLAIN_MAX);
}

/* There is room, and nothing to send. */
static gboolean note_empty(PageSender *s, PageChannel *channel)
{
    flow_on_idle(channel->flow);
    compress_policy_on_empty(&s->policy);
    return TRUE;
}

static gboolean send_plain(PageSender *s, PageChannel *channel, gint64 now_us)
{
    gsize max = plain_frame_max(channel);

    while (page_sender_may_send(s, channel)) {
        gsize len;
        guint pages;
        guint8 *buf = next_batch(s, channel, max, &len, &pages);

        if (!buf)
            return note_empty(s, channel);
        send_pages(s, channel, buf, len, len, pages, now_us);
    }
    return FALSE;
}

/* ---- compressed ---- */

guint page_sender_jobs(const PageSender *s)
{
    return s->config.worker ? compress_worker_pending(s->config.worker) : 0;
}

static void submit_jobs(PageSender *s, PageChannel *channel)
{
    PagesEncoding encoding = pages_encoding_choose(session_features(s->session));

    while (page_sender_jobs(s) < compress_worker_jobs_max(s->config.worker)) {
        gsize len;
        guint pages;
        guint8 *buf = next_batch(s, channel, PLAIN_TO_COMPRESS, &len, &pages);

        if (!buf)
            return;
        if (!compress_worker_submit(s->config.worker, encoding, buf, len, pages))
            g_error("the compressor refuses a job");
    }
}

static void send_job(PageSender *s, PageChannel *channel, const CompressJob *job, gint64 now_us)
{
    s->jobs_sent++;
    compress_policy_on_result(&s->policy, job->plain_len, job->body_len);
    if (job->encoding != PAGES_PLAIN) {
        s->stats.compressed_frames++;
        s->stats.encoding = job->encoding;
    }
    send_pages(s, channel, job->bytes, job->body_len, job->plain_len, job->target_pages, now_us);
}

/* What the compressor was given goes out first, in its order: pieces of a huge page may be among it. */
static gboolean send_jobs(PageSender *s, PageChannel *channel, gboolean go_on, gint64 now_us)
{
    CompressJob job;

    if (go_on)
        submit_jobs(s, channel);
    while (page_sender_jobs(s) > 0) {
        if (!page_sender_may_send(s, channel) || !compress_worker_take(s->config.worker, &job))
            return FALSE;
        send_job(s, channel, &job, now_us);
        if (go_on)
            submit_jobs(s, channel);
    }
    return go_on && note_empty(s, channel);
}

static gboolean is_compressing(PageSender *s, gint64 now_us)
{
    if (!s->config.worker || !(session_features(s->session) & SESSION_FEATURES_PACK))
        return FALSE;
    switch (s->config.compress) {
    case PAGE_COMPRESS_ON:
        return TRUE;
    case PAGE_COMPRESS_OFF:
        return FALSE;
    default:
        return compress_policy_decide(&s->policy, s->stats.plain_bytes, now_us);
    }
}

gboolean page_sender_send(PageSender *s, gint64 now_us)
{
    gboolean compressing = is_compressing(s, now_us);
    gboolean empty = FALSE;

    if (compressing || page_sender_jobs(s) > 0)
        empty = send_jobs(s, &s->main, compressing, now_us);
    if (!compressing && page_sender_jobs(s) == 0)
        empty = send_plain(s, &s->main, now_us);
    return empty;
}

gboolean page_sender_waits_for_worker(const PageSender *s)
{
    return page_sender_jobs(s) > 0 && page_sender_may_send(s, &s->main);
}
