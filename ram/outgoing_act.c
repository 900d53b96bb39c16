/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the rows of the outgoing table do, one step each. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "ram/outgoing_priv.h"
#include "ram/qemu_write.h"

/* As many as the destination takes in BLOCKS. */
#define RECOVER_PAGES_MAX (G_GUINT64_CONSTANT(1) << 32)

/* A 2 MiB page in target pages of 4 KiB: see has_small_pages(). */
#define HUGE_PAGE_TARGET_PAGES 512

gboolean outgoing_act_nothing(Outgoing *o, const OutgoingInput *in, GError **error)
{
    return TRUE;
}

gboolean outgoing_act_pass(Outgoing *o, const OutgoingInput *in, GError **error)
{
    frame_queue_put_data(&o->queue, in->raw, in->raw_len);
    return TRUE;
}

gboolean outgoing_act_precopy_end(Outgoing *o, const OutgoingInput *in, GError **error)
{
    o->precopy_ended = TRUE;
    return outgoing_act_pass(o, in, error);
}

/* ---- what the peer is told ---- */

static void put_phase(Outgoing *o, RamPhase phase)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    phase_body_encode(body, phase);
    frame_queue_put(&o->queue, FRAME_PHASE, body->data, body->len);
}

void outgoing_put_channel_event(Outgoing *o, QemuChannelEvent event)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    qemu_channel_body_encode(body, event);
    frame_queue_put(&o->queue, FRAME_QEMU_CHANNEL, body->data, body->len);
}

static gboolean put_blocks(Outgoing *o, guint32 section)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    if (!blocks_body_encode(body, o->blocks, section, FRAME_PAGES_MAX))
        return FALSE;
    frame_queue_put(&o->queue, FRAME_BLOCKS, body->data, body->len);
    return TRUE;
}

gboolean outgoing_act_advise(Outgoing *o, const OutgoingInput *in, GError **error)
{
    put_phase(o, RAM_PHASE_ADVISE);
    return outgoing_act_pass(o, in, error);
}

gboolean outgoing_act_discard(Outgoing *o, const OutgoingInput *in, GError **error)
{
    put_phase(o, RAM_PHASE_DISCARD);
    return outgoing_act_discard_more(o, in, error);
}

/* What is discarded is what the source still owes. */
gboolean outgoing_act_discard_more(Outgoing *o, const OutgoingInput *in, GError **error)
{
    o->owed += in->discarded / ram_blocks_target_page(o->blocks);
    return outgoing_act_pass(o, in, error);
}

void outgoing_on_discarded(Outgoing *o, guint block, guint64 start, guint64 length)
{
    gsize target = ram_blocks_target_page(o->blocks);

    if (o->state == OUTGOING_ACTIVE || o->state == OUTGOING_DEVICE)
        direct_owe(o->direct, block, start / target, length / target);
}

/* ---- the epoch of pages ---- */

static Bitmap **sent_slot(Outgoing *o, guint block)
{
    guint n = ram_blocks_count(o->blocks);

    if (o->n_sent < n) {
        o->sent = g_renew(Bitmap *, o->sent, n);
        while (o->n_sent < n)
            o->sent[o->n_sent++] = NULL;
    }
    return &o->sent[block];
}

/* From here on pages can be taken. */
static void make_stage(Outgoing *o)
{
    gsize target = ram_blocks_target_page(o->blocks);

    for (guint i = 0; i < ram_blocks_count(o->blocks); i++) {
        Bitmap **sent = sent_slot(o, i);

        if (!*sent)
            *sent = bitmap_new(ram_blocks_get(o->blocks, i)->length / target);
    }
    o->stage = stage_new(target, o->config.stage);
}

gboolean outgoing_act_package(Outgoing *o, const OutgoingInput *in, GError **error)
{
    OutgoingInput unknown = *in;

    if (!o->stage && put_blocks(o, in->section)) {
        make_stage(o);
        return outgoing_act_pass(o, in, error);
    }
    unknown.text = _("too many RAM blocks, or a second package");
    return outgoing_act_transparent(o, &unknown, error);
}

gboolean outgoing_act_run(Outgoing *o, const OutgoingInput *in, GError **error)
{
    outgoing_act_pass(o, in, error);
    put_phase(o, RAM_PHASE_RUNNING);
    return TRUE;
}

