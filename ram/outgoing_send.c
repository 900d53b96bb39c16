/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What goes to the peer beside the pages, and when: what waits for the pages, and what they wait for. */
#include "config.h"

#include "ram/outgoing_priv.h"

gboolean outgoing_waits_for_worker(const Outgoing *o)
{
    return page_sender_waits_for_worker(o->sender);
}

/* ---- the end ---- */

gboolean outgoing_is_drained(const Outgoing *o)
{
    if (!o->stage)
        return TRUE;
    return stage_ready_pages(o->stage) == 0 && o->urgent.length == 0 &&
           outgoing_direct_pending(o) == 0 && page_sender_is_idle(o->sender);
}

static void put_ram_end(Outgoing *o)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    RamEnd end;

    page_sender_ram_end(o->sender, &end);
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
    /* RAM_END waits for the pages on the other channels; raw bytes and EOF do not. */
    if ((o->transparent || !o->ram_ended) && !page_sender_lanes_are_acked(o->sender))
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
        frame_queue_send(&o->queue, o->session, page_sender_main_flow(o->sender), now_us);
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
    o->now_us = now_us;
    page_sender_update(o->sender, now_us);
    if (o->stage)
        page_sender_send_urgent(o->sender);
    send_queue(o, now_us);
    /* What waits in the queue comes before the pages, up to a barrier. */
    if (o->stage && (frame_queue_is_empty(&o->queue) || frame_queue_at_barrier(&o->queue))) {
        if (page_sender_send(o->sender, now_us))
            source_rate_on_empty(&o->source_rate);
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
