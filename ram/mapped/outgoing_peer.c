/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the peer sends: REQUEST on the preempt channel, RECEIVED on the main one. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "ram/mapped/discard_plan.h"
#include "ram/mapped/frames.h"
#include "ram/mapped/outgoing_priv.h"

/* ---- requests ---- */

static gboolean is_dirty(const MappedOutgoing *o, guint block, guint64 offset)
{
    const Bitmap *dirty = dirty_map_bitmap(o->map, block);
    guint64 target = ram_blocks_target_page(o->blocks);
    guint64 first = offset / target;
    guint64 n = MIN(ram_blocks_host_page(o->blocks, block) / target, bitmap_pages(dirty) - first);

    return bitmap_count_range(dirty, first, n) > 0;
}

/* Not in the bitmap any more: the sender may still have all or some of it. */
static void recall(MappedOutgoing *o, guint block, guint64 offset)
{
    SupplyPage page;
    SupplyPage *kept;

    switch (page_sender_recall(o->sender, block, offset, &page)) {
    case PAGE_RECALL_GIVEN:
        kept = g_new(SupplyPage, 1);
        *kept = page;
        g_queue_push_tail(&o->recalled, kept);
        o->stats.requests_staged++;
        break;
    case PAGE_RECALL_BEGUN:
        o->stats.requests_staged++;
        break;
    default:
        o->stats.requests_late++;
        break;
    }
}

gboolean mapped_out_act_request(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    guint block = in->request->block;
    guint64 host;
    guint64 start;
    guint64 end;

    if (!request_queue_check(o->requests, in->request, &start, &end, error))
        return FALSE;
    if (dirty_map_is_ignored(o->map, block)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("REQUEST for block \"%s\", whose pages are not moved"),
                    ram_blocks_get(o->blocks, block)->name);
        return FALSE;
    }
    if (o->ram_end_sent)
        return TRUE;
    host = ram_blocks_host_page(o->blocks, block);
    for (guint64 offset = start; offset < end; offset += host) {
        o->stats.requests++;
        if (!is_dirty(o, block, offset))
            recall(o, block, offset);
        else if (!request_queue_add(o->requests, block, offset, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- the received bitmaps ---- */

gboolean mapped_out_act_received(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    ReceivedBody body;
    guint64 pages;

    if (!received_body_decode(in->received, &body, error))
        return FALSE;
    if (body.block >= ram_blocks_count(o->blocks) || dirty_map_is_ignored(o->map, body.block)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("RECEIVED for block %u, which has no pages"), body.block);
        return FALSE;
    }
    pages = bitmap_pages(dirty_map_bitmap(o->map, body.block));
    if (body.first != o->received_upto[body.block] || body.first >= pages ||
        (body.len - 1) * 8 >= pages - body.first) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("RECEIVED for block \"%s\": page %" PRIu64 " is not the next one"),
                    ram_blocks_get(o->blocks, body.block)->name, body.first);
        return FALSE;
    }
    if (!o->received[body.block])
        o->received[body.block] = bitmap_new(pages);
    bitmap_merge_wire(o->received[body.block], body.first, body.bytes, body.len);
    o->received_upto[body.block] = body.first + body.len * 8;
    return TRUE;
}

static gboolean is_received_known(const MappedOutgoing *o)
{
    for (guint i = 0; i < dirty_map_blocks(o->map); i++) {
        if (!dirty_map_is_ignored(o->map, i) &&
            o->received_upto[i] < bitmap_pages(dirty_map_bitmap(o->map, i)))
            return FALSE;
    }
    return TRUE;
}

/* Inverted and counted anew; the scan begins from the start. */
gboolean mapped_out_act_recovered(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    for (guint i = 0; i < dirty_map_blocks(o->map); i++) {
        if (!dirty_map_is_ignored(o->map, i))
            dirty_map_set_received(o->map, i, o->received[i]);
    }
    discard_plan_canonicalise(o->map, o->blocks);
    dirty_map_detach_log(o->map);
    page_scan_go_to(o->scan, 0, 0);
    o->listened = notifier_list_tell(o->notifiers, NOTIFY_LISTEN, NULL);
    mapped_out_put_phase(o, MAPPED_PHASE_RUNNING);
    o->run_mark = session_sent_bytes(o->session) + o->queue.bytes;
    o->postcopy = TRUE;
    o->step = SWITCH_DONE;
    rate_limit_set(&o->limit, o->params.max_postcopy_bandwidth);
    return TRUE;
}

/* ---- reading ---- */

static gboolean take_request(MappedOutgoing *o, GBytes *body, GError **error)
{
    PageRequest request;
    MappedOutInput in = { .request = &request, .now_us = o->now_us };

    return request_body_decode(body, &request, error) &&
           mapped_out_event(o, MAPPED_OUT_EV_REQUEST, &in, error);
}

static gboolean take_main(MappedOutgoing *o, FrameType type, GBytes *body, GError **error)
{
    MappedOutInput in = { .received = body, .now_us = o->now_us };

    if (type != FRAME_RECEIVED) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("%s is not expected from the destination of a mapped session"),
                    frame_type_name(type));
        return FALSE;
    }
    return mapped_out_event(o, MAPPED_OUT_EV_RECEIVED, &in, error);
}

static void become_recovered(MappedOutgoing *o)
{
    MappedOutInput in = { .now_us = o->now_us };

    if (o->state == MAPPED_OUT_POSTCOPY_RECOVER && is_received_known(o))
        mapped_out_event(o, MAPPED_OUT_EV_RECOVERED, &in, NULL);
}

gboolean mapped_out_read_peer(MappedOutgoing *o, GError **error)
{
    FrameType type;
    GBytes *body;

    while ((body = session_received(o->session, &type))) {
        if (!take_main(o, type, body, error))
            return FALSE;
        session_consume(o->session);
    }
    become_recovered(o);
    /* In a recovery they may overtake the bitmaps: then they wait for them. */
    while (o->lane && o->state != MAPPED_OUT_POSTCOPY_RECOVER &&
           (body = lane_received(o->lane, &type))) {
        if (!take_request(o, body, error))
            return FALSE;
        lane_consume(o->lane);
    }
    return TRUE;
}