/* ---- recovery: a stream that does not say how large a block's host pages are ---- */

void outgoing_on_bitmap_head(Outgoing *o, guint block, guint64 n_pages)
{
    const RamBlock *b = ram_blocks_get(o->blocks, block);
    Bitmap **sent = sent_slot(o, block);

    /* It comes from the peer. Without its bitmap the recovery is passed on unread. */
    if (o->state != OUTGOING_POSTCOPY_RECOVER || *sent || o->owed_max + n_pages > RECOVER_PAGES_MAX)
        return;
    o->owed_max += n_pages;
    if (ram_blocks_add(o->blocks, (const guint8 *)b->name, strlen(b->name),
                       n_pages * ram_blocks_target_page(o->blocks), 0, &block, NULL))
        *sent = bitmap_new(n_pages);
}

void outgoing_on_bitmap(Outgoing *o, guint block, guint64 first, const guint8 *bits, gsize len)
{
    if (o->state == OUTGOING_POSTCOPY_RECOVER && block < o->n_sent && o->sent[block])
        bitmap_merge_wire(o->sent[block], first, bits, len);
}

/* QEMU places whole host pages, so a huge page is received wholly or not at all. One that is received
 * in part shows that the block has small pages. FALSE: nothing shows it either way. */
static gboolean has_small_pages(const Bitmap *received)
{
    guint64 pages = bitmap_pages(received);

    if (pages < HUGE_PAGE_TARGET_PAGES || bitmap_count(received) == pages)
        return TRUE;
    for (guint64 i = 0; i + HUGE_PAGE_TARGET_PAGES <= pages; i += HUGE_PAGE_TARGET_PAGES) {
        guint64 n = bitmap_count_range(received, i, HUGE_PAGE_TARGET_PAGES);

        if (n > 0 && n < HUGE_PAGE_TARGET_PAGES)
            return TRUE;
    }
    return FALSE;
}

static gboolean learn_host_pages(Outgoing *o)
{
    gsize target = ram_blocks_target_page(o->blocks);

    for (guint i = 0; i < ram_blocks_count(o->blocks); i++) {
        const RamBlock *b = ram_blocks_get(o->blocks, i);
        guint index;

        if (!*sent_slot(o, i) || !has_small_pages(o->sent[i]) ||
            !ram_blocks_add(o->blocks, (const guint8 *)b->name, strlen(b->name), 0, target, &index,
                            NULL))
            return FALSE;
    }
    return TRUE;
}

/* From here on pages may come on QEMU's preempt connection. */
gboolean outgoing_act_resume(Outgoing *o, const OutgoingInput *in, GError **error)
{
    OutgoingInput unknown = *in;

    if (!o->stage && learn_host_pages(o)) {
        make_stage(o);
        return outgoing_act_pass(o, in, error);
    }
    unknown.text = _("a recovery whose received bitmaps do not show how large the host pages are");
    return outgoing_act_transparent(o, &unknown, error);
}

/* The first section after POSTCOPY_RESUME: only now its id is known. Its head is absorbed. */
gboolean outgoing_act_rerun(Outgoing *o, const OutgoingInput *in, GError **error)
{
    OutgoingInput unknown = *in;

    if (o->stage && put_blocks(o, in->section)) {
        put_phase(o, RAM_PHASE_RUNNING);
        for (guint i = 0; i < o->n_sent; i++) {
            o->owed += bitmap_pages(o->sent[i]) - bitmap_count(o->sent[i]);
            direct_owe_rest(o->direct, i, o->sent[i]);
        }
        return TRUE;
    }
    unknown.text = _("too many RAM blocks, or a section before POSTCOPY_RESUME");
    return outgoing_act_transparent(o, &unknown, error);
}

/* ---- pages ---- */

static gboolean is_wanted(Outgoing *o, StagedPage *page)
{
    gint64 since;

    return page_set_remove(o->wanted, page->block, page->offset, &since);
}

void outgoing_note_block(Outgoing *o, guint block)
{
    o->many_blocks |= o->has_block && o->one_block != block;
    o->one_block = block;
    o->has_block = TRUE;
}

