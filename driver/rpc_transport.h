/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an RpcStream reads from and writes to: a socket or a TLS channel behind one table.
 *
 * Every operation does what it can at once and fails with G_IO_ERROR_WOULD_BLOCK when it must
 * wait. Private to rpc_stream.c. */
#pragma once

#include "tls/channel.h"

typedef struct RpcTransport RpcTransport;

typedef struct {
    /* > 0 bytes; 0 the peer has closed; -1 error. */
    gssize (*read)(RpcTransport *t, void *buf, gsize len, GError **error);
    gssize (*write)(RpcTransport *t, const void *buf, gsize len, GError **error);
    /* One descriptor with its byte of carrier; NULL where none can pass. */
    gboolean (*read_fd)(RpcTransport *t, int *ret_fd, GError **error);
    gboolean (*write_fd)(RpcTransport *t, int fd, GError **error);
    /* TRUE once nothing written is left inside the transport. */
    gboolean (*flush)(RpcTransport *t, GError **error);
    /* Bytes that can be read although poll() says nothing. */
    gsize (*pending)(RpcTransport *t);
    /* What to poll for. */
    GIOCondition (*events)(RpcTransport *t, gboolean want_read, gboolean want_write);
    /* Says goodbye, closes, frees. */
    void (*close)(RpcTransport *t);
} RpcTransportOps;

struct RpcTransport {
    const RpcTransportOps *ops;
    int fd;
};

/* Takes fd and makes it non-blocking. */
RpcTransport *rpc_transport_new_socket(int fd, gboolean can_pass_fds);

/* Takes channel. */
RpcTransport *rpc_transport_new_tls(TlsChannel *channel);
