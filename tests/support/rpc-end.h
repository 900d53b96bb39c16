/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One end of an RPC connection in a test: a stream that remembers all it heard, frames made in one
 * line, and a main loop that runs until something is true. */
#pragma once

#include "driver/rpc_stream.h"

typedef struct {
    RpcStream *stream;
    GPtrArray *frames; /* RpcFrame, in the order they came */
    guint drained;
    guint closed; /* how often that was heard: at most 1 */
    GError *error; /* it was closed with */
} RpcEnd;

/* Takes stream and starts it. */
RpcEnd *rpc_end_new(RpcStream *stream);
void rpc_end_free(RpcEnd *end);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcEnd, rpc_end_free)

RpcFrame *rpc_end_frame(const RpcEnd *end, guint i);

/* A frame of program remote whose payload is len bytes derived from serial. */
RpcFrame *rpc_test_frame(guint32 type, gint32 procedure, guint32 serial, gsize len);
RpcFrame *rpc_test_copy(const RpcFrame *frame); /* without descriptors */
gboolean rpc_test_same(const RpcFrame *a, const RpcFrame *b);
char *rpc_test_error(const RpcFrame *reply); /* its message; g_free() */

/* Two connected sockets, closed on exec. */
void rpc_test_pair(int fds[2]);

/* Runs the main loop until condition(data), for a minute at most: returns what it is then. */
gboolean rpc_test_until(gboolean (*condition)(gpointer), gpointer data);
gboolean rpc_test_until_frames(RpcEnd *end, guint n);
gboolean rpc_test_until_closed(RpcEnd *end);

/* Runs it until it has nothing to do, for a moment. */
void rpc_test_settle(void);

/* Descriptors this process has open. */
guint rpc_test_open_fds(void);