static void put_page(Outgoing *o, const QemuPage *page, gboolean urgent)
{
    guint64 host = ram_blocks_host_page(o->blocks, page->block);
    StagedPage *staged;

    outgoing_note_block(o, page->block);
    outgoing_direct_on_page(o, page);
    if (outgoing_was_sent(o, page->block, page->offset)) {
        /* It was read before, or came again. */
        o->taken += outgoing_is_direct(o);
        o->stats.pages_dropped += outgoing_is_direct(o);
        o->stats.duplicates += !outgoing_is_direct(o);
        return;
    }
    switch (stage_put(o->stage, page, host, &staged)) {
    case STAGE_PUT_DUPLICATE:
        o->stats.duplicates++;
        return;
    case STAGE_PUT_PARTIAL:
        o->taken++;
        /* Remembered until the rest of the host page is there, on whichever connection. */
        if (urgent)
            page_set_add(o->wanted, page->block, page->offset - page->offset % host, 0);
        return;
    case STAGE_PUT_READY:
        o->taken++;
        break;
    }
    if (is_wanted(o, staged) || urgent)
        outgoing_make_urgent(o, staged);
}

/* The row passes the raw bytes on when the page cannot be taken apart. */
static gboolean page_is_plain(const QemuPage *page)
{
    return page->kind != QEMU_PAGE_XBZRLE;
}

gboolean outgoing_act_stage(Outgoing *o, const OutgoingInput *in, GError **error)
{
    OutgoingInput unknown = *in;

    o->came_us = in->now_us;
    if (page_is_plain(in->page)) {
        put_page(o, in->page, FALSE);
        return TRUE;
    }
    unknown.text = _("an XBZRLE page after the switch to post-copy");
    return outgoing_act_transparent(o, &unknown, error);
}

gboolean outgoing_act_stage_urgent(Outgoing *o, const OutgoingInput *in, GError **error)
{
    if (o->stage && page_is_plain(in->page))
        put_page(o, in->page, TRUE);
    else
        outgoing_lose_page(o);
    return TRUE;
}

gboolean outgoing_act_ram_end(Outgoing *o, const OutgoingInput *in, GError **error)
{
    o->ram_ended = TRUE;
    frame_queue_put_barrier(&o->queue);
    return TRUE;
}

/* ---- requests ---- */

static gboolean check_request(Outgoing *o, const PageRequest *r, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (r->length == 0 || !ram_blocks_get(o->blocks, r->block)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("REQUEST of %u bytes in block %u: there is no such block"), r->length,
                    r->block);
        return FALSE;
    }
    if (!ram_blocks_check_range(o->blocks, r->block, r->start, r->length, &cause)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL, "REQUEST: %s", cause->message);
        return FALSE;
    }
    if (page_set_size(o->wanted) + o->urgent.length + o->to_read.length +
            r->length / ram_blocks_host_page(o->blocks, r->block) >
        OUTGOING_REQUESTS_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("REQUEST: more than %d pages are asked for at a time"),
                    OUTGOING_REQUESTS_MAX);
        return FALSE;
    }
    return TRUE;
}

static void request_host_page(Outgoing *o, guint block, guint64 offset, guint64 host, gint64 now)
{
    StagedPage *staged;

    o->stats.requests++;
    /* Taken for the next batch, and nothing of it is out yet. */
    if (outgoing_recall(o, block, offset) == PAGE_RECALL_GIVEN) {
        o->stats.requests_staged++;
        return;
    }
    if (outgoing_was_sent(o, block, offset)) {
        o->stats.requests_late++;
        return;
    }
    staged = o->stage ? stage_find(o->stage, block, offset, host) : NULL;
    if (staged && staged->ready) {
        o->stats.requests_staged++;
        outgoing_make_urgent(o, staged);
        return;
    }
    /* Nobody sees any more which pages come: only QEMU knows what it has sent. */
    if (!o->transparent && (outgoing_direct_want(o, block, offset, now) ||
                            !page_set_add(o->wanted, block, offset, now)))
        return;
    o->stats.requests_asked++;
    if (o->source->ops->request)
        o->source->ops->request(o->source, block, offset, host);
}

