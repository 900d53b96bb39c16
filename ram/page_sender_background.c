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

    if (!next_page(s, channel))
        return NULL;
    page_sender_begin(s, &batch);
    pages_batch_expect_many(&batch);
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
    page_channel_send(s, channel, buf, len, now_us);
}

static gsize plain_frame_max(const PageChannel *channel)
{
    FlowStats flow;

    flow_get_stats(channel->flow, &flow);
    return CLAMP(flow.rate / FRAMES_PER_SECOND, PLAIN_MIN, PAGES_PLAIN_MAX);
}

/* There is room, and nothing to send. */
static void note_empty(PageSender *s, PageChannel *channel)
{
    flow_on_idle(channel->flow);
    compress_policy_on_empty(&s->policy);
}

/* What a channel has done in its turn. */
typedef enum {
    TURN_SENT,    /* a frame */
    TURN_WAITS,   /* nothing: for room, or for the compressor */
    TURN_EMPTY,   /* nothing: there is none */
} Turn;

static Turn send_plain(PageSender *s, PageChannel *channel, gint64 now_us)
{
    gsize len;
    guint pages;
    guint8 *buf;

    if (!page_channel_may_send(s, channel))
        return TURN_WAITS;
    buf = next_batch(s, channel, plain_frame_max(channel), &len, &pages);
    if (!buf)
        return TURN_EMPTY;
    send_pages(s, channel, buf, len, len, pages, now_us);
    return TURN_SENT;
}

/* ---- compressed ---- */

static void submit_jobs(PageSender *s, PageChannel *channel)
{
    while (page_sender_takes_job(s, channel)) {
        gsize len;
        guint pages;
        guint8 *buf = next_batch(s, channel, PLAIN_TO_COMPRESS, &len, &pages);

        if (!buf)
            return;
        page_sender_submit(s, channel, buf, len, pages);
    }
}

static Turn send_job(PageSender *s, PageChannel *channel, gint64 now_us)
{
    g_autofree CompressJob *job = NULL;

    if (!page_channel_may_send(s, channel))
        return TURN_WAITS;
    job = g_queue_pop_head(&channel->ready);
    channel->jobs--;
    channel->jobs_sent++;
    compress_policy_on_result(&s->policy, job->plain_len, job->body_len);
    if (job->encoding != PAGES_PLAIN) {
        s->stats.compressed_frames++;
        s->stats.encoding = job->encoding;
    }
    send_pages(s, channel, job->bytes, job->body_len, job->plain_len, job->target_pages, now_us);
    return TURN_SENT;
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

/* What the compressor was given for a channel goes out first on it, in its order: pieces of a huge page may
 * be among it. */
static Turn take_turn(PageSender *s, PageChannel *channel, gboolean compressing, gint64 now_us)
{
    if (compressing)
        submit_jobs(s, channel);
    if (channel->ready.length > 0)
        return send_job(s, channel, now_us);
    if (channel->jobs > 0)
        return TURN_WAITS;
    if (!compressing)
        return send_plain(s, channel, now_us);
    return page_channel_may_send(s, channel) && !channel->sending.busy ? TURN_EMPTY : TURN_WAITS;
}

gboolean page_sender_send(PageSender *s, gint64 now_us)
{
    gboolean compressing = is_compressing(s, now_us);
    gboolean empty, sent;

    do {
        empty = sent = FALSE;
        /* For all channels, once before their turns: what is taken is sent, or waits for room. */
        page_sender_collect_jobs(s);
        for (guint i = 0; i < s->n_channels; i++) {
            PageChannel *channel = &s->channels[(s->turn + i) % s->n_channels];
            Turn turn = take_turn(s, channel, compressing, now_us);

            if (turn == TURN_EMPTY)
                note_empty(s, channel);
            sent |= turn == TURN_SENT;
            empty |= turn == TURN_EMPTY;
        }
    } while (sent);
    s->turn = (s->turn + 1) % s->n_channels;
    return empty;
}
