/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration port that answers preambles as a test says. It lives in the default main context. */
#pragma once

#include <gio/gio.h>

#include "driver/session_preamble.h"

typedef struct {
    GSocketService *service;
    guint16 port;
    char *answers;
    guint callers;                         /* whose answer was sent */
    guint8 preamble[SESSION_PREAMBLE_LEN]; /* of the last one */
} FakePort;

/* On a port of 127.0.0.1 that is free. answers: a byte for each caller, the last one for all after
 * it; '-' closes the connection without one. */
void fake_port_init(FakePort *port, const char *answers);
void fake_port_clear(FakePort *port);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FakePort, fake_port_clear)
