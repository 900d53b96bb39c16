/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The return path of the destination QEMU: requests become REQUEST frames, the rest goes on as it is. */
#include "config.h"

#include <string.h>

#include "ram/incoming_priv.h"

/* ---- requests ---- */

static void put_request(Incoming *in, guint block, guint64 start, guint32 length)
{
    PageRequest *request = g_new(PageRequest, 1);

    *request = (PageRequest){ block, start, length };
    g_queue_push_tail(&in->requests, request);
}

static void request_host_page(Incoming *in, guint block, guint64 offset, guint64 host, gint64 now_us)
{
    in->stats.requests++;
    /* It is with QEMU already, or was asked for: QEMU asks again after a recovery. */
    if (incoming_was_received(in, block, offset) || incoming_place_now(in, block, offset) ||
        !page_set_add(in->asked, block, offset, now_us))
        return;
    if (page_set_size(in->asked) == 1)
        in->blocked_since_us = now_us;
    put_request(in, block, offset, host);
}

/* FALSE: not for the engine (yet, or not any more): the message is passed on. */
static gboolean take_request(Incoming *in, const QemuReturnEvent *event, gint64 now_us)
{
    IncomingState same;
    guint64 host;
    guint block;

    if (!incoming_has_row(in->state, INCOMING_EV_REQUEST, &same) ||
        !ram_blocks_find(in->blocks, (const guint8 *)event->name, event->name_len, &block) ||
        !ram_blocks_check_range(in->blocks, block, event->start, event->length, NULL))
        return FALSE;
    host = ram_blocks_host_page(in->blocks, block);
    for (guint64 at = event->start - event->start % host; at < event->start + event->length;
         at += host)
        request_host_page(in, block, at, host, now_us);
    return TRUE;
}

static void send_requests(Incoming *in)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    PageRequest *request;

    while (!g_queue_is_empty(&in->requests) && lane_send_room(in->lane) >= FRAME_HEADER_LEN) {
        guint8 *buf;

        request = g_queue_pop_head(&in->requests);
        g_byte_array_set_size(body, 0);
        request_body_encode(body, request);
        buf = g_malloc(FRAME_HEADER_LEN + body->len);
        memcpy(buf + FRAME_HEADER_LEN, body->data, body->len);
        lane_send(in->lane, FRAME_REQUEST, buf, body->len);
        g_free(request);
    }
}

/* ---- what QEMU has, told in a recovery ---- */

static void begin_bitmap(Incoming *in, const QemuReturnEvent *event)
{
    if (in->state == INCOMING_NONE)
        g_hash_table_replace(in->resumed, g_strndup(event->name, event->name_len),
                             bitmap_new(event->length * 8));
}

/* QEMU does not know of what was placed in its memory directly: the source is told here. */
static void take_bitmap(Incoming *in, const QemuReturnEvent *event)
{
    g_autofree guint8 *bytes = g_malloc(event->raw_len);
    Bitmap *bitmap;

    memcpy(bytes, event->raw, event->raw_len);
    if (in->state == INCOMING_NONE)
        incoming_merge_placed(in, event->name, event->start, bytes, event->raw_len);
    frame_queue_put_data(&in->queue, bytes, event->raw_len);
    bitmap = in->state == INCOMING_NONE ? g_hash_table_lookup(in->resumed, event->name) : NULL;
    if (bitmap)
        bitmap_merge_wire(bitmap, event->start * 8, bytes, event->raw_len);
}

/* ---- the path ---- */

static void take_event(Incoming *in, const QemuReturnEvent *event, gint64 now_us)
{
    switch (event->type) {
    case QEMU_RETURN_REQ_PAGES:
        if (take_request(in, event, now_us))
            return;
        break;
    case QEMU_RETURN_BITMAP:
        begin_bitmap(in, event);
        break;
    case QEMU_RETURN_BITMAP_DATA:
        take_bitmap(in, event);
        return;
    case QEMU_RETURN_UNKNOWN:
        if (!in->warning)
            in->warning = g_strdup(event->text);
        break;
    default:
        break;
    }
    frame_queue_put_data(&in->queue, event->raw, event->raw_len);
}

gboolean incoming_wants(const Incoming *in)
{
    return session_state_is_active(session_state(in->session)) && !frame_queue_is_full(&in->queue);
}

void incoming_on_qemu_data(Incoming *in, const guint8 *bytes, gsize len, gint64 now_us)
{
    QemuReturnEvent event;

    do {
        gsize n = qemu_return_read(in->return_path, bytes, len, &event);

        bytes += n;
        len -= n;
        if (event.type != QEMU_RETURN_MORE)
            take_event(in, &event, now_us);
    } while (len > 0 || event.type != QEMU_RETURN_MORE);
}

void incoming_on_qemu_eof(Incoming *in)
{
    const guint8 *held;
    gsize len = qemu_return_held(in->return_path, &held);

    frame_queue_put_data(&in->queue, held, len);
    in->qemu_ended = TRUE;
}

void incoming_send_return(Incoming *in, gint64 now_us)
{
    if (in->lane)
        send_requests(in);
    frame_queue_send(&in->queue, in->session, NULL, now_us);
    if (in->qemu_ended && !in->eof_sent && frame_queue_is_empty(&in->queue)) {
        in->eof_sent = TRUE;
        session_on_qemu_eof(in->session, NULL);
    }
}
