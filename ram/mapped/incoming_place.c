/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way of pages into the client's memory: written as they come before the switch-over, placed
 * once after it. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "ram/mapped/incoming_priv.h"
#include "ram/xbzrle.h"

/* The kernel could not place a page just now: when to try again. */
#define AGAIN_US 500
/* Bytes that are looked at and cleared in one go. */
#define CLEAR_MAX (16 * 1024)

void mapped_incoming_feed_clear(MappedFeed *feed)
{
    uffd_sink_free(feed->sink);
    pages_reader_free(feed->reader);
}

/* ---- a frame ---- */

gboolean mapped_incoming_begin_pages(MappedFeed *feed, GBytes *body, GError **error)
{
    RamStats *stats = &feed->in->stats;
    PagesEncoding encoding;
    gsize plain_len;

    if (!pages_reader_begin(feed->reader, body, error))
        return FALSE;
    encoding = pages_reader_encoding(feed->reader, &plain_len);
    stats->plain_bytes += plain_len;
    stats->encoded_bytes += g_bytes_get_size(body);
    if (encoding != PAGES_PLAIN) {
        stats->compressed_frames++;
        stats->encoding = encoding;
    }
    feed->in_body = TRUE;
    return TRUE;
}

static gboolean check_page(const MappedIncoming *in, const QemuPage *page, GError **error)
{
    gboolean known = page->kind == QEMU_PAGE_RAW || page->kind == QEMU_PAGE_ZERO ||
                     (page->kind == QEMU_PAGE_XBZRLE && !in->postcopy);

    if (known && !mapped_incoming_is_ignored(in, page->block))
        return TRUE;
    if (known)
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL, _("PAGES: block %u is not moved"),
                    page->block);
    else
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("PAGES: record kind %d is not expected in state %s"), page->kind,
                    mapped_incoming_state_name(in->state));
    return FALSE;
}

static void count_pages(MappedFeed *feed, const QemuPage *page, guint n)
{
    RamStats *stats = &feed->in->stats;

    feed->in->pages_come += n;
    if (feed == &feed->in->urgent)
        stats->pages_urgent += n;
    else
        stats->pages_background += n;
    if (page->kind == QEMU_PAGE_ZERO)
        stats->pages_zero += n;
    else
        stats->pages_normal += n;
}

/* TRUE with *ret_more FALSE: the frame is through. */
static gboolean next_page(MappedFeed *feed, QemuPage *ret_page, gboolean *ret_more, GError **error)
{
    MappedIncoming *in = feed->in;

    if (!pages_reader_next(feed->reader, in->blocks, ret_page, ret_more, error))
        return FALSE;
    if (!*ret_more)
        return TRUE;
    if (!check_page(in, ret_page, error))
        return FALSE;
    count_pages(feed, ret_page, 1);
    return TRUE;
}

/* Those that follow it in its record, n of them, are dealt with along with it. */
static void take_along(MappedFeed *feed, const QemuPage *page, guint n)
{
    pages_reader_skip(feed->reader, n);
    count_pages(feed, page, n);
}

/* ---- before the switch-over ---- */

/* Pages that follow each other, in their block as in the frame. */
typedef struct {
    guint block;
    guint64 offset;
    gsize length; /* 0: none */
    const guint8 *data; /* NULL: zeros */
} LoadRun;