gboolean outgoing_act_request(Outgoing *o, const OutgoingInput *in, GError **error)
{
    const PageRequest *r = in->request;
    guint64 host;

    if (!check_request(o, r, error))
        return FALSE;
    host = ram_blocks_host_page(o->blocks, r->block);
    for (guint64 at = r->start - r->start % host; at < r->start + r->length; at += host)
        request_host_page(o, r->block, at, host, in->now_us);
    return TRUE;
}

/* ---- QEMU's own preempt connection ---- */

/* Nothing else brings it to the destination QEMU, which would take zeros for it. */
void outgoing_lose_page(Outgoing *o)
{
    if (!o->failure)
        o->failure = g_strdup_printf(_("a page on QEMU's preempt connection cannot be passed on in "
                                       "state %s"),
                                     outgoing_state_name(o->state));
}

gboolean outgoing_act_urgent_opened(Outgoing *o, const OutgoingInput *in, GError **error)
{
    o->urgent_open = TRUE;
    if (o->lane)
        outgoing_put_channel_event(o, QEMU_CHANNEL_OPENED);
    else if (!o->failure)
        o->failure = g_strdup(_("QEMU's preempt connection needs a preempt channel to the peer"));
    return TRUE;
}

gboolean outgoing_act_urgent_eos(Outgoing *o, const OutgoingInput *in, GError **error)
{
    o->urgent_open = FALSE;
    o->urgent_eos = TRUE;
    return TRUE;
}

/* QEMU has written the end of RAM after them, so there are no more. */
gboolean outgoing_act_urgent_idle(Outgoing *o, const OutgoingInput *in, GError **error)
{
    if (o->ram_ended)
        o->urgent_open = FALSE;
    return TRUE;
}

gboolean outgoing_act_urgent_closed(Outgoing *o, const OutgoingInput *in, GError **error)
{
    o->urgent_open = FALSE;
    o->urgent_closed = TRUE;
    return TRUE;
}

/* ---- ends ---- */

/* A page record may leave out its block: it is that of the record before it, which was another one at the
 * destination. And a host page that has begun cannot be ended by raw bytes, nor can a page that was read from the
 * source's memory come a second time. */
static gboolean follows_what_was_sent(const Outgoing *o, const OutgoingInput *in)
{
    return stage_partial_pages(o->stage) == 0 && !(in->in_section && o->many_blocks) &&
           o->stats.pages_read == 0;
}

/* In post-copy the destination makes the sections, so what is passed on from the midst of one needs a
 * head of its own. */
static void leave_post_copy(Outgoing *o, const OutgoingInput *in)
{
    g_autoptr(GByteArray) head = g_byte_array_new();

    frame_queue_put_barrier(&o->queue);
    if (!follows_what_was_sent(o, in) && !o->failure)
        o->failure = g_strdup_printf(_("cannot be passed on after pages in another order: %s"),
                                     o->warning);
    /* A recovery will come to the same: it must not have read by then. */
    if (o->stats.pages_read > 0)
        direct_give_up(o->direct, _("QEMU's stream cannot be passed on unread after pages of its "
                                    "memory were read"));
    if (!in->in_section)
        return;
    qemu_put_section(head, QEMU_SECTION_PART, in->section);
    frame_queue_put_data(&o->queue, head->data, head->len);
}

gboolean outgoing_act_transparent(Outgoing *o, const OutgoingInput *in, GError **error)
{
    if (!o->warning)
        o->warning = g_strdup(in->text ? in->text : _("an unknown element"));
    o->transparent = TRUE;
    if (o->state == OUTGOING_POSTCOPY_ACTIVE && !o->ram_ended)
        leave_post_copy(o, in);
    return outgoing_act_pass(o, in, error);
}

gboolean outgoing_act_qemu_ended(Outgoing *o, const OutgoingInput *in, GError **error)
{
    gboolean torn = o->state == OUTGOING_POSTCOPY_ACTIVE && !o->transparent && !o->ram_ended;

    o->qemu_ended = TRUE;
    frame_queue_put_barrier(&o->queue);
    /* In post-copy the destination makes the sections. A page that QEMU has only begun would stand outside of
     * any, and as it begins with zeros it would be the regular end of the stream there. */
    return torn || outgoing_act_pass(o, in, error);
}
