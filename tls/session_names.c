/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The words for what a session is, does and meets. */
#include "config.h"

#include "tls/session.h"

static const struct {
    const char *name;
    const char *status;
} states[SESSION_STATE_MAX] = {
    [SESSION_NONE] = { "none", "none" },
    [SESSION_SETUP] = { "setup", "setup" },
    [SESSION_HELLO_SENT] = { "hello-sent", "setup" },
    [SESSION_AWAIT_QEMU] = { "await-qemu", "setup" },
    [SESSION_ACTIVE] = { "active", "active" },
    [SESSION_LOCAL_ENDED] = { "local-ended", "active" },
    [SESSION_PEER_ENDED] = { "peer-ended", "active" },
    [SESSION_DRAINING] = { "draining", "active" },
    [SESSION_COMPLETED] = { "completed", "completed" },
    [SESSION_FAILED] = { "failed", "failed" },
    [SESSION_CANCELLED] = { "cancelled", "cancelled" },
};

static const char *const events[SESSION_EVENT_MAX] = {
    [SESSION_EV_START] = "start",
    [SESSION_EV_CHANNEL_UP] = "channel-up",
    [SESSION_EV_HELLO] = "hello",
    [SESSION_EV_HELLO_AGAIN] = "hello-again",
    [SESSION_EV_HELLO_RESUME] = "hello-resume",
    [SESSION_EV_QEMU_ATTACHED] = "qemu-attached",
    [SESSION_EV_QEMU_REFUSED] = "qemu-refused",
    [SESSION_EV_SEND] = "send",
    [SESSION_EV_QEMU_EOF] = "qemu-eof",
    [SESSION_EV_QEMU_BROKEN] = "qemu-broken",
    [SESSION_EV_CONSUME] = "consume",
    [SESSION_EV_CANCEL] = "cancel",
    [SESSION_EV_CHANNEL_LOST] = "channel-lost",
    [SESSION_EV_CHANNEL_GONE] = "channel-gone",
    [SESSION_EV_BAD_FRAME] = "bad-frame",
    [SESSION_EV_DRAINED] = "drained",
    [SESSION_EV_FRAME_HELLO] = "HELLO",
    [SESSION_EV_FRAME_HELLO_ACK] = "HELLO_ACK",
    [SESSION_EV_FRAME_RESUMED] = "HELLO_ACK (resumed)",
    [SESSION_EV_FRAME_ERROR] = "ERROR",
    [SESSION_EV_FRAME_CANCELLED] = "ERROR (cancelled)",
    [SESSION_EV_FRAME_CARRIED] = "carried frame",
    [SESSION_EV_FRAME_EOF] = "EOF",
    [SESSION_EV_FRAME_RESET] = "RESET",
    [SESSION_EV_FRAME_ACK] = "ACK",
    [SESSION_EV_FRAME_PING] = "PING",
    [SESSION_EV_FRAME_PONG] = "PONG",
    [SESSION_EV_FRAME_BYE] = "BYE",
};

const char *session_ended_by_name(SessionEndedBy by)
{
    static const char *const names[SESSION_ENDED_BY_MAX] = { "", "qemu", "peer", "channel",
                                                             "cancel" };

    return by < SESSION_ENDED_BY_MAX ? names[by] : "";
}

const char *session_side_name(SessionSide side)
{
    return side == SESSION_SOURCE ? "source" : "destination";
}

const char *session_state_name(SessionState state)
{
    return state < SESSION_STATE_MAX ? states[state].name : "invalid";
}

const char *session_state_status(SessionState state)
{
    return state < SESSION_STATE_MAX ? states[state].status : "invalid";
}

const char *session_event_name(SessionEvent event)
{
    return event < SESSION_EVENT_MAX ? events[event] : "invalid";
}
