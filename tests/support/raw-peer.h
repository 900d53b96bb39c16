/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A peer of a destination that speaks TLS with the right key, and then what a test wants. Whatever
 * fails here is a fault of the test: it aborts with a message. */
#pragma once

#include "tests/support/relay-end.h"
#include "tls/channel.h"

/* Through its handshake. */
TlsChannel *raw_peer(End *destination);
/* Waits for so many bytes. */
void raw_read(TlsChannel *channel, guint8 *buf, gsize len);
/* All at once; takes the bytes. */
void raw_write(TlsChannel *channel, GBytes *bytes);
/* The ERROR frame that comes back, "name: text"; NULL: closed without. */
char *raw_answer(TlsChannel *channel);
