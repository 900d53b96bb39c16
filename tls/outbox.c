/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/outbox.h"

#include <glib/gi18n.h>

#include "tls/session.h"

/* Frames this big go out in the buffer they were made in; smaller ones are copied, so that keeping
 * them until they are acknowledged does not keep a mostly empty buffer each. */
#define COPY_BELOW (FRAME_DATA_MAX / 2)

typedef struct {
    GBytes *bytes;
    gsize body_len;
} SentFrame;

static void sent_frame_free(gpointer data)
{
    SentFrame *frame = data;

    g_bytes_unref(frame->bytes);
    g_free(frame);
}

void outbox_init(Outbox *out, guint64 window)
{
    *out = (Outbox){ .window = window };
    g_queue_init(&out->frames);
}

void outbox_clear(Outbox *out)
{
    g_queue_clear_full(&out->frames, sent_frame_free);
    out->unsent = NULL;
    g_clear_pointer(&out->opening, g_bytes_unref);
    g_clear_pointer(&out->ack, g_bytes_unref);
    g_clear_pointer(&out->pong, g_bytes_unref);
    g_clear_pointer(&out->ping, g_bytes_unref);
    g_clear_pointer(&out->closing, g_bytes_unref);
    g_clear_pointer(&out->current, g_bytes_unref);
}

static void outbox_put_sequenced(Outbox *out, GBytes *frame, gsize body_len)
{
    SentFrame *sent = g_new(SentFrame, 1);

    *sent = (SentFrame){ frame, body_len };
    g_queue_push_tail(&out->frames, sent);
    if (!out->unsent)
        out->unsent = out->frames.tail;
    out->next_seq++;
    out->put_bytes += body_len;
    out->held_bytes += body_len;
    out->unsent_bytes += body_len;
    out->held_high = MAX(out->held_high, out->held_bytes);
}

gsize outbox_room(const Outbox *out)
{
    /* One place stays free for the EOF or RESET that ends the direction. */
    if (out->frames.length >= SESSION_FRAMES_MAX - 1)
        return 0;
    return MIN(out->window - MIN(out->window, out->held_bytes), FRAME_PAGES_MAX);
}

void outbox_send(Outbox *out, FrameType type, guint8 *buf, gsize body_len)
{
    FrameHeader header = { type, out->next_seq, body_len };
    gsize size = FRAME_HEADER_LEN + body_len;
    GBytes *frame;

    g_assert(body_len <= outbox_room(out));
    frame_header_encode(&header, buf);
    if (body_len < COPY_BELOW) {
        frame = g_bytes_new(buf, size);
        g_free(buf);
    } else {
        frame = g_bytes_new_take(buf, size);
    }
    outbox_put_sequenced(out, frame, body_len);
}

void outbox_send_empty(Outbox *out, FrameType type)
{
    outbox_put_sequenced(out, frame_new(type, out->next_seq, NULL, 0), 0);
}

void outbox_put(GBytes **place, GBytes *frame)
{
    if (*place)
        g_bytes_unref(*place);
    *place = frame;
}

void outbox_drop_unsent(Outbox *out)
{
    GList *link = out->unsent;

    if (link && out->current && out->current_is_sequenced)
        link = link->next;
    while (link) {
        GList *next = link->next;
        SentFrame *frame = link->data;

        out->held_bytes -= frame->body_len;
        out->unsent_bytes -= frame->body_len;
        out->next_seq--;
        if (link == out->unsent)
            out->unsent = NULL;
        sent_frame_free(frame);
        g_queue_delete_link(&out->frames, link);
        link = next;
    }
}

void outbox_drop_all(Outbox *out)
{
    outbox_drop_unsent(out);
    g_clear_pointer(&out->opening, g_bytes_unref);
    g_clear_pointer(&out->ack, g_bytes_unref);
    g_clear_pointer(&out->pong, g_bytes_unref);
    g_clear_pointer(&out->ping, g_bytes_unref);
    g_clear_pointer(&out->closing, g_bytes_unref);
}

static void outbox_begin_next(Outbox *out)
{
    GBytes **const before[] = { &out->opening, &out->ack, &out->pong, &out->ping };

    out->current_done = 0;
    out->current_is_sequenced = FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(before); i++) {
        if (*before[i]) {
            out->current = g_steal_pointer(before[i]);
            return;
        }
    }
    if (out->unsent) {
        out->current = g_bytes_ref(((SentFrame *)out->unsent->data)->bytes);
        out->current_is_sequenced = TRUE;
        return;
    }
    out->current = g_steal_pointer(&out->closing);
}

gsize outbox_output(Outbox *out, const guint8 **ret_bytes)
{
    const guint8 *bytes;
    gsize size;

    if (!out->current)
        outbox_begin_next(out);
    if (!out->current)
        return 0;
    bytes = g_bytes_get_data(out->current, &size);
    *ret_bytes = bytes + out->current_done;
    return size - out->current_done;
}

void outbox_output_done(Outbox *out, gsize len)
{
    if (out->current_is_sequenced && out->current_done == 0 && len > 0)
        out->unsent_bytes -= ((SentFrame *)out->unsent->data)->body_len;
    out->current_done += len;
    if (out->current_done < g_bytes_get_size(out->current))
        return;
    g_clear_pointer(&out->current, g_bytes_unref);
    out->frames_sent++;
    if (out->current_is_sequenced) {
        out->unsent = out->unsent->next;
        out->sent_seq++;
    }
}

static gboolean bad_ack(GError **error, const char *what, guint64 got, guint64 expected)
{
    g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                _("%s: %" G_GUINT64_FORMAT ", expected %" G_GUINT64_FORMAT), what, got, expected);
    return FALSE;
}

gboolean outbox_acknowledge(Outbox *out, GBytes *body, GError **error)
{
    FrameAck ack;

    if (!frame_ack_decode(body, &ack, error))
        return FALSE;
    if (ack.next_seq > out->sent_seq)
        return bad_ack(error, _("ACK sequence is beyond what was sent"), ack.next_seq,
                       out->sent_seq);
    if (ack.next_seq < out->acked_seq)
        return bad_ack(error, _("ACK sequence goes back"), ack.next_seq, out->acked_seq);

    while (out->acked_seq < ack.next_seq) {
        SentFrame *frame = g_queue_pop_head(&out->frames);

        out->acked_seq++;
        out->acked_bytes += frame->body_len;
        out->held_bytes -= frame->body_len;
        sent_frame_free(frame);
    }
    if (ack.bytes != out->acked_bytes)
        return bad_ack(error, _("ACK bytes do not fit its sequence"), ack.bytes,
                       out->acked_bytes);
    return TRUE;
}

gboolean outbox_answer_ping(Outbox *out, GBytes *body, GError **error)
{
    guint64 cookie;

    if (!frame_ping_decode(body, &cookie, error))
        return FALSE;
    outbox_put(&out->pong, frame_new_ping(FRAME_PONG, cookie));
    return TRUE;
}
