/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The frames a session carries, on their way out and in. */
#include "config.h"

#include "tls/session_priv.h"

guint64 session_features(const Session *s)
{
    return s->features;
}

gsize session_send_room(const Session *s)
{
    return session_find_row(s->config.side, s->state, SESSION_EV_SEND) ? outbox_room(&s->out) : 0;
}

void session_send(Session *s, FrameType type, guint8 *buf, gsize body_len)
{
    SessionInput in = {
        .type = SESSION_EV_SEND,
        .type_to_send = type,
        .buf = buf,
        .body_len = body_len,
    };

    /* A session that has ended sends nothing any more. */
    if (!session_event(s, &in, NULL))
        g_free(buf);
}

guint64 session_sent_bytes(const Session *s)
{
    return s->out.put_bytes;
}

guint64 session_acked_bytes(const Session *s)
{
    return s->out.acked_bytes;
}

guint64 session_unsent_bytes(const Session *s)
{
    return s->out.unsent_bytes;
}

GBytes *session_received(const Session *s, FrameType *ret_type)
{
    return session_state_is_active(s->state) ? inbox_front(&s->in, ret_type) : NULL;
}

void session_consume(Session *s)
{
    SessionInput in = { .type = SESSION_EV_CONSUME };

    /* In a session that has ended meanwhile, everything received is gone. */
    session_event(s, &in, NULL);
}
