/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which page goes next, on which channel, and how much of it at a time. */
#include "config.h"

#include "ram/outgoing_priv.h"

/* A frame is not interrupted, so it must be short: so many of what goes over the link in a second. */
#define FRAMES_PER_SECOND 8000
#define PLAIN_MIN (16 * 1024)
/* How far the background looks for the next page that was not sent. */
#define NEAR_STEPS_MAX 64

/* Compressed frames become shorter by themselves, and better with more at a time. */
#define PLAIN_TO_COMPRESS (60 * 1024)

/* ---- which pages the peer has ---- */

static guint64 page_number(const Outgoing *o, guint64 offset)
{
    return offset / ram_blocks_target_page(o->blocks);
}

void outgoing_mark_sent(Outgoing *o, guint block, guint64 offset)
{
    if (bitmap_set(o->sent[block], page_number(o, offset)))
        o->pages_sent++;
}

gboolean outgoing_was_sent(const Outgoing *o, guint block, guint64 offset)
{
    return block < o->n_sent && o->sent[block] &&
           bitmap_get(o->sent[block], page_number(o, offset));
}

void outgoing_make_urgent(Outgoing *o, StagedPage *page)
{
    g_queue_push_tail(&o->urgent, page);
    o->urgent_bytes += page->bytes;
    o->has_near = TRUE;
    o->near_block = page->block;
    o->near_offset = page->offset;
}

/* ---- batches ---- */

static void count_record(Outgoing *o, const StagedRecord *record)
{
    if (record->kind == QEMU_PAGE_ZERO)
        o->stats.pages_zero++;
    else
        o->stats.pages_normal++;
}

/* FALSE: the batch is full. */
static gboolean add_record(Outgoing *o, PagesBatch *batch, const Sending *sending, gsize max)
{
    gsize target = ram_blocks_target_page(o->blocks);
    const StagedRecord *record = &sending->page->records[sending->next];
    QemuPage page = {
        .block = sending->page->block,
        .offset = sending->page->offset + (guint64)sending->next * target,
        .kind = record->kind,
        .fill = record->fill,
        .data = record->data,
        .data_len = record->data_len,
    };

    if (batch->len > 0 && batch->len + record->data_len + PAGES_RECORD_HEAD_LEN > max)
        return FALSE;
    if (!pages_batch_add(batch, &page, target))
        return FALSE;
    outgoing_mark_sent(o, page.block, page.offset);
    count_record(o, record);
    return TRUE;
}

/* Adds what fits of one host page. TRUE: all of it is in. */
static gboolean add_host_page(Outgoing *o, PagesBatch *batch, Sending *sending, gsize max)
{
    while (sending->next < sending->page->n_records) {
        if (!add_record(o, batch, sending, max))
            return FALSE;
        sending->next++;
    }
    if (sending == &o->background)
        o->rush = FALSE;
    else
        o->urgent_bytes -= sending->page->bytes;
    g_clear_pointer(&sending->page, staged_page_free);
    return TRUE;
}

/* ---- urgent ---- */

static gboolean next_urgent(Outgoing *o)
{
    if (!o->urgent_now.page)
        o->urgent_now = (Sending){ g_queue_pop_head(&o->urgent), 0 };
    return o->urgent_now.page != NULL;
}

/* One host page to a frame, if it fits: it shall not wait for others. */
static void send_urgent(Outgoing *o)
{
    while (lane_send_room(o->lane) >= PAGES_HEAD_LEN + PAGES_PLAIN_MAX && next_urgent(o)) {
        g_auto(PagesBatch) batch = { 0 };
        gsize len;
        guint8 *buf;

        pages_batch_init(&batch, FRAME_HEADER_LEN);
        add_host_page(o, &batch, &o->urgent_now, PAGES_PLAIN_MAX);
        o->stats.pages_urgent += batch.target_pages;
        buf = pages_batch_finish(&batch, &len);
        o->stats.plain_bytes += len;
        o->stats.encoded_bytes += len;
        lane_send(o->lane, FRAME_PAGES, buf, len);
    }
}

/* ---- background ---- */

/* What a guest touches next is more likely near what it waited for than anywhere else: the background
 * goes on from there, as QEMU's own scan does. NULL: what follows there is not staged. */
static StagedPage *next_near(Outgoing *o)
{
    guint64 host = ram_blocks_host_page(o->blocks, o->near_block);

    for (guint i = 0; i < NEAR_STEPS_MAX; i++, o->near_offset += host) {
        StagedPage *page;

        if (outgoing_was_sent(o, o->near_block, o->near_offset))
            continue;
        page = stage_find(o->stage, o->near_block, o->near_offset, host);
        return page && page->ready ? page : NULL;
    }
    return NULL;
}

