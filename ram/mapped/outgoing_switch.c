/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From when the guest is to stop here until it runs over there, and the end of its memory. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/mapped/discard_plan.h"
#include "ram/mapped/frames.h"
#include "ram/mapped/outgoing_priv.h"

/* ---- what the peer is told ---- */

void mapped_out_put_phase(MappedOutgoing *o, guint phase)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    mapped_phase_body_encode(body, (MappedPhase)phase);
    frame_queue_put(&o->queue, FRAME_PHASE, body->data, body->len);
}

gboolean mapped_out_put_blocks(MappedOutgoing *o, guint beginning, GError **error)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    guint n = ram_blocks_count(o->blocks);
    g_autofree guint32 *flags = g_new0(guint32, n);

    for (guint i = 0; i < n; i++)
        flags[i] = guest_memory_region(o->memory, i)->flags;
    o->releases = o->params.release_ram;
    if (o->releases)
        beginning |= MAPPED_RELEASES;
    if (!mapped_blocks_body_encode(body, o->blocks, flags, (MappedBeginning)beginning,
                                   FRAME_PAGES_MAX)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("%u memory regions: their names do not fit into one message"), n);
        return FALSE;
    }
    frame_queue_put(&o->queue, FRAME_BLOCKS, body->data, body->len);
    return TRUE;
}

static void put_discard(MappedOutgoing *o, DiscardBody *discard)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    if (discard->n_ranges == 0)
        return;
    discard_body_encode(body, discard);
    frame_queue_put(&o->queue, FRAME_DISCARD, body->data, body->len);
    discard->n_ranges = 0;
}

static void put_block_discards(MappedOutgoing *o, guint block)
{
    DiscardBody discard = { .block = block };
    guint64 page = 0;
    MemoryRange range;

    while (discard_plan_next(o->map, o->blocks, block, &page, &range.start, &range.length)) {
        discard.ranges[discard.n_ranges++] = range;
        if (discard.n_ranges == DISCARD_RANGES_MAX)
            put_discard(o, &discard);
    }
    put_discard(o, &discard);
}

/* ---- the steps ---- */

static void begin_postcopy(MappedOutgoing *o)
{
    g_autoptr(GError) error = NULL;

    if (!notifier_list_tell(o->notifiers, NOTIFY_LISTEN, &error)) {
        mapped_out_fail(o, error->message);
        return;
    }
    o->listened = TRUE;
    /* What the encoder remembers is of no use: whole pages go from here on. */
    if (o->xbzrle)
        xbzrle_encoder_stats(o->xbzrle, &o->stats.xbzrle);
    g_clear_pointer(&o->xbzrle, xbzrle_encoder_free);
    dirty_map_restore_dropped(o->map);
    discard_plan_canonicalise(o->map, o->blocks);
    o->stats.discarded_pages = dirty_map_count(o->map);
    mapped_out_put_phase(o, MAPPED_PHASE_DISCARD);
    for (guint i = 0; i < dirty_map_blocks(o->map); i++)
        put_block_discards(o, i);
    o->discard_mark = session_sent_bytes(o->session) + o->queue.bytes;
}

/* The guest does not write any more: nothing has to be protected before it is read. */
static void decide_rest(MappedOutgoing *o)
{
    dirty_map_detach_log(o->map);
    o->postcopy = o->postcopy_asked && o->params.postcopy;
    if (o->postcopy)
        begin_postcopy(o);
    o->step = o->postcopy ? SWITCH_DEVICE : SWITCH_PAGES;
}

/* Before it can be known over there: should this process die, it must not run in two places. */
void mapped_out_ask_no_return(MappedOutgoing *o)
{
    o->no_return_asked = TRUE;
    o->client->ops->no_return(o->client);
}

/* In post-copy the destination has to listen first, which not every one can: until it has, the
 * guest is ours. */
static void put_device(MappedOutgoing *o)
{
    if (o->postcopy)
        mapped_out_put_phase(o, MAPPED_PHASE_LISTEN);
    frame_queue_put_data(&o->queue, o->device->data, o->device->len);
    o->listen_mark = o->postcopy ? session_sent_bytes(o->session) + o->queue.bytes : 0;
    o->step = SWITCH_LISTEN;
}

