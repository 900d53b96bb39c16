/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The first words on a TLS channel, from the main loop: handshake, what is said right after it, and a time
 * limit for all of that. Main thread only. */
#pragma once

#include "tls/channel.h"

/* What there is to do, from where it stopped the last time. TRUE: all of it is done. FALSE with
 * G_IO_ERROR_WOULD_BLOCK: called again when the channel is ready. Other errors end it. */
typedef gboolean (*TlsStepsFunc)(TlsChannel *channel, gpointer data, GError **error);

/* Takes channel, whose handshake may not have begun. destroy (or NULL) is called for data at the end. A
 * cancellable ends it as well; NULL: none. */
void tls_steps(TlsChannel *channel, TlsStepsFunc func, gpointer data, GDestroyNotify destroy,
               guint timeout_seconds, GCancellable *cancellable, GAsyncReadyCallback callback,
               gpointer callback_data);

/* The channel, the caller's. */
TlsChannel *tls_steps_finish(GAsyncResult *result, GError **error);
