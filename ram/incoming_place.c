/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way of a page from a frame to the sink: duplicates, host pages, who waits for it. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "ram/incoming_priv.h"

static guint64 page_number(const Incoming *in, guint64 offset)
{
    return offset / ram_blocks_target_page(in->blocks);
}

gboolean incoming_was_received(const Incoming *in, guint block, guint64 offset)
{
    return bitmap_get(in->received[block], page_number(in, offset));
}

void incoming_feed_clear(Feed *feed)
{
    uffd_sink_free(feed->direct);
    pages_reader_free(feed->reader);
    g_free(feed->collector.pages);
    g_free(feed->collector.present);
    g_free(feed->collector.data);
}

/* ---- one target page to the sink ---- */

void incoming_note_waited(Incoming *in, guint block, guint64 offset, gint64 now_us)
{
    gint64 since;

    if (page_set_size(in->asked) == 0 || !page_set_remove(in->asked, block, offset, &since))
        return;
    histogram_add(&in->stats.request_latency, now_us - since);
    if (page_set_size(in->asked) == 0)
        in->stats.blocked_us += now_us - in->blocked_since_us;
}

static void place_page(Incoming *in, Feed *feed, const QemuPage *page)
{
    RamSink *base = qemu_sink_base(feed->sink);

    feed->on_stream = TRUE;
    bitmap_set(in->received[page->block], page_number(in, page->offset));
    base->ops->place(base, page);
    in->pages_placed++;
    if (feed->is_urgent)
        in->stats.pages_urgent++;
    else
        in->stats.pages_background++;
    if (page->kind == QEMU_PAGE_ZERO)
        in->stats.pages_zero++;
    else
        in->stats.pages_normal++;
}

static gboolean sink_takes(QemuSink *sink)
{
    RamSink *base = qemu_sink_base(sink);

    return base->ops->room(base) > 0;
}

/* ---- host pages that are collected ---- */

static gboolean torn(const Incoming *in, const Feed *feed, const QemuPage *page, GError **error)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                _("PAGES on the %s channel: offset 0x%" PRIx64
                  " of %s comes before the host page under way is complete"),
                feed->lane ? lane_name(feed->lane) : channel_kind_name(CHANNEL_MAIN), page->offset,
                ram_blocks_get(in->blocks, page->block)->name);
    return FALSE;
}

/* Room for a target page that zlib has made a little larger. */
static gsize slot_size(gsize target)
{
    return target + target / 16 + 64;
}

static void collector_begin(Collector *c, const QemuPage *page, guint64 host, gsize target)
{
    guint n = host / target;

    if (c->n_allocated < n) {
        g_free(c->data);
        c->pages = g_renew(QemuPage, c->pages, n);
        c->present = g_renew(gboolean, c->present, n);
        c->data = g_malloc(n * slot_size(target));
        c->n_allocated = n;
    }
    memset(c->present, 0, n * sizeof *c->present);
    c->begun = TRUE;
    c->placing = FALSE;
    c->block = page->block;
    c->offset = page->offset - page->offset % host;
    c->n_pages = n;
    c->n_present = c->n_placed = 0;
}

static gboolean collector_holds(const Collector *c, const QemuPage *page, guint64 host)
{
    return c->begun && c->block == page->block && c->offset == page->offset - page->offset % host;
}

static void collector_add(Incoming *in, Collector *c, const QemuPage *page)
{
    gsize target = ram_blocks_target_page(in->blocks);
    guint i = (page->offset - c->offset) / target;

    if (c->present[i]) {
        in->stats.duplicates++;
        return;
    }
    c->pages[i] = *page;
    if (page->data_len) {
        c->pages[i].data = memcpy(c->data + i * slot_size(target), page->data, page->data_len);
    }
    c->present[i] = TRUE;
    c->placing = ++c->n_present == c->n_pages;
}

/* FALSE: the kernel cannot take it now. */
static gboolean collector_place_direct(Incoming *in, Feed *feed)
{
    Collector *c = &feed->collector;

    while (c->n_placed < c->n_pages) {
        if (!incoming_place_direct(in, feed, &c->pages[c->n_placed]))
            return FALSE;
        c->n_placed++;
    }
    c->begun = c->placing = FALSE;
    return TRUE;
}

static gboolean collector_place_stream(Incoming *in, Feed *feed, gint64 now_us)
{
    Collector *c = &feed->collector;

    while (c->n_placed < c->n_pages) {
        if (!sink_takes(feed->sink))
            return FALSE;
        place_page(in, feed, &c->pages[c->n_placed++]);
    }
    incoming_note_waited(in, c->block, c->offset, now_us);
    c->begun = c->placing = FALSE;
    return TRUE;
}

/* FALSE: the sink is full, the rest comes when it is empty. The buffer is free when the sink is. */
static gboolean collector_place(Incoming *in, Feed *feed, gboolean stream, gint64 now_us)
{
    Collector *c = &feed->collector;

    /* It has come on the other channel, while it was collected on both. */
    if (c->n_placed == 0 && incoming_was_received(in, c->block, c->offset)) {
        in->stats.duplicates += c->n_pages;
        c->begun = c->placing = FALSE;
        return TRUE;
    }
    /* What has begun on one way ends there. */
    if (c->n_placed == 0)
        c->direct = incoming_goes_direct(in, c->block, c->offset);
    if (c->direct)
        return collector_place_direct(in, feed);
    return stream && collector_place_stream(in, feed, now_us);
}

