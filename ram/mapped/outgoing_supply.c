/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the page sender gets from the guest's memory: host pages with something dirty in them,
 * and what is in them. A page is not dirty any more from the moment it is handed out, which is
 * before it is read. */
#include "config.h"

#include "ram/mapped/outgoing_priv.h"
#include "ram/zero_page.h"

/* How many target pages the background goes on from where the guest waited last. */
#define NEAR_STEPS 64
/* Zeros handed out in one go: what goes into a frame. */
#define ZEROS_MAX PAGES_TARGET_MAX

/* ---- handing out ---- */

static guint64 host_pages(const MappedOutgoing *o, guint block)
{
    return ram_blocks_host_page(o->blocks, block) / ram_blocks_target_page(o->blocks);
}

static void handed_free(Handed *handed)
{
    if (!handed)
        return;
    bitmap_free(handed->wanted);
    if (handed->data)
        g_byte_array_unref(handed->data);
    g_free(handed);
}

/* Which of the target pages are dirty. */
static Bitmap *copy_bits(const Bitmap *dirty, guint64 first, guint64 n)
{
    Bitmap *copy = bitmap_new(n);
    guint64 page;

    for (page = bitmap_next(dirty, first); page < first + n; page = bitmap_next(dirty, page + 1))
        bitmap_set(copy, page - first);
    return copy;
}

static Handed *make_handed(MappedOutgoing *o, guint block, guint64 first, guint64 n)
{
    const Bitmap *dirty = dirty_map_bitmap(o->map, block);
    gboolean whole = bitmap_count_range(dirty, first, n) == n;
    Handed *handed;

    if (whole && !o->xbzrle)
        return NULL;
    handed = g_new0(Handed, 1);
    if (!whole)
        handed->wanted = copy_bits(dirty, first, n);
    return handed;
}

/* FALSE: the log failed. What was looked at before it was cleared may have been written since, and
 * is noted no more. */
static gboolean prepare(MappedOutgoing *o, guint block, guint64 first, guint64 n,
                        gboolean *ret_cleared)
{
    g_autoptr(GError) error = NULL;

    if (!dirty_map_prepare(o->map, block, first, n, ret_cleared, &error)) {
        mapped_out_fail(o, error->message);
        return FALSE;
    }
    if (*ret_cleared)
        mapped_out_forget_window(o);
    return TRUE;
}

/* The target page at offset. */
static gboolean is_in_window(const MappedOutgoing *o, guint block, guint64 offset)
{
    const Window *window = &o->window;

    return window->block == block && offset >= window->start &&
           offset + ram_blocks_target_page(o->blocks) <= window->end;
}

/* How many target pages from `first` on are dirty and zeros, in whole host pages; n, which is the
 * host page there, if that is not. The log has been cleared for all of them then. */
static guint64 count_zeros(MappedOutgoing *o, guint block, guint64 first, guint64 n)
{
    const Bitmap *dirty = dirty_map_bitmap(o->map, block);
    guint64 target = ram_blocks_target_page(o->blocks);
    guint64 pages;
    gboolean cleared;

    if (is_in_window(o, block, first * target) && o->window.bytes)
        return n;
    pages = MIN(hole_look_zeros(o->holes, block, first * target) / target, (guint64)ZEROS_MAX);
    if (bitmap_count_range(dirty, first, pages) < pages)
        pages = bitmap_next_clear(dirty, first) - first;
    pages -= pages % host_pages(o, block);
    return pages > n && prepare(o, block, first, pages, &cleared) && !cleared ? pages : n;
}

static gboolean take(MappedOutgoing *o, guint block, guint64 first, guint64 n, SupplyPage *ret_page)
{
    gboolean cleared;

    if (!prepare(o, block, first, n, &cleared))
        return FALSE;
    *ret_page = (SupplyPage){
        .block = block,
        .offset = first * ram_blocks_target_page(o->blocks),
        .n_records = (guint)n,
        .own = make_handed(o, block, first, n),
    };
    dirty_map_clear(o->map, block, first, n);
    return TRUE;
}

static gboolean is_scanning(const MappedOutgoing *o)
{
    if (o->failure)
        return FALSE;
    switch (o->state) {
    case MAPPED_OUT_ACTIVE:
        return o->sync == SYNC_NONE;
    case MAPPED_OUT_DEVICE:
    case MAPPED_OUT_CHECKPOINT:
        return o->step == SWITCH_PAGES;
    default:
        return o->state == MAPPED_OUT_POSTCOPY_ACTIVE;
    }
}