static gboolean is_zero(const guint8 *bytes, gsize len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* Without taking memory for zeros where there are zeros already. */
static gboolean clear_piece(MappedIncoming *in, guint region, guint64 offset, gsize len,
                            GError **error)
{
    static const guint8 zeros[CLEAR_MAX];
    const guint8 *bytes;

    if (!guest_memory_peek(in->memory, region, offset, len, &bytes, error))
        return FALSE;
    return is_zero(bytes, len) || guest_memory_write(in->memory, region, offset, zeros, len, error);
}

/* How much of [offset, offset + length) is dealt with at once: a hole, whole host pages, or a
 * piece. */
static gboolean clear_some(MappedIncoming *in, guint region, guint64 offset, guint64 length,
                           guint64 *ret_done, GError **error)
{
    guint64 host = in->layout->regions[region].page_size;
    guint64 hole = guest_memory_hole(in->memory, region, offset);

    if (hole > 0) {
        *ret_done = MIN(hole, length);
        return TRUE;
    }
    if (guest_memory_can_discard(in->memory, region) && offset % host == 0 && length >= host) {
        *ret_done = length - length % host;
        return guest_memory_discard(in->memory, region, offset, *ret_done, error);
    }
    *ret_done = MIN(MIN(length, host - offset % host), (guint64)CLEAR_MAX);
    return clear_piece(in, region, offset, *ret_done, error);
}

static gboolean clear_run(MappedIncoming *in, const LoadRun *run, GError **error)
{
    guint region = in->region_of[run->block];
    guint64 done, at = 0;

    for (; at < run->length; at += done) {
        if (!clear_some(in, region, run->offset + at, run->length - at, &done, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean finish_run(MappedIncoming *in, LoadRun *run, GError **error)
{
    gsize target = mapped_incoming_target(in);
    guint region;

    if (run->length == 0)
        return TRUE;
    region = in->region_of[run->block];
    if (run->data ? !guest_memory_write(in->memory, region, run->offset, run->data, run->length,
                                        error)
                  : !clear_run(in, run, error))
        return FALSE;
    received_map_set(in->received, region, run->offset / target, run->length / target);
    run->length = 0;
    return TRUE;
}

/* What the source has changed since it sent the page last. */
static gboolean decode_delta(MappedIncoming *in, const QemuPage *page, GError **error)
{
    gsize target = mapped_incoming_target(in);
    const guint8 *bytes;

    if (!guest_memory_peek(in->memory, in->region_of[page->block], page->offset, target, &bytes,
                           error))
        return FALSE;
    memcpy(in->scratch, bytes, target);
    return xbzrle_decode(page->data, page->data_len, in->scratch, target, error);
}

/* A page that is not in the frame as it is. */
static gboolean load_made(MappedIncoming *in, LoadRun *run, const QemuPage *page, GError **error)
{
    gsize target = mapped_incoming_target(in);

    if (!finish_run(in, run, error))
        return FALSE;
    if (page->kind == QEMU_PAGE_ZERO)
        memset(in->scratch, page->fill, target);
    else if (!decode_delta(in, page, error))
        return FALSE;
    *run = (LoadRun){ page->block, page->offset, target, in->scratch };
    return finish_run(in, run, error);
}

static gboolean load_page(MappedFeed *feed, LoadRun *run, const QemuPage *page, GError **error)
{
    MappedIncoming *in = feed->in;
    gsize length = mapped_incoming_target(in);
    const guint8 *data = page->kind == QEMU_PAGE_RAW ? page->data : NULL;

    if (page->kind == QEMU_PAGE_XBZRLE || (page->kind == QEMU_PAGE_ZERO && page->fill != 0))
        return load_made(in, run, page, error);
    if (!data) {
        guint more = pages_reader_run_left(feed->reader);

        take_along(feed, page, more);
        length += more * length;
    }
    if (run->length > 0 && run->block == page->block &&
        run->offset + run->length == page->offset &&
        (data ? run->data && run->data + run->length == data : !run->data)) {
        run->length += length;
        return TRUE;
    }
    if (!finish_run(in, run, error))
        return FALSE;
    *run = (LoadRun){ page->block, page->offset, length, data };
    return TRUE;
}

gboolean mapped_incoming_load(MappedFeed *feed, GError **error)
{
    LoadRun run = { 0 };
    gboolean more = TRUE;

    while (more) {
        QemuPage page;

        if (!next_page(feed, &page, &more, error) ||
            (more && !load_page(feed, &run, &page, error)))
            return FALSE;
    }
    feed->in_body = FALSE;
    return finish_run(feed->in, &run, error);
}

/* ---- of a checkpoint ---- */

gboolean mapped_incoming_cache(MappedFeed *feed, GError **error)
{
    MappedIncoming *in = feed->in;
    gboolean more = TRUE;

    while (more) {
        QemuPage page;

        if (!next_page(feed, &page, &more, error))
            return FALSE;
        if (!more)
            break;
        page.block = in->region_of[page.block];
        if (!colo_cache_load(in->cache, &page, error))
            return FALSE;
    }
    feed->in_body = FALSE;
    return TRUE;
}

/* ---- after it ---- */

static void note_waited(guint block, guint64 offset, gint64 since_us, gpointer data)
{
    MappedIncoming *in = data;

    histogram_add(&in->stats.request_latency, MAX(in->now_us - since_us, 0));
}

void mapped_incoming_placed(guint block, guint64 offset, guint64 length, gboolean existed,
                            gpointer data)
{
    MappedIncoming *in = data;
    gsize target = mapped_incoming_target(in);
    guint64 changed =
        received_map_set(in->received, in->region_of[block], offset / target, length / target);

    in->missing -= MIN(in->missing, changed);
    if (existed)
        in->stats.duplicates += length / target;
    if (uffd_clients_count(in->clients) > 0)
        uffd_clients_wake(in->clients, block, offset, length);
    if (requested_count(in->requested) > 0)
        requested_remove_range(in->requested, block, offset, length, note_waited, in);
    block_time_end_range(in->times, block, offset, length, in->now_us);
}

/* It has come before, on whatever channel: what has begun of its host page is of no use. */
static void drop_duplicate(MappedFeed *feed)
{
    feed->in->stats.duplicates++;
    if (uffd_sink_in_host_page(feed->sink))
        uffd_sink_drop_host_page(feed->sink);
}

/* A guest that was recovered with all its memory. */
static gboolean check_sink(const MappedFeed *feed, GError **error)
{
    if (feed->sink)
        return TRUE;
    g_set_error_literal(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                        _("PAGES for a guest that runs on all of its memory"));
    return FALSE;
}

/* Zeros are not placed. What is missing reads as zeros as soon as nobody watches it any more, which
 * is when all is here (mapped_incoming_end_watch()); who runs into it before that is given them
 * then (take_fault()). So they cost neither time nor memory. Not so what somebody waits for
 * already. Nor huge pages: a host that has none left must say so before the guest runs into it.
 * FALSE: it is to be placed. */
static gboolean take_zeros(MappedFeed *feed, const QemuPage *page)
{
    MappedIncoming *in = feed->in;
    gsize target = mapped_incoming_target(in);
    guint64 length, changed;

    if (page->kind != QEMU_PAGE_ZERO || page->fill != 0 ||
        ram_blocks_host_page(in->blocks, page->block) > target)
        return FALSE;
    length = (1 + (guint64)pages_reader_run_left(feed->reader)) * target;
    if (requested_count(in->requested) > 0)
        length = requested_next(in->requested, page->block, page->offset, page->offset + length) -
                 page->offset;
    if (length == 0)
        return FALSE;
    take_along(feed, page, (guint)(length / target) - 1);
    changed = received_map_set(in->received, in->region_of[page->block], page->offset / target,
                               length / target);
    in->missing -= MIN(in->missing, changed);
    in->stats.duplicates += length / target - changed;
    return TRUE;
}

/* Nothing of the frame is with the sink any more? */
static gboolean flush(MappedFeed *feed, gboolean *ret_empty, GError **error)
{
    RamSink *sink = uffd_sink_base(feed->sink);

    if (!sink->ops->flush(sink, error))
        return FALSE;
    *ret_empty = sink->ops->is_empty(sink);
    if (!*ret_empty && !uffd_sink_awaits_placer(feed->sink))
        mapped_incoming_wake_at(feed->in, feed->in->now_us + AGAIN_US);
    return TRUE;
}

gboolean mapped_incoming_place(MappedFeed *feed, GError **error)
{
    MappedIncoming *in = feed->in;
    gsize target = mapped_incoming_target(in);
    gboolean more = TRUE, empty;
    RamSink *sink;

    if (!check_sink(feed, error))
        return FALSE;
    sink = uffd_sink_base(feed->sink);
    for (;;) {
        QemuPage page;

        if (sink->ops->room(sink) == 0 || !more) {
            if (!flush(feed, &empty, error))
                return FALSE;
            feed->in_body = more || !empty;
            if (!empty || !more)
                return TRUE;
        }
        if (!next_page(feed, &page, &more, error))
            return FALSE;
        if (!more || take_zeros(feed, &page))
            continue;
        if (received_map_get(in->received, in->region_of[page.block], page.offset / target))
            drop_duplicate(feed);
        else
            sink->ops->place(sink, &page);
    }
}
