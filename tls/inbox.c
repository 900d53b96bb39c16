/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/inbox.h"

#include <glib/gi18n.h>

#include "tls/session.h"

void inbox_init(Inbox *in, guint64 window)
{
    *in = (Inbox){ .window = window };
    g_queue_init(&in->bodies);
}

void inbox_clear(Inbox *in)
{
    g_queue_clear_full(&in->bodies, (GDestroyNotify)g_bytes_unref);
    in->head_done = 0;
}

gboolean inbox_check_seq(const Inbox *in, const Frame *frame, GError **error)
{
    if (frame->header.seq == in->next_seq)
        return TRUE;
    g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                _("frame sequence of %s is %" G_GUINT64_FORMAT ", expected %" G_GUINT64_FORMAT),
                frame_type_name(frame->header.type), frame->header.seq, in->next_seq);
    return FALSE;
}

static gboolean inbox_check_window(const Inbox *in, gsize len, GError **error)
{
    guint64 bytes = in->received_bytes - in->acked_bytes + len;
    guint64 frames = in->next_seq - in->acked_seq + 1;

    if (bytes > in->window) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("%" G_GUINT64_FORMAT " bytes in flight are more than the window of %"
                      G_GUINT64_FORMAT),
                    bytes, in->window);
        return FALSE;
    }
    if (frames > SESSION_FRAMES_MAX) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("%" G_GUINT64_FORMAT " frames in flight are more than the limit of %d"),
                    frames, SESSION_FRAMES_MAX);
        return FALSE;
    }
    return TRUE;
}

gboolean inbox_take(Inbox *in, const Frame *frame, GError **error)
{
    gsize len = frame->header.body_len;
    guint64 held;

    if (!inbox_check_seq(in, frame, error) || !inbox_check_window(in, len, error))
        return FALSE;

    g_queue_push_tail(&in->bodies, g_bytes_ref(frame->body));
    in->next_seq++;
    in->received_bytes += len;
    held = in->received_bytes - in->handed_bytes - in->head_done;
    in->held_high = MAX(in->held_high, held);
    return TRUE;
}

gsize inbox_output(const Inbox *in, const guint8 **ret_bytes)
{
    const guint8 *bytes;
    gsize size;

    if (g_queue_is_empty((GQueue *)&in->bodies))
        return 0;
    bytes = g_bytes_get_data(in->bodies.head->data, &size);
    if (size == 0)
        return 0;
    *ret_bytes = bytes + in->head_done;
    return size - in->head_done;
}

static void inbox_pop(Inbox *in)
{
    g_autoptr(GBytes) body = g_queue_pop_head(&in->bodies);

    in->handed_bytes += g_bytes_get_size(body);
    in->handed_seq++;
    in->head_done = 0;
}

void inbox_written(Inbox *in, gsize len)
{
    in->head_done += len;
    if (in->head_done == g_bytes_get_size(in->bodies.head->data))
        inbox_pop(in);
}

gboolean inbox_take_eof(Inbox *in)
{
    if (inbox_is_empty(in) || g_bytes_get_size(in->bodies.head->data) > 0)
        return FALSE;
    inbox_pop(in);
    return TRUE;
}

gboolean inbox_is_empty(const Inbox *in)
{
    return in->bodies.length == 0;
}

/* An ACK per frame would cost as much as small frames do; one when nothing is left, and a few
 * per window while QEMU is the slower one, keep the sender going. */
gboolean inbox_ack_is_due(const Inbox *in)
{
    if (in->handed_seq == in->acked_seq)
        return FALSE;
    return inbox_is_empty(in) || in->handed_bytes - in->acked_bytes >= in->window / 8 ||
           in->handed_seq - in->acked_seq >= SESSION_FRAMES_MAX / 8;
}

FrameAck inbox_take_ack(Inbox *in)
{
    in->acked_seq = in->handed_seq;
    in->acked_bytes = in->handed_bytes;
    return (FrameAck){ in->acked_seq, in->acked_bytes };
}
