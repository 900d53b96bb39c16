/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server's half of libvirt's TLS transport: handshake, check of the client, and then one byte
 * 0x01 inside TLS that tells the client it is welcome. */
#pragma once

#include "tls/channel.h"

/* Takes fd, a connected socket. allowed_dns is copied. The whole of it has timeout seconds. */
void tls_accept(int fd, TlsCredentials *creds, const char *const *allowed_dns, guint timeout,
                GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data);

/* A channel ready for use, the caller's. */
TlsChannel *tls_accept_finish(GAsyncResult *result, GError **error);