static gboolean supply_next(PageSupply *supply, SupplyPage *ret_page)
{
    MappedOutgoing *o = (MappedOutgoing *)supply;
    gboolean cleared;
    ScanPage found;

    if (!is_scanning(o) || dirty_map_count(o->map) == 0)
        return FALSE;
    if (o->budget == 0) {
        o->limited = TRUE;
        return FALSE;
    }
    if (!page_scan_next_near(o->scan, &found) && !page_scan_next(o->scan, &found))
        return FALSE;
    if (!prepare(o, found.block, found.page, found.n, &cleared))
        return FALSE;
    /* The encoder is to hear of each page. */
    if (!o->xbzrle)
        found.n = count_zeros(o, found.block, found.page, found.n);
    return !o->failure && take(o, found.block, found.page, found.n, ret_page);
}

static gboolean next_recalled(MappedOutgoing *o, SupplyPage *ret_page)
{
    SupplyPage *page = g_queue_pop_head(&o->recalled);

    if (!page)
        return FALSE;
    *ret_page = *page;
    g_free(page);
    return TRUE;
}

static gboolean supply_next_urgent(PageSupply *supply, SupplyPage *ret_page)
{
    MappedOutgoing *o = (MappedOutgoing *)supply;
    guint64 target = ram_blocks_target_page(o->blocks);
    guint block;
    guint64 offset;

    if (o->failure)
        return FALSE;
    if (next_recalled(o, ret_page))
        return TRUE;
    while (request_queue_take(o->requests, &block, &offset)) {
        const Bitmap *dirty = dirty_map_bitmap(o->map, block);
        guint64 first = offset / target;
        guint64 n = MIN(host_pages(o, block), bitmap_pages(dirty) - first);

        page_scan_set_near(o->scan, block, first, NEAR_STEPS * host_pages(o, block));
        /* The background has been there since it was asked for. */
        if (bitmap_count_range(dirty, first, n) == 0)
            continue;
        return take(o, block, first, n, ret_page);
    }
    return FALSE;
}

/* ---- what is in them ---- */

static void drop_window(MappedOutgoing *o)
{
    o->window.end = o->window.start = 0;
}

void mapped_out_forget_window(MappedOutgoing *o)
{
    drop_window(o);
    hole_look_forget(o->holes);
}

/* Up to where it is worth reading: the end of a large host page, or of dirty pages in a row. */
static guint64 read_end(const MappedOutgoing *o, const SupplyPage *page, guint64 offset)
{
    guint64 target = ram_blocks_target_page(o->blocks);
    const Bitmap *dirty = dirty_map_bitmap(o->map, page->block);
    guint64 next = offset / target + 1;

    if (page->n_records > 1)
        return MIN(offset + GUEST_MEMORY_PEEK_MAX, page->offset + page->n_records * target);
    while ((next + 1) * target - offset <= GUEST_MEMORY_PEEK_MAX && bitmap_get(dirty, next))
        next++;
    return next * target;
}

static gboolean read_window(MappedOutgoing *o, const SupplyPage *page, guint64 offset)
{
    guint64 target = ram_blocks_target_page(o->blocks);
    guint64 hole = hole_look_zeros(o->holes, page->block, offset);
    g_autoptr(GError) error = NULL;
    guint64 end;

    drop_window(o);
    if (hole >= target) {
        o->window = (Window){ page->block, offset, offset + hole - hole % target, NULL };
        return TRUE;
    }
    end = offset + MAX(hole_look_data(o->holes, page->block, offset), target);
    o->window = (Window){ page->block, offset, MIN(read_end(o, page, offset), end), NULL };
    if (guest_memory_peek(o->memory, page->block, offset, o->window.end - offset,
                          &o->window.bytes, &error))
        return TRUE;
    drop_window(o);
    mapped_out_fail(o, error->message);
    return FALSE;
}

