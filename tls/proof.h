/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The proof that whoever dials another connection of a session also held the main channel's first
 * one: docs/protocol.md, "Opening a channel". */
#pragma once

#include "tls/channel.h"
#include "tls/hello.h"

#define CHANNEL_KEY_LEN 32

/* The session's key, from the main channel's first connection: kept by both sides as long as the
 * session lives, also when that connection is gone. Secret. Fails with TLS_ERROR. */
gboolean channel_key(TlsChannel *main_channel, guint8 ret_key[CHANNEL_KEY_LEN], GError **error);

/* The proof for a connection that is open. The same on both ends. Fails with TLS_ERROR. */
gboolean channel_proof(const guint8 key[CHANNEL_KEY_LEN], TlsChannel *channel, ChannelKind kind,
                       guint16 number, guint8 ret_proof[HELLO_PROOF_LEN], GError **error);
