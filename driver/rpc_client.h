/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection on which this daemon is itself a client of libvirtd: one call at a time, of the
 * remote program. Events and keep-alive are not for it: it asks for neither. Main thread only. */
#pragma once

#include "driver/rpc_stream.h"
#include "driver/rpc_xdr.h"

typedef struct RpcClient RpcClient;

#define RPC_CLIENT_ERROR (rpc_client_error_quark())
GQuark rpc_client_error_quark(void);

typedef enum {
    RPC_CLIENT_ERROR_REFUSED, /* libvirtd's answer is an error; the message is its own */
    RPC_CLIENT_ERROR_CLOSED,  /* the connection ended; no call will be answered any more */
} RpcClientError;

/* reply or error, both the client's. The client may be freed in it. */
typedef void (*RpcClientFunc)(RpcClient *client, const RpcFrame *reply, const GError *error,
                              gpointer data);

/* Takes stream, which is not started yet. */
RpcClient *rpc_client_new(RpcStream *stream);

/* A call that waits for its reply is never answered. */
void rpc_client_free(RpcClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcClient, rpc_client_free)

/* args NULL: the call has none. Only when the call before has been answered. func is called once,
 * from the main loop. */
void rpc_client_call(RpcClient *client, gint32 procedure, xdrproc_t proc, void *args,
                     RpcClientFunc func, gpointer data);

/* libvirt's code (virErrorNumber) of the answer that was RPC_CLIENT_ERROR_REFUSED; 0: it had none. */
int rpc_client_refusal_code(const RpcClient *client);
