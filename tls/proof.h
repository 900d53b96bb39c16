/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The proof that whoever dials another channel also holds the main channel's TLS session:
 * docs/protocol.md, "Opening a channel". */
#pragma once

#include "tls/channel.h"
#include "tls/hello.h"

/* Both channels are open. The same on both ends. Fails with TLS_ERROR. */
gboolean channel_proof(TlsChannel *main_channel, TlsChannel *channel, ChannelKind kind,
                       guint16 number, guint8 ret_proof[HELLO_PROOF_LEN], GError **error);
