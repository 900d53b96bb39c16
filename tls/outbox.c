/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/outbox.h"

#include <glib/gi18n.h>
#include <inttypes.h>

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

/* Everything that is not sequenced. */
static void outbox_clear_places(Outbox *out)
{
    g_clear_pointer(&out->opening, g_bytes_unref);
    g_clear_pointer(&out->ack, g_bytes_unref);
    g_clear_pointer(&out->pong, g_bytes_unref);
    g_clear_pointer(&out->ping, g_bytes_unref);
    g_clear_pointer(&out->closing, g_bytes_unref);
}

void outbox_clear(Outbox *out)
{
    g_queue_clear_full(&out->frames, sent_frame_free);
    out->unsent = NULL;
    outbox_clear_places(out);
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

/* All sequenced frames of which no byte was sent. */
static void outbox_drop_unsent(Outbox *out)
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

gboolean outbox_end(Outbox *out, GBytes *last)
{
    gboolean is_lost = out->joint == JOINT_LOST;
    GBytes *hello = out->joint == JOINT_HELLO_SENT ? g_steal_pointer(&out->opening) : NULL;

    outbox_drop_unsent(out);
    outbox_clear_places(out);
    out->joint = JOINT_UP;
    out->opening = hello;
    if (last && is_lost)
        g_bytes_unref(last);
    else if (last)
        outbox_put(hello ? &out->closing : &out->opening, last);
    return !is_lost;
}

static GBytes *outbox_next_unsequenced(Outbox *out)
{
    GBytes **const places[] = { &out->opening, &out->ack, &out->pong, &out->ping };
    gsize count = out->joint == JOINT_UP ? G_N_ELEMENTS(places) : 1;

    for (gsize i = 0; i < count; i++) {
        if (*places[i])
            return g_steal_pointer(places[i]);
    }
    return NULL;
}

static void outbox_begin_next(Outbox *out)
{
    out->current_done = 0;
    out->current_is_sequenced = FALSE;
    if (out->joint == JOINT_LOST)
        return;
    out->current = outbox_next_unsequenced(out);
    if (out->current || out->joint != JOINT_UP)
        return;
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

static void outbox_sequenced_done(Outbox *out)
{
    const SentFrame *frame = out->unsent->data;

    out->unsent = out->unsent->next;
    out->sent_seq++;
    if (out->sent_seq <= out->sent_high)
        out->again_bytes += frame->body_len;
    else
        out->sent_high = out->sent_seq;
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
    if (out->current_is_sequenced)
        outbox_sequenced_done(out);
}

static gboolean bad_ack(GError **error, const char *what, guint64 got, guint64 expected)
{
    g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                _("%s: %" PRIu64 ", expected %" PRIu64), what, got, expected);
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

/* ---- another connection ---- */

void outbox_lose(Outbox *out)
{
    out->joint = JOINT_LOST;
    outbox_clear_places(out);
    /* A frame that has begun was not received: it begins anew. */
    if (out->current && out->current_is_sequenced && out->current_done > 0)
        out->unsent_bytes += ((SentFrame *)out->unsent->data)->body_len;
    g_clear_pointer(&out->current, g_bytes_unref);
    out->ping_is_out = FALSE;
}

void outbox_hello(Outbox *out, GBytes *hello)
{
    if (out->joint == JOINT_LOST)
        out->joint = JOINT_HELLO_SENT;
    outbox_put(&out->opening, hello);
}

gboolean outbox_join(Outbox *out)
{
    if (out->joint == JOINT_UP)
        return FALSE;
    out->joint = JOINT_UP;
    out->resumes++;
    return TRUE;
}

gboolean outbox_check_resume(const Outbox *out, guint64 seq, GError **error)
{
    if (seq >= out->acked_seq && seq <= out->sent_high)
        return TRUE;
    g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                _("resume sequence is %" PRIu64 ", expected %" PRIu64
                  " to %" PRIu64),
                seq, out->acked_seq, out->sent_high);
    return FALSE;
}

void outbox_resume(Outbox *out, guint64 seq)
{
    /* On the accepting side the connection before may not be known to be lost. */
    outbox_lose(out);
    outbox_join(out);
    out->sent_seq = seq;
    out->unsent = g_queue_peek_nth_link(&out->frames, seq - out->acked_seq);
    out->unsent_bytes = 0;
    for (const GList *link = out->unsent; link; link = link->next)
        out->unsent_bytes += ((const SentFrame *)link->data)->body_len;
}

/* ---- PING ---- */

gboolean outbox_ping(Outbox *out, guint64 cookie)
{
    if (out->ping_is_out)
        return FALSE;
    outbox_put(&out->ping, frame_new_ping(FRAME_PING, cookie));
    out->ping_is_out = TRUE;
    out->ping_cookie = cookie;
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

gboolean outbox_take_pong(Outbox *out, GBytes *body, GError **error)
{
    guint64 cookie;

    if (!frame_ping_decode(body, &cookie, error))
        return FALSE;
    if (!out->ping_is_out || cookie != out->ping_cookie) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("PONG cookie 0x%016" PRIx64 " answers no PING"), cookie);
        return FALSE;
    }
    out->ping_is_out = FALSE;
    return TRUE;
}