/* What differs from what the other side has. FALSE: nothing does. */
static gboolean encode(MappedOutgoing *o, const SupplyPage *page, guint64 offset, QemuPage *ret)
{
    guint64 round = o->stats.dirty_rounds;

    if (ret->kind == QEMU_PAGE_ZERO) {
        xbzrle_encoder_zero_page(o->xbzrle, page->block, offset, round);
        return TRUE;
    }
    switch (xbzrle_encoder_page(o->xbzrle, page->block, offset, ret->data, round, &ret->data,
                                &ret->data_len)) {
    case XBZRLE_UNCHANGED:
        return FALSE;
    case XBZRLE_DELTA:
        ret->kind = QEMU_PAGE_XBZRLE;
        return TRUE;
    default:
        return TRUE;
    }
}

static gboolean read_record(MappedOutgoing *o, const SupplyPage *page, guint64 offset,
                            QemuPage *ret)
{
    gsize target = ram_blocks_target_page(o->blocks);
    const Window *window = &o->window;

    if (dirty_map_is_dropped(o->map, page->block, offset / target)) {
        *ret = (QemuPage){ .kind = QEMU_PAGE_ZERO };
        return TRUE;
    }
    if (!is_in_window(o, page->block, offset) && !read_window(o, page, offset))
        return FALSE;
    ret->data = window->bytes ? window->bytes + (offset - window->start) : NULL;
    ret->data_len = target;
    ret->kind = QEMU_PAGE_RAW;
    if (!ret->data || zero_page_check(ret->data, target)) {
        ret->kind = QEMU_PAGE_ZERO;
        ret->data = NULL;
        ret->data_len = 0;
    }
    return TRUE;
}

/* The encoder takes what it was asked for as sent, so it is asked once, whatever the sender
 * does. */
static gboolean remember(Handed *handed, guint i, gboolean sent, QemuPage *page)
{
    handed->has_answer = TRUE;
    handed->index = i;
    handed->sent = sent;
    if (sent && page->data_len > 0) {
        if (!handed->data)
            handed->data = g_byte_array_new();
        g_byte_array_set_size(handed->data, 0);
        g_byte_array_append(handed->data, page->data, (guint)page->data_len);
        page->data = handed->data->data;
    }
    handed->answer = *page;
    return sent;
}

static gboolean supply_record(PageSupply *supply, const SupplyPage *page, guint i, QemuPage *ret)
{
    MappedOutgoing *o = (MappedOutgoing *)supply;
    guint64 offset = page->offset + (guint64)i * ram_blocks_target_page(o->blocks);
    Handed *handed = page->own;
    gboolean sent;

    if (handed && handed->wanted && !bitmap_get(handed->wanted, i))
        return FALSE;
    if (handed && handed->has_answer && handed->index == i) {
        *ret = handed->answer;
        return handed->sent;
    }
    if (o->failure || !read_record(o, page, offset, ret))
        return FALSE;
    if (o->budget != G_MAXUINT64)
        o->budget -= MIN(o->budget, ret->data_len + PAGES_RECORD_HEAD_LEN);
    if (!handed || !o->xbzrle)
        return TRUE;
    sent = encode(o, page, offset, ret);
    return remember(handed, i, sent, ret);
}

static void supply_done(PageSupply *supply, SupplyPage *page, gboolean urgent)
{
    MappedOutgoing *o = (MappedOutgoing *)supply;

    handed_free(page->own);
    page->own = NULL;
    if (mapped_out_is_releasing(o))
        release_list_add(&o->release, page->block, page->offset,
                         (guint64)page->n_records * ram_blocks_target_page(o->blocks));
}

/* The window is the hole that record() has found. */
static guint supply_zeros(PageSupply *supply, const SupplyPage *page, guint i)
{
    const MappedOutgoing *o = (const MappedOutgoing *)supply;
    const Window *window = &o->window;
    guint64 target = ram_blocks_target_page(o->blocks);
    guint64 offset = page->offset + (guint64)i * target;

    if (page->own || window->bytes || !is_in_window(o, page->block, offset))
        return 1;
    return (guint)MIN((window->end - offset) / target, (guint64)page->n_records - i);
}

const PageSupplyOps mapped_out_supply_ops = {
    supply_next,
    supply_next_urgent,
    supply_record,
    supply_done,
    supply_zeros,
};

void mapped_out_supply_clear(MappedOutgoing *o)
{
    SupplyPage page;

    while (next_recalled(o, &page))
        handed_free(page.own);
}
