/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sender's life, what is waited for, and what it can be asked. */
#include "config.h"

#include "ram/page_sender_priv.h"

PageSender *page_sender_new(const PageSenderConfig *config, PageSupply *supply,
                            const RamBlocks *blocks, Session *session)
{
    PageSender *s = g_new0(PageSender, 1);

    s->config = *config;
    s->supply = supply;
    s->blocks = blocks;
    s->session = session;
    page_channel_init(&s->channels[s->n_channels++], NULL, config->window);
    compress_policy_init(&s->policy);
    return s;
}

void page_sender_free(PageSender *s)
{
    if (!s)
        return;
    page_sender_done(s, &s->urgent, TRUE);
    for (guint i = 0; i < s->n_channels; i++) {
        page_sender_done(s, &s->channels[i].sending, FALSE);
        page_channel_clear(&s->channels[i]);
    }
    g_free(s);
}

void page_sender_set_lane(PageSender *s, Lane *lane)
{
    s->lane = lane;
}

void page_sender_add_bulk(PageSender *s, Lane *lane)
{
    g_return_if_fail(s->n_channels < G_N_ELEMENTS(s->channels));
    page_channel_init(&s->channels[s->n_channels++], lane, s->config.window);
}

/* ---- a host page into a batch ---- */

static void count_records(PageSender *s, const QemuPage *page, guint n)
{
    s->pages += n;
    if (page->kind == QEMU_PAGE_ZERO)
        s->stats.pages_zero += n;
    else
        s->stats.pages_normal += n;
}

/* The record that goes next, and zeros that follow it. Returns how many fit. */
static guint add_records(PageSender *s, PagesBatch *batch, const Sending *sending,
                         const QemuPage *page)
{
    const PageSupplyOps *ops = s->supply->ops;
    gsize target = ram_blocks_target_page(s->blocks);

    if (page->kind == QEMU_PAGE_ZERO && ops->zeros)
        return pages_batch_add_zeros(batch, page,
                                     ops->zeros(s->supply, &sending->page, sending->next), target);
    return pages_batch_add(batch, page, target);
}

void page_sender_begin(const PageSender *s, PagesBatch *batch)
{
    pages_batch_init(batch, FRAME_HEADER_LEN);
    if (session_features(s->session) & SESSION_FEATURE_RUNS)
        pages_batch_use_runs(batch);
}

gboolean page_sender_add(PageSender *s, PagesBatch *batch, Sending *sending, gsize max)
{
    gsize target = ram_blocks_target_page(s->blocks);

    while (sending->next < sending->page.n_records) {
        QemuPage page = { 0 };
        guint n;

        if (!s->supply->ops->record(s->supply, &sending->page, sending->next, &page)) {
            sending->next++;
            continue;
        }
        page.block = sending->page.block;
        page.offset = sending->page.offset + (guint64)sending->next * target;
        if (batch->len > 0 && batch->len + page.data_len + PAGES_RECORD_HEAD_LEN > max)
            return FALSE;
        n = add_records(s, batch, sending, &page);
        if (n == 0)
            return FALSE;
        sending->begun = TRUE;
        sending->next += n;
        count_records(s, &page, n);
    }
    return TRUE;
}

void page_sender_done(PageSender *s, Sending *sending, gboolean urgent)
{
    if (!sending->busy)
        return;
    s->supply->ops->done(s->supply, &sending->page, urgent);
    *sending = (Sending){ 0 };
}

/* ---- urgent ---- */

static gboolean next_urgent(PageSender *s)
{
    if (s->urgent.busy)
        return TRUE;
    s->urgent = (Sending){ 0 };
    s->urgent.busy = s->supply->ops->next_urgent(s->supply, &s->urgent.page);
    return s->urgent.busy;
}

static void send_urgent_batch(PageSender *s, PagesBatch *batch)
{
    gsize len;
    guint8 *buf;

    s->stats.pages_urgent += batch->target_pages;
    buf = pages_batch_finish(batch, &len);
    s->stats.plain_bytes += len;
    s->stats.encoded_bytes += len;
    lane_send(s->lane, FRAME_PAGES, buf, len);
}

