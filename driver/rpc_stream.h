/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection that carries RPC frames: a unix socket, a TCP socket or a TLS channel,
 * driven by the default main context. Never blocks.
 *
 * Reading: frame by frame, never past the end of a frame on a unix socket (descriptors follow it,
 * one byte each). Memory grows with what has arrived, not with what a length word promises.
 * Writing: rpc_stream_send() queues; rpc_stream_queued() tells how much. The owner stops reading
 * from the other side while that is over its limit, which is all the back-pressure there is.
 *
 * Handlers run from the main loop, never from inside a call of this interface. */
#pragma once

#include "driver/rpc_frame.h"
#include "tls/channel.h"

typedef struct RpcStream RpcStream;

typedef struct {
    /* A frame came; the handler takes it. */
    void (*frame)(RpcStream *stream, RpcFrame *frame, gpointer data);
    /* The queue, once over RPC_STREAM_QUEUE_LIMIT, is under half of it again. */
    void (*drained)(RpcStream *stream, gpointer data);
    /* Orderly end (error NULL) or failure; once, the last thing heard. Not after close(). */
    void (*closed)(RpcStream *stream, const GError *error, gpointer data);
} RpcStreamHandlers;

#define RPC_STREAM_QUEUE_LIMIT (1024 * 1024)

/* Takes fd, a connected stream socket; it is made non-blocking. can_pass_fds: a unix socket. */
RpcStream *rpc_stream_new_socket(int fd, gboolean can_pass_fds);

/* Takes channel, whose handshake is done. */
RpcStream *rpc_stream_new_tls(TlsChannel *channel);

/* Starts reading. handlers must outlive the stream. */
void rpc_stream_start(RpcStream *stream, const RpcStreamHandlers *handlers, gpointer data);

/* Takes frame. On a stream that cannot pass descriptors a frame that has some is a caller's bug:
 * see rpc_stream_can_pass_fds(). Ignored after the end of the stream. */
void rpc_stream_send(RpcStream *stream, RpcFrame *frame);
/* Bytes of frames that wait; each descriptor of theirs counts for 16 KiB. */
gsize rpc_stream_queued(const RpcStream *stream);
gboolean rpc_stream_can_pass_fds(const RpcStream *stream);

/* SO_PEERCRED of a stream made with can_pass_fds; FALSE for others. */
gboolean rpc_stream_peer_creds(const RpcStream *stream, pid_t *ret_pid, uid_t *ret_uid);

void rpc_stream_set_reading(RpcStream *stream, gboolean reading);

/* Closes after what is queued has been written (5 seconds are allowed for that), or at once if
 * flush is FALSE. The caller's reference stays its own. */
void rpc_stream_close(RpcStream *stream, gboolean flush);

RpcStream *rpc_stream_ref(RpcStream *stream);
void rpc_stream_unref(RpcStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcStream, rpc_stream_unref)