static gboolean next_background(Outgoing *o)
{
    StagedPage *page;

    if (o->background.page)
        return TRUE;
    page = o->has_near ? next_near(o) : NULL;
    if (!page)
        page = stage_first(o->stage);
    if (page)
        stage_take(o->stage, page);
    o->background = (Sending){ page, 0 };
    return page != NULL;
}

/* Pages that are ready, in order, up to max bytes. NULL: none. */
static guint8 *next_batch(Outgoing *o, gsize max, gsize *ret_len, guint *ret_pages)
{
    g_auto(PagesBatch) batch = { 0 };

    pages_batch_init(&batch, FRAME_HEADER_LEN);
    while (next_background(o) && add_host_page(o, &batch, &o->background, max)) {
    }
    if (batch.len == 0)
        return NULL;
    *ret_pages = batch.target_pages;
    return pages_batch_finish(&batch, ret_len);
}

static void send_pages(Outgoing *o, guint8 *buf, gsize len, gsize plain_len, guint pages,
                       gint64 now_us)
{
    o->stats.pages_background += pages;
    o->stats.plain_bytes += plain_len;
    o->stats.encoded_bytes += len;
    flow_on_sent(o->flow, len, now_us);
    session_send(o->session, FRAME_PAGES, buf, len);
}

/* Whether the main channel takes a frame of that size now; a huge page that is wanted and has begun
 * goes on whatever is in flight. */
static gboolean may_send(const Outgoing *o, gsize body_len)
{
    return session_send_room(o->session) >= body_len && (flow_room(o->flow) > 0 || o->rush);
}

static gsize plain_frame_max(Outgoing *o)
{
    FlowStats flow;

    flow_get_stats(o->flow, &flow);
    return CLAMP(flow.rate / FRAMES_PER_SECOND, PLAIN_MIN, PAGES_PLAIN_MAX);
}

/* There is room, and nothing to send. */
static void note_empty(Outgoing *o)
{
    flow_on_idle(o->flow);
    source_rate_on_empty(&o->source_rate);
    compress_policy_on_empty(&o->policy);
}

static void send_plain(Outgoing *o, gint64 now_us)
{
    gsize max = plain_frame_max(o);

    while (next_background(o)) {
        gsize len;
        guint pages;
        guint8 *buf;

        if (!may_send(o, PAGES_HEAD_LEN + PAGES_PLAIN_MAX))
            return;
        buf = next_batch(o, max, &len, &pages);
        send_pages(o, buf, len, len, pages, now_us);
    }
    note_empty(o);
}

static guint jobs_pending(const Outgoing *o)
{
    return o->config.worker ? compress_worker_pending(o->config.worker) : 0;
}

static void submit_jobs(Outgoing *o)
{
    PagesEncoding encoding = pages_encoding_choose(session_features(o->session));

    while (jobs_pending(o) < compress_worker_jobs_max(o->config.worker) && next_background(o)) {
        gsize len;
        guint pages;
        guint8 *buf = next_batch(o, PLAIN_TO_COMPRESS, &len, &pages);

        if (!compress_worker_submit(o->config.worker, encoding, buf, len, pages))
            g_error("the compressor refuses a job");
    }
}

static void send_job(Outgoing *o, const CompressJob *job, gint64 now_us)
{
    compress_policy_on_result(&o->policy, job->plain_len, job->body_len);
    if (job->encoding != PAGES_PLAIN) {
        o->stats.compressed_frames++;
        o->stats.encoding = job->encoding;
    }
    send_pages(o, job->bytes, job->body_len, job->plain_len, job->target_pages, now_us);
}

/* What the compressor was given goes out first, in its order: pieces of a huge page may be among it. */
static void send_jobs(Outgoing *o, gboolean go_on, gint64 now_us)
{
    CompressJob job;

    if (go_on)
        submit_jobs(o);
    while (jobs_pending(o) > 0) {
        if (!may_send(o, PAGES_HEAD_LEN + PAGES_PLAIN_MAX))
            return;
        if (!compress_worker_take(o->config.worker, &job))
            return;
        send_job(o, &job, now_us);
        if (go_on)
            submit_jobs(o);
    }
    if (go_on)
        note_empty(o);
}

