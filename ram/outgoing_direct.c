/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages that are read from the source QEMU's memory, among those that come on its stream. A page
 * that is staged is taken from there; one that was read is dropped when it comes. */
#include "config.h"

#include <string.h>

#include "ram/outgoing_priv.h"

gboolean outgoing_is_direct(const Outgoing *o)
{
    return direct_state(o->direct) == DIRECT_READING || o->stats.pages_read > 0;
}

/* After the end of RAM all that the source has to give is here. */
static gboolean may_read(const Outgoing *o)
{
    return o->state == OUTGOING_POSTCOPY_ACTIVE && !o->ram_ended && !o->transparent;
}

gboolean outgoing_direct_has_more(const Outgoing *o)
{
    return may_read(o) && direct_left(o->direct) > 0;
}

guint outgoing_direct_pending(const Outgoing *o)
{
    return o->to_read.length;
}

/* ---- a page ---- */

static StagedPage *read_page(Outgoing *o, const ScanPage *at, gboolean alone)
{
    guint64 offset = at->page * ram_blocks_target_page(o->blocks);
    guint64 host = ram_blocks_host_page(o->blocks, at->block);
    MemoryWindow *window = direct_read(o->direct, at->block, at->page, at->n, alone);
    StagedPage *partial;
    gint64 since;

    if (!window)
        return NULL;
    partial = stage_find(o->stage, at->block, offset, host);
    if (partial)
        stage_drop(o->stage, partial);
    page_set_remove(o->wanted, at->block, offset, &since);
    outgoing_mark_sent(o, at->block, offset, (guint)at->n);
    outgoing_note_block(o, at->block);
    o->stats.pages_read += at->n;
    return staged_page_new_elsewhere(at->block, offset, (guint)at->n, window);
}

static StagedPage *find_staged(Outgoing *o, const ScanPage *at)
{
    StagedPage *staged = stage_find(o->stage, at->block,
                                    at->page * ram_blocks_target_page(o->blocks),
                                    ram_blocks_host_page(o->blocks, at->block));

    return staged && staged->ready ? staged : NULL;
}

StagedPage *outgoing_direct_next(Outgoing *o, gboolean near)
{
    StagedPage *staged;
    ScanPage at;

    if (!outgoing_direct_has_more(o) ||
        !(near ? direct_next_near(o->direct, &at) : direct_next(o->direct, &at)))
        return NULL;
    staged = find_staged(o, &at);
    if (!staged)
        return read_page(o, &at, FALSE);
    stage_take(o->stage, staged);
    outgoing_mark_sent(o, staged->block, staged->offset, staged->n_records);
    return staged;
}

/* One by one and not compared with what came before: a page is sent once, and most are not zero. */
static gboolean is_zero(const guint8 *bytes, gsize len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

void outgoing_direct_record(Outgoing *o, const StagedPage *page, guint i, QemuPage *ret_page)
{
    gsize target = ram_blocks_target_page(o->blocks);
    const guint8 *bytes =
        direct_bytes(o->direct, page->elsewhere, page->block, page->offset / target + i);

    if (is_zero(bytes, target)) {
        ret_page->kind = QEMU_PAGE_ZERO;
        return;
    }
    ret_page->kind = QEMU_PAGE_RAW;
    ret_page->data = bytes;
    ret_page->data_len = target;
}

void outgoing_direct_done(Outgoing *o, StagedPage *page)
{
    direct_put(o->direct, page->elsewhere);
}

/* ---- what is waited for ---- */

static void wish(Outgoing *o, guint block, guint64 offset)
{
    DirectWish *wish = g_new(DirectWish, 1);

    *wish = (DirectWish){ block, offset };
    g_queue_push_tail(&o->to_read, wish);
}

gboolean outgoing_direct_want(Outgoing *o, guint block, guint64 offset, gint64 now_us)
{
    if (!may_read(o) || !direct_can_read(o->direct, block))
        return FALSE;
    if (page_set_add(o->wanted, block, offset, now_us)) {
        o->stats.requests_read++;
        wish(o, block, offset);
    }
    return TRUE;
}

static void ask(Outgoing *o, const DirectWish *wish)
{
    o->stats.requests_asked++;
    if (o->source->ops->request)
        o->source->ops->request(o->source, wish->block, wish->offset,
                                ram_blocks_host_page(o->blocks, wish->block));
}

static StagedPage *fulfil(Outgoing *o, const DirectWish *wish)
{
    guint64 target = ram_blocks_target_page(o->blocks);
    guint64 host = ram_blocks_host_page(o->blocks, wish->block);
    guint64 left = ram_blocks_get(o->blocks, wish->block)->length - wish->offset;
    ScanPage at = { wish->block, wish->offset / target, MIN(host, left) / target };
    StagedPage *page = NULL;

    if (may_read(o) && direct_can_read(o->direct, wish->block))
        page = read_page(o, &at, TRUE);
    if (page)
        outgoing_go_near(o, wish->block, wish->offset);
    else
        ask(o, wish);
    return page;
}

StagedPage *outgoing_direct_next_wanted(Outgoing *o)
{
    StagedPage *page = NULL;

    while (!page && o->to_read.length > 0) {
        g_autofree DirectWish *wish = g_queue_pop_head(&o->to_read);

        /* It may have come meanwhile. */
        if (page_set_contains(o->wanted, wish->block, wish->offset))
            page = fulfil(o, wish);
    }
    return page;
}

/* ---- proof ---- */

static void wish_again(guint block, guint64 offset, gpointer o)
{
    wish(o, block, offset);
}

/* What was asked of the source before its block was proved is read now; it will come a second time.
 * */
void outgoing_direct_on_page(Outgoing *o, const QemuPage *page)
{
    guint block;

    direct_on_page(o->direct, page);
    while (direct_next_proved(o->direct, &block))
        page_set_each(o->wanted, block, wish_again, o);
}