static void give_up_guest(MappedOutgoing *o)
{
    mapped_out_ask_no_return(o);
    o->step = SWITCH_NO_RETURN;
}

/* From here on the guest is the destination's. */
static void release_guest(MappedOutgoing *o)
{
    MappedOutInput in = { .now_us = o->now_us };

    mapped_out_put_phase(o, MAPPED_PHASE_RUNNING);
    o->run_mark = session_sent_bytes(o->session) + o->queue.bytes;
    o->step = SWITCH_DONE;
    rate_limit_set(&o->limit, o->params.max_postcopy_bandwidth);
    if (o->postcopy)
        mapped_out_event(o, MAPPED_OUT_EV_RUN, &in, NULL);
}

static void step_once(MappedOutgoing *o)
{
    switch (o->step) {
    case SWITCH_STOP:
        page_sender_send(o->sender, o->now_us);
        if (o->paused && o->state == MAPPED_OUT_DEVICE && o->sync != SYNC_ASKED) {
            o->sync = SYNC_DRAIN;
            o->step = SWITCH_SYNC;
        }
        break;
    case SWITCH_SYNC:
        if (mapped_out_sync(o))
            decide_rest(o);
        break;
    case SWITCH_PAGES:
        page_sender_send(o->sender, o->now_us);
        if (dirty_map_count(o->map) == 0 && mapped_out_is_drained(o))
            o->step = SWITCH_DEVICE;
        break;
    case SWITCH_DEVICE:
        if (o->device_whole)
            put_device(o);
        break;
    case SWITCH_LISTEN:
        if (session_acked_bytes(o->session) >= o->listen_mark)
            give_up_guest(o);
        break;
    case SWITCH_NO_RETURN:
        if (o->given_up)
            release_guest(o);
        break;
    default:
        break;
    }
}

void mapped_out_switch_over(MappedOutgoing *o)
{
    SwitchStep before;

    if (o->state == MAPPED_OUT_CHECKPOINT)
        return;
    do {
        before = o->step;
        step_once(o);
    } while (o->step != before && !o->failure);
}

/* ---- the end ---- */

/* The channels have no order between them: what came on a bulk channel before the destination
 * knows what it has to forget would be forgotten with it. */
static gboolean may_send_postcopy(const MappedOutgoing *o)
{
    return frame_queue_is_empty(&o->queue) &&
           (!o->has_bulk || session_acked_bytes(o->session) >= o->discard_mark);
}

static void send_postcopy(MappedOutgoing *o)
{
    page_sender_send_urgent(o->sender);
    if (may_send_postcopy(o))
        page_sender_send(o->sender, o->now_us);
}

static gboolean is_all_sent(const MappedOutgoing *o)
{
    return dirty_map_count(o->map) == 0 && request_queue_size(o->requests) == 0 &&
           g_queue_is_empty((GQueue *)&o->recalled) && page_sender_is_idle(o->sender) &&
           frame_queue_is_empty(&o->queue);
}

static void put_ram_end(MappedOutgoing *o)
{
    RamEnd end;
    g_autoptr(GByteArray) body = g_byte_array_new();

    page_sender_ram_end(o->sender, &end);
    ram_end_body_encode(body, &end);
    frame_queue_put(&o->queue, FRAME_RAM_END, body->data, body->len);
    o->ram_end_sent = TRUE;
}

static void note_running(MappedOutgoing *o)
{
    if (o->switch_began_us != 0 && o->stats.downtime_us == 0 &&
        session_acked_bytes(o->session) >= o->run_mark)
        o->stats.downtime_us = (guint64)MAX(o->now_us - o->switch_began_us, 1);
}

void mapped_out_end_ram(MappedOutgoing *o)
{
    if (o->step != SWITCH_DONE || o->failure)
        return;
    note_running(o);
    if (!o->ram_end_sent) {
        send_postcopy(o);
        frame_queue_send(&o->queue, o->session, page_sender_main_flow(o->sender), o->now_us);
        if (is_all_sent(o))
            put_ram_end(o);
    }
    if (!o->ram_end_sent || o->eof_sent)
        return;
    frame_queue_send(&o->queue, o->session, page_sender_main_flow(o->sender), o->now_us);
    if (!frame_queue_is_empty(&o->queue))
        return;
    o->eof_sent = TRUE;
    session_on_qemu_eof(o->session, NULL);
}
