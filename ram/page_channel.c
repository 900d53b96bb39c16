/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The channels that background pages go on: the main one, which is the session's, and bulk channels. */
#include "config.h"

#include "ram/page_sender_priv.h"

void page_channel_init(PageChannel *channel, Lane *lane, guint64 window)
{
    FlowConfig flow = { .max = window };

    *channel = (PageChannel){ .lane = lane, .flow = flow_new(&flow) };
    g_queue_init(&channel->ready);
}

static void job_free(gpointer data)
{
    CompressJob *job = data;

    g_free(job->bytes);
    g_free(job);
}

void page_channel_clear(PageChannel *channel)
{
    flow_free(channel->flow);
    g_queue_clear_full(&channel->ready, job_free);
}

/* Where there are others, nothing is put behind a connection that is not there. */
static gboolean is_lost(const PageSender *s, const PageChannel *channel)
{
    if (channel->lane)
        return lane_is_lost(channel->lane);
    return s->n_channels > 1 && session_is_lost(s->session);
}

static gsize send_room(const PageSender *s, const PageChannel *channel)
{
    return channel->lane ? lane_send_room(channel->lane) : session_send_room(s->session);
}

/* A huge page that is wanted and has begun goes on whatever is in flight. */
gboolean page_channel_may_send(const PageSender *s, const PageChannel *channel)
{
    return send_room(s, channel) >= PAGES_HEAD_LEN + PAGES_PLAIN_MAX &&
           (flow_room(channel->flow) > 0 || channel->rush) && !is_lost(s, channel);
}

void page_channel_send(PageSender *s, PageChannel *channel, guint8 *buf, gsize len, gint64 now_us)
{
    flow_on_sent(channel->flow, len, now_us);
    if (channel->lane)
        lane_send(channel->lane, FRAME_PAGES, buf, len);
    else
        session_send(s->session, FRAME_PAGES, buf, len);
}

guint64 page_channel_acked(const PageSender *s, const PageChannel *channel)
{
    return channel->lane ? lane_acked_bytes(channel->lane) : session_acked_bytes(s->session);
}

gboolean page_channel_is_acked(const PageSender *s, const PageChannel *channel)
{
    guint64 sent = channel->lane ? lane_sent_bytes(channel->lane) : session_sent_bytes(s->session);

    return page_channel_acked(s, channel) == sent;
}