/* One host page to a frame, if it fits: it shall not wait for others. */
void page_sender_send_urgent(PageSender *s)
{
    while (lane_send_room(s->lane) >= PAGES_HEAD_LEN + PAGES_PLAIN_MAX && next_urgent(s)) {
        g_auto(PagesBatch) batch = { 0 };

        page_sender_begin(s, &batch);
        if (page_sender_add(s, &batch, &s->urgent, PAGES_PLAIN_MAX))
            page_sender_done(s, &s->urgent, TRUE);
        if (batch.len > 0)
            send_urgent_batch(s, &batch);
    }
}

/* ---- what the link says ---- */

void page_sender_update(PageSender *s, gint64 now_us)
{
    for (guint i = 0; i < s->n_channels; i++)
        flow_on_acked(s->channels[i].flow, page_channel_acked(s, &s->channels[i]), now_us);
}

Flow *page_sender_main_flow(PageSender *s)
{
    return s->channels[0].flow;
}

/* ---- a page that is waited for now ---- */

static gboolean is_sending(const PageSender *s, const Sending *sending, guint block, guint64 offset)
{
    const SupplyPage *page = &sending->page;

    return sending->busy && page->block == block && offset >= page->offset &&
           (offset - page->offset) / ram_blocks_target_page(s->blocks) < page->n_records;
}

PageRecall page_sender_recall(PageSender *s, guint block, guint64 offset, SupplyPage *ret_page)
{
    PageChannel *channel = s->channels;
    PageChannel *end = channel + s->n_channels;

    while (channel < end && !is_sending(s, &channel->sending, block, offset))
        channel++;
    if (channel == end)
        return PAGE_RECALL_NONE;
    if (channel->sending.begun) {
        channel->rush = TRUE;
        return PAGE_RECALL_BEGUN;
    }
    *ret_page = channel->sending.page;
    channel->sending = (Sending){ 0 };
    return PAGE_RECALL_GIVEN;
}

/* ---- asking ---- */

gboolean page_sender_is_idle(const PageSender *s)
{
    for (guint i = 0; i < s->n_channels; i++) {
        if (s->channels[i].sending.busy)
            return FALSE;
    }
    return !s->urgent.busy && page_sender_jobs(s) == 0;
}

gboolean page_sender_lanes_are_acked(const PageSender *s)
{
    for (guint i = 1; i < s->n_channels; i++) {
        if (!page_channel_is_acked(s, &s->channels[i]))
            return FALSE;
    }
    return !s->lane || lane_acked_bytes(s->lane) == lane_sent_bytes(s->lane);
}

gboolean page_sender_is_acked(const PageSender *s)
{
    return page_channel_is_acked(s, &s->channels[0]) && page_sender_lanes_are_acked(s);
}

guint64 page_sender_acked_bytes(const PageSender *s)
{
    guint64 acked = 0;

    for (guint i = 0; i < s->n_channels; i++)
        acked += page_channel_acked(s, &s->channels[i]);
    return acked;
}

guint64 page_sender_pages(const PageSender *s)
{
    return s->pages;
}

void page_sender_ram_end(const PageSender *s, RamEnd *ret_end)
{
    *ret_end = (RamEnd){ .pages = s->pages, .preempt_seq = lane_next_seq(s->lane) };
    for (guint i = 1; i < s->n_channels; i++) {
        const Lane *lane = s->channels[i].lane;

        ret_end->n_bulk = MAX(ret_end->n_bulk, lane_number(lane));
        ret_end->bulk_seq[lane_number(lane) - 1] = lane_next_seq(lane);
    }
}

guint64 page_sender_plain_bytes(const PageSender *s)
{
    return s->stats.plain_bytes;
}

void page_sender_get_stats(const PageSender *s, RamStats *stats)
{
    FlowStats flow;

    stats->pages_normal = s->stats.pages_normal;
    stats->pages_zero = s->stats.pages_zero;
    stats->pages_background = s->stats.pages_background;
    stats->pages_urgent = s->stats.pages_urgent;
    stats->plain_bytes = s->stats.plain_bytes;
    stats->encoded_bytes = s->stats.encoded_bytes;
    stats->compressed_frames = s->stats.compressed_frames;
    stats->encoding = s->stats.encoding;
    stats->rate = stats->in_flight_limit = 0;
    for (guint i = s->n_channels; i-- > 0;) {
        flow_get_stats(s->channels[i].flow, &flow);
        stats->rate += flow.rate;
        stats->in_flight_limit += flow.limit;
    }
    stats->rtt_us = flow.rtt_us; /* the main channel's */
    stats->rtt_min_us = flow.rtt_min_us;
}
