/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The session's table of transitions. */
#include "config.h"

#include "tls/session_priv.h"

#define IN(state) (1u << SESSION_##state)
#define OUT_OPEN (IN(ACTIVE) | IN(PEER_ENDED))
#define IN_OPEN (IN(ACTIVE) | IN(LOCAL_ENDED))
#define FLOWING (IN(ACTIVE) | IN(LOCAL_ENDED) | IN(PEER_ENDED) | IN(DRAINING))
#define JOINED (IN(HELLO_SENT) | IN(AWAIT_QEMU) | FLOWING)
/* What another connection of the channel finds at a side that has agreed on it. */
#define AGREED (IN(AWAIT_QEMU) | FLOWING | IN(COMPLETED))
#define STOPPED (IN(FAILED) | IN(CANCELLED))
#define ENDED (IN(COMPLETED) | STOPPED)

#define SRC (1u << SESSION_SOURCE)
#define DST (1u << SESSION_DESTINATION)
#define BOTH (SRC | DST)

#define SAME SESSION_SAME_STATE

static const SessionRow rows[] = {
    /* set-up */
    { IN(NONE), SESSION_EV_START, BOTH, SESSION_SETUP, act_nothing },
    { IN(SETUP), SESSION_EV_CHANNEL_UP, SRC, SESSION_HELLO_SENT, act_send_hello },
    { IN(SETUP), SESSION_EV_HELLO, DST, SESSION_AWAIT_QEMU, act_take_hello },
    { IN(HELLO_SENT), SESSION_EV_FRAME_HELLO_ACK, SRC, SESSION_AWAIT_QEMU, act_take_hello_ack },
    { IN(AWAIT_QEMU), SESSION_EV_QEMU_ATTACHED, SRC, SESSION_ACTIVE, act_nothing },
    { IN(AWAIT_QEMU), SESSION_EV_QEMU_ATTACHED, DST, SESSION_ACTIVE, act_send_hello_ack },
    { IN(AWAIT_QEMU), SESSION_EV_QEMU_REFUSED, BOTH, SESSION_FAILED, act_refuse_qemu },

    /* a lost connection, and another in its place (what of it may happen when also depends on
     * whether there is one: tls/session_opening.c) */
    { IN(SETUP), SESSION_EV_CHANNEL_LOST, SRC, SAME, act_lose_channel },
    { IN(HELLO_SENT), SESSION_EV_CHANNEL_LOST, SRC, SESSION_SETUP, act_lose_channel },
    { AGREED, SESSION_EV_CHANNEL_LOST, BOTH, SAME, act_lose_channel },
    { AGREED, SESSION_EV_CHANNEL_UP, SRC, SAME, act_send_hello_resume },
    { AGREED, SESSION_EV_FRAME_RESUMED, SRC, SAME, act_take_resumed },
    { IN(AWAIT_QEMU) | IN(ACTIVE) | IN(LOCAL_ENDED), SESSION_EV_HELLO_AGAIN, DST, SAME,
      act_take_hello_again },
    { FLOWING | IN(COMPLETED), SESSION_EV_HELLO_RESUME, DST, SAME, act_take_hello_resume },

    /* from QEMU, or made of what it said, to the channel */
    { OUT_OPEN, SESSION_EV_SEND, BOTH, SAME, act_send },
    { IN(ACTIVE), SESSION_EV_QEMU_EOF, BOTH, SESSION_LOCAL_ENDED, act_send_eof },
    { IN(PEER_ENDED), SESSION_EV_QEMU_EOF, BOTH, SESSION_DRAINING, act_send_eof },
    { FLOWING, SESSION_EV_FRAME_ACK, BOTH, SAME, act_take_ack },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_ACK, SRC, SAME, act_take_ack },

    /* from the channel to QEMU, or whoever speaks to it; the source's QEMU may come later than the
     * first bytes for it */
    { IN_OPEN, SESSION_EV_FRAME_CARRIED, BOTH, SAME, act_take_carried },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_CARRIED, SRC, SAME, act_take_carried },
    { IN(ACTIVE), SESSION_EV_FRAME_EOF, BOTH, SESSION_PEER_ENDED, act_take_eof },
    { IN(LOCAL_ENDED), SESSION_EV_FRAME_EOF, BOTH, SESSION_DRAINING, act_take_eof },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_EOF, SRC, SESSION_FAILED, act_take_early_end },
    { FLOWING, SESSION_EV_CONSUME, BOTH, SAME, act_consume },

    { IN(DRAINING), SESSION_EV_DRAINED, BOTH, SESSION_COMPLETED, act_complete },
    { IN(COMPLETED), SESSION_EV_FRAME_BYE, BOTH, SAME, act_close_channel },

    /* asking whether the peer is there */
    { FLOWING, SESSION_EV_FRAME_PING, BOTH, SAME, act_answer_ping },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_PING, SRC, SAME, act_answer_ping },
    { FLOWING, SESSION_EV_FRAME_PONG, BOTH, SAME, act_take_pong },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_PONG, SRC, SAME, act_take_pong },

    /* ends before the end */
    { FLOWING, SESSION_EV_QEMU_BROKEN, BOTH, SESSION_FAILED, act_send_reset },
    { FLOWING, SESSION_EV_FRAME_RESET, BOTH, SESSION_FAILED, act_take_reset },
    { IN(AWAIT_QEMU), SESSION_EV_FRAME_RESET, SRC, SESSION_FAILED, act_take_reset },
    { JOINED, SESSION_EV_FRAME_ERROR, BOTH, SESSION_FAILED, act_take_error },
    { JOINED, SESSION_EV_FRAME_CANCELLED, BOTH, SESSION_CANCELLED, act_take_error },
    { JOINED, SESSION_EV_BAD_FRAME, BOTH, SESSION_FAILED, act_refuse_frame },
    { JOINED, SESSION_EV_CHANNEL_GONE, BOTH, SESSION_FAILED, act_give_channel_up },
    { IN(SETUP), SESSION_EV_CHANNEL_GONE, SRC, SESSION_FAILED, act_give_channel_up },
    { IN(NONE) | IN(SETUP) | JOINED, SESSION_EV_CANCEL, BOTH, SESSION_CANCELLED, act_cancel },

    /* after the end: what still comes was under way and means nothing now */
    { ENDED, SESSION_EV_CANCEL, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_CHANNEL_GONE, BOTH, SAME, act_close_channel },
    { ENDED, SESSION_EV_BAD_FRAME, BOTH, SAME, act_close_channel },
    { ENDED, SESSION_EV_FRAME_ERROR, BOTH, SAME, act_close_channel },
    { ENDED, SESSION_EV_FRAME_CANCELLED, BOTH, SAME, act_close_channel },
    { STOPPED, SESSION_EV_FRAME_BYE, BOTH, SAME, act_close_channel },
    { ENDED, SESSION_EV_FRAME_HELLO_ACK, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_CARRIED, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_EOF, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_RESET, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_ACK, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_PING, BOTH, SAME, act_nothing },
    { ENDED, SESSION_EV_FRAME_PONG, BOTH, SAME, act_nothing },
};

const SessionRow *session_find_row(SessionSide side, SessionState state, SessionEvent event)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].event == event && (rows[i].from & (1u << state)) &&
            (rows[i].sides & (1u << side)))
            return &rows[i];
    }
    return NULL;
}

gboolean session_has_row(SessionSide side, SessionState state, SessionEvent event,
                         SessionState *ret_next)
{
    const SessionRow *row = session_find_row(side, state, event);

    if (!row)
        return FALSE;
    *ret_next = row->next == SAME ? state : row->next;
    return TRUE;
}

gboolean session_state_is_end(SessionState state)
{
    return (ENDED & (1u << state)) != 0;
}

gboolean session_state_is_active(SessionState state)
{
    return (FLOWING & (1u << state)) != 0;
}
