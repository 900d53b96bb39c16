/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/inbox.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "tls/session.h"

/* Handed on and not acknowledged: the sender measures the link by ACKs, so with a large window
 * they must not become rare. */
#define ACK_BYTES_MAX (64 * 1024)

typedef struct {
    FrameType type;
    GBytes *body;
} InboxFrame;

static void inbox_frame_free(gpointer data)
{
    InboxFrame *frame = data;

    g_bytes_unref(frame->body);
    g_free(frame);
}

void inbox_init(Inbox *in, guint64 window)
{
    *in = (Inbox){ .window = window };
    g_queue_init(&in->frames);
}

void inbox_clear(Inbox *in)
{
    g_queue_clear_full(&in->frames, inbox_frame_free);
}

gboolean inbox_check_seq(const Inbox *in, const Frame *frame, GError **error)
{
    if (frame->header.seq == in->next_seq)
        return TRUE;
    g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                _("frame sequence of %s is %" PRIu64 ", expected %" PRIu64),
                frame_type_name(frame->header.type), frame->header.seq, in->next_seq);
    return FALSE;
}

static gboolean inbox_check_window(const Inbox *in, gsize len, GError **error)
{
    guint64 bytes = in->received_bytes - in->acked_bytes + len;
    guint64 frames = in->next_seq - in->acked_seq + 1;

    if (bytes > in->window) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("%" PRIu64 " bytes in flight are more than the window of %"
                      PRIu64),
                    bytes, in->window);
        return FALSE;
    }
    if (frames > SESSION_FRAMES_MAX) {
        g_set_error(error, SESSION_ERROR, SESSION_ERROR_PROTOCOL,
                    _("%" PRIu64 " frames in flight are more than the limit of %d"),
                    frames, SESSION_FRAMES_MAX);
        return FALSE;
    }
    return TRUE;
}

gboolean inbox_take(Inbox *in, const Frame *frame, GError **error)
{
    gsize len = frame->header.body_len;
    InboxFrame *kept;

    if (!inbox_check_seq(in, frame, error) || !inbox_check_window(in, len, error))
        return FALSE;

    kept = g_new(InboxFrame, 1);
    *kept = (InboxFrame){ frame->header.type, g_bytes_ref(frame->body) };
    g_queue_push_tail(&in->frames, kept);
    in->next_seq++;
    in->received_bytes += len;
    in->held_high = MAX(in->held_high, in->received_bytes - in->handed_bytes);
    return TRUE;
}

GBytes *inbox_front(const Inbox *in, FrameType *ret_type)
{
    const InboxFrame *front;

    if (inbox_is_empty(in))
        return NULL;
    front = in->frames.head->data;
    *ret_type = front->type;
    return front->body;
}

void inbox_consume(Inbox *in)
{
    InboxFrame *front = g_queue_pop_head(&in->frames);

    in->handed_bytes += g_bytes_get_size(front->body);
    in->handed_seq++;
    inbox_frame_free(front);
}

gboolean inbox_is_empty(const Inbox *in)
{
    return in->frames.length == 0;
}

/* An ACK per frame would cost as much as small frames do; one when nothing is left, and one per
 * large frame or eighth of the window while QEMU is the slower one, keep the sender going. */
gboolean inbox_ack_is_due(const Inbox *in)
{
    if (in->handed_seq == in->acked_seq)
        return FALSE;
    return inbox_is_empty(in) ||
           in->handed_bytes - in->acked_bytes >= MIN(in->window / 8, ACK_BYTES_MAX) ||
           in->handed_seq - in->acked_seq >= SESSION_FRAMES_MAX / 8;
}

GBytes *inbox_take_ack(Inbox *in)
{
    in->acked_seq = in->handed_seq;
    in->acked_bytes = in->handed_bytes;
    return frame_new_ack(&(FrameAck){ in->acked_seq, in->acked_bytes });
}