static gboolean is_compressing(Outgoing *o, gint64 now_us)
{
    if (!o->config.worker || !(session_features(o->session) & SESSION_FEATURES_PACK))
        return FALSE;
    switch (o->config.compress) {
    case OUTGOING_COMPRESS_ON:
        return TRUE;
    case OUTGOING_COMPRESS_OFF:
        return FALSE;
    default:
        return compress_policy_decide(&o->policy, o->stats.plain_bytes, now_us);
    }
}

static void send_background(Outgoing *o, gint64 now_us)
{
    gboolean compressing = is_compressing(o, now_us);

    if (compressing || jobs_pending(o) > 0)
        send_jobs(o, compressing, now_us);
    if (!compressing && jobs_pending(o) == 0)
        send_plain(o, now_us);
}

gboolean outgoing_waits_for_worker(const Outgoing *o)
{
    return jobs_pending(o) > 0 && may_send(o, PAGES_HEAD_LEN + PAGES_PLAIN_MAX);
}

/* ---- the end ---- */

gboolean outgoing_is_drained(const Outgoing *o)
{
    if (!o->stage)
        return TRUE;
    return stage_ready_pages(o->stage) == 0 && !o->background.page && !o->urgent_now.page &&
           g_queue_is_empty((GQueue *)&o->urgent) && jobs_pending(o) == 0;
}

static void put_ram_end(Outgoing *o)
{
    RamEnd end = { o->pages_sent, lane_next_seq(o->lane) };
    g_autoptr(GByteArray) body = g_byte_array_new();

    ram_end_body_encode(body, &end);
    frame_queue_put_first(&o->queue, FRAME_RAM_END, body->data, body->len);
    o->ram_end_sent = TRUE;
}

/* Not before the pages that came on it, which RAM_END waits for. */
static void tell_urgent_end(Outgoing *o)
{
    if (o->state == OUTGOING_POSTCOPY_ACTIVE && !o->ram_end_sent && !o->qemu_ended)
        return;
    if (o->urgent_eos)
        outgoing_put_channel_event(o, QEMU_CHANNEL_EOS);
    if (o->urgent_closed)
        outgoing_put_channel_event(o, QEMU_CHANNEL_CLOSED);
    o->urgent_eos = o->urgent_closed = FALSE;
}

/* FALSE: nothing was held back, or the pages still have to go. */
static gboolean release_queue(Outgoing *o)
{
    if (!frame_queue_at_barrier(&o->queue) || !outgoing_is_drained(o) || outgoing_awaits_urgent(o))
        return FALSE;
    /* RAM_END waits for the pages on the preempt channel; raw bytes and EOF do not. */
    if ((o->transparent || !o->ram_ended) && o->lane &&
        lane_acked_bytes(o->lane) < lane_sent_bytes(o->lane))
        return FALSE;
    frame_queue_pass_barrier(&o->queue);
    if (o->ram_ended && !o->ram_end_sent)
        put_ram_end(o);
    return TRUE;
}

static void send_queue(Outgoing *o, gint64 now_us)
{
    do {
        tell_urgent_end(o);
        frame_queue_send(&o->queue, o->session, o->flow, now_us);
    } while (release_queue(o));
}

static void end_stream(Outgoing *o)
{
    if (!o->qemu_ended || o->eof_sent || !frame_queue_is_empty(&o->queue))
        return;
    o->eof_sent = TRUE;
    session_on_qemu_eof(o->session, NULL);
}

void outgoing_send_all(Outgoing *o, gint64 now_us)
{
    flow_on_acked(o->flow, session_acked_bytes(o->session), now_us);
    if (o->stage)
        send_urgent(o);
    send_queue(o, now_us);
    /* What waits in the queue comes before the pages, up to a barrier. */
    if (o->stage && (frame_queue_is_empty(&o->queue) || frame_queue_at_barrier(&o->queue))) {
        send_background(o, now_us);
        send_queue(o, now_us);
    }
    end_stream(o);
}

/* ---- the lane's other direction ---- */

static gboolean take_request(Outgoing *o, GBytes *body, gint64 now_us, GError **error)
{
    PageRequest request;
    OutgoingInput in = { .request = &request, .now_us = now_us };

    return request_body_decode(body, &request, error) &&
           outgoing_event(o, OUTGOING_EV_REQUEST, &in, error);
}

gboolean outgoing_run(Outgoing *o, gint64 now_us, GError **error)
{
    FrameType type;
    GBytes *body;

    while (o->lane && (body = lane_received(o->lane, &type))) {
        if (!take_request(o, body, now_us, error))
            return FALSE;
        lane_consume(o->lane);
    }
    if (o->failure) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE, o->failure);
        return FALSE;
    }
    outgoing_send_all(o, now_us);
    return TRUE;
}