static gboolean collect(Incoming *in, Feed *feed, guint64 host, GError **error)
{
    Collector *c = &feed->collector;
    const QemuPage *page = &feed->page;

    if (!collector_holds(c, page, host)) {
        /* What was begun has come on the other channel meanwhile. */
        if (c->begun && !incoming_was_received(in, c->block, c->offset))
            return torn(in, feed, page, error);
        collector_begin(c, page, host, ram_blocks_target_page(in->blocks));
    }
    collector_add(in, c, page);
    return TRUE;
}

/* ---- host pages that are placed as they come ---- */

static void place_open(Incoming *in, Feed *feed, guint64 host, gint64 now_us)
{
    gsize target = ram_blocks_target_page(in->blocks);
    const QemuPage *page = &feed->page;

    if (feed->open_left == 0)
        feed->open_left = host / target;
    place_page(in, feed, page);
    if (--feed->open_left == 0)
        incoming_note_waited(in, page->block, page->offset - page->offset % host, now_us);
}

/* ---- a frame ---- */

static void count_body(Incoming *in, const Feed *feed, gsize len)
{
    gsize plain_len;
    PagesEncoding encoding = pages_reader_encoding(feed->reader, &plain_len);

    in->stats.plain_bytes += plain_len;
    in->stats.encoded_bytes += len;
    if (encoding == PAGES_PLAIN)
        return;
    in->stats.compressed_frames++;
    in->stats.encoding = encoding;
}

gboolean incoming_begin_pages(Incoming *in, Feed *feed, GBytes *body, GError **error)
{
    if (!pages_reader_begin(feed->reader, body, error))
        return FALSE;
    count_body(in, feed, g_bytes_get_size(body));
    feed->in_body = TRUE;
    feed->body_done = feed->has_page = feed->on_stream = FALSE;
    return TRUE;
}

/* The next page that was not received before. TRUE with has_page FALSE: the frame is through. */
static gboolean next_page(Incoming *in, Feed *feed, GError **error)
{
    gboolean more = TRUE;

    for (;;) {
        if (!feed->has_page) {
            if (!pages_reader_next(feed->reader, in->blocks, &feed->page, &more, error))
                return FALSE;
            if (!more)
                return TRUE;
            feed->has_page = TRUE;
        }
        /* Also one that had to wait: it may have come on the other channel. */
        if (!incoming_was_received(in, feed->page.block, feed->page.offset))
            return TRUE;
        in->stats.duplicates++;
        feed->has_page = FALSE;
    }
}

static gboolean take_page(Incoming *in, Feed *feed, gint64 now_us, GError **error)
{
    guint64 host = ram_blocks_host_page(in->blocks, feed->page.block);
    gsize target = ram_blocks_target_page(in->blocks);

    feed->has_page = FALSE;
    if (feed->page.data_len > slot_size(target)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("PAGES: %zu bytes for a page of %zu"), feed->page.data_len, target);
        return FALSE;
    }
    if (host > target && host <= INCOMING_COLLECT_MAX)
        return collect(in, feed, host, error);
    if (incoming_goes_direct(in, feed->page.block, feed->page.offset)) {
        incoming_place_direct(in, feed, &feed->page);
        return TRUE;
    }
    place_open(in, feed, host, now_us);
    return TRUE;
}

gboolean incoming_in_host_page(const Feed *feed)
{
    return feed->open_left > 0 || feed->collector.placing;
}

/* FALSE: the page waits for its sink. */
static gboolean may_take(const Incoming *in, const Feed *feed, gboolean stream)
{
    /* The collector's buffer is with a sink until that is empty. */
    if (feed->collector_is_lent &&
        !(qemu_sink_is_idle(feed->sink) && incoming_direct_is_idle(feed)))
        return FALSE;
    return incoming_goes_direct(in, feed->page.block, feed->page.offset)
               ? incoming_direct_takes(feed)
               : stream && sink_takes(feed->sink);
}

static gboolean place_frame(Incoming *in, Feed *feed, gboolean stream, gint64 now_us, GError **error)
{
    for (;;) {
        if (feed->collector.placing && !collector_place(in, feed, stream, now_us))
            return TRUE;
        if (!feed->in_body || feed->body_done)
            return TRUE;
        if (!next_page(in, feed, error))
            return FALSE;
        if (!feed->has_page) {
            feed->body_done = TRUE;
            return TRUE;
        }
        if (!may_take(in, feed, stream))
            return TRUE;
        feed->collector_is_lent = FALSE;
        if (!take_page(in, feed, now_us, error))
            return FALSE;
        feed->collector_is_lent = feed->collector.placing;
    }
}

gboolean incoming_place(Incoming *in, Feed *feed, gboolean stream, gint64 now_us, GError **error)
{
    gboolean shared = feed->sink == in->sink;

    /* Somebody else is in the midst of a host page there. */
    if (shared && in->owner && in->owner != feed)
        stream = FALSE;
    if (!place_frame(in, feed, stream, now_us, error) || !incoming_flush_direct(in, feed, error))
        return FALSE;
    if (shared && stream)
        in->owner = incoming_in_host_page(feed) ? feed : NULL;
    return TRUE;
}
