/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a source QEMU has written as the supply of a page sender: the oldest first, or what lies
 * near the last request; what is waited for in the order of the requests. */
#include "config.h"

#include "ram/outgoing_priv.h"

/* How far the background looks for the next page that was not sent. */
#define NEAR_STEPS_MAX 64
/* A source that has brought nothing for so long is not as fast as the link. */
#define COMING_US 300

/* ---- which pages the peer has ---- */

gboolean outgoing_was_sent(const Outgoing *o, guint block, guint64 offset)
{
    return block < o->n_sent && o->sent[block] &&
           bitmap_get(o->sent[block], offset / ram_blocks_target_page(o->blocks));
}

void outgoing_mark_sent(Outgoing *o, guint block, guint64 offset, guint n_records)
{
    guint64 first = offset / ram_blocks_target_page(o->blocks);

    bitmap_set_range(o->sent[block], first, n_records);
    direct_settle(o->direct, block, first, n_records);
}

static void take(Outgoing *o, StagedPage *page)
{
    stage_take(o->stage, page);
    outgoing_mark_sent(o, page->block, page->offset, page->n_records);
}

void outgoing_go_near(Outgoing *o, guint block, guint64 offset)
{
    o->has_near = TRUE;
    o->near_block = block;
    o->near_offset = offset;
    direct_go_near(o->direct, block, offset / ram_blocks_target_page(o->blocks));
}

static void put_urgent(Outgoing *o, StagedPage *page)
{
    g_queue_push_tail(&o->urgent, page);
    o->urgent_bytes += page->bytes;
    outgoing_go_near(o, page->block, page->offset);
}

void outgoing_make_urgent(Outgoing *o, StagedPage *page)
{
    take(o, page);
    put_urgent(o, page);
}

PageRecall outgoing_recall(Outgoing *o, guint block, guint64 offset)
{
    SupplyPage page;
    PageRecall recall = page_sender_recall(o->sender, block, offset, &page);

    if (recall == PAGE_RECALL_GIVEN)
        put_urgent(o, page.own);
    return recall;
}

/* ---- the supply ---- */

static Outgoing *outgoing_of(PageSupply *supply)
{
    return ((OutgoingSupply *)supply)->outgoing;
}

static SupplyPage hand_out(StagedPage *page)
{
    return (SupplyPage){ page->block, page->offset, page->n_records, page };
}

/* What a guest touches next is more likely near what it waited for than anywhere else: the
 * background goes on from there, as QEMU's own scan does. NULL: what follows there is not staged.
 * */
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

static StagedPage *next_staged(Outgoing *o)
{
    StagedPage *page = o->has_near ? next_near(o) : NULL;

    if (!page)
        page = stage_first(o->stage);
    if (page)
        take(o, page);
    return page;
}

/* What the source writes need not be read: it has to be taken anyway. While it brings something all
 * the time, that is waited for; but not when nothing is under way, whose acknowledgement would be
 * the next time. */
static gboolean is_coming(Outgoing *o)
{
    return o->now_us - o->came_us < COMING_US && !page_sender_is_acked(o->sender);
}

/* What is near first; then what has come, so that the source goes on; then what it has not brought
 * yet. */
static gboolean supply_next(PageSupply *supply, SupplyPage *ret_page)
{
    Outgoing *o = outgoing_of(supply);
    StagedPage *page = outgoing_direct_next(o, TRUE);

    if (!page)
        page = next_staged(o);
    if (!page && !is_coming(o))
        page = outgoing_direct_next(o, FALSE);
    if (!page)
        return FALSE;
    *ret_page = hand_out(page);
    return TRUE;
}

static gboolean supply_next_urgent(PageSupply *supply, SupplyPage *ret_page)
{
    Outgoing *o = outgoing_of(supply);
    StagedPage *page = g_queue_pop_head(&o->urgent);

    if (!page)
        page = outgoing_direct_next_wanted(o);
    if (!page)
        return FALSE;
    *ret_page = hand_out(page);
    return TRUE;
}

static gboolean supply_record(PageSupply *supply, const SupplyPage *page, guint i,
                              QemuPage *ret_page)
{
    const StagedPage *staged = page->own;
    const StagedRecord *record;

    if (staged->elsewhere) {
        outgoing_direct_record(outgoing_of(supply), staged, i, ret_page);
        return TRUE;
    }
    record = &staged->records[i];
    ret_page->kind = record->kind;
    ret_page->fill = record->fill;
    ret_page->data = record->data;
    ret_page->data_len = record->data_len;
    return TRUE;
}

static void supply_done(PageSupply *supply, SupplyPage *page, gboolean urgent)
{
    StagedPage *staged = page->own;

    if (urgent)
        outgoing_of(supply)->urgent_bytes -= staged->bytes;
    if (staged->elsewhere)
        outgoing_direct_done(outgoing_of(supply), staged);
    stage_recycle(outgoing_of(supply)->stage, staged);
}

void outgoing_supply_init(OutgoingSupply *supply, Outgoing *o)
{
    static const PageSupplyOps ops = {
        .next = supply_next,
        .next_urgent = supply_next_urgent,
        .record = supply_record,
        .done = supply_done,
    };

    supply->base.ops = &ops;
    supply->outgoing = o;
}
