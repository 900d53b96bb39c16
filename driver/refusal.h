/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client that cannot be served is told why: every call it makes is answered with the reason, for
 * a moment, and then its connection ends. Without that a user sees only "end of file". */
#pragma once

#include "driver/rpc_stream.h"

/* Takes client, which must not have been started. Calls done, once and from the main loop, when the
 * client is gone; that is within REFUSAL_SECONDS and the time to flush. */
void refusal_start(RpcStream *client, int code, int domain, const char *message,
                   GDestroyNotify done, gpointer data);

#define REFUSAL_SECONDS 5u
