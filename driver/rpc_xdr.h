/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Payloads of RPC frames to and from the structures of remote.x.
 *
 * What is decoded belongs to the caller and is released with rpc_xdr_free(). Strings and
 * arrays inside are malloc()ed, as libtirpc does: replace them with strdup() and free(). Pure. */
#pragma once

#include "driver/remote.h"
#include "driver/rpc_frame.h"

#define RPC_XDR_ERROR (rpc_xdr_error_quark())
GQuark rpc_xdr_error_quark(void);

typedef enum {
    RPC_XDR_ERROR_DECODE, /* truncated, over a limit, or bytes left over */
    RPC_XDR_ERROR_ENCODE, /* over a limit */
} RpcXdrError;

/* Decodes into *ret, which the call zeroes first. what names the message in errors. */
gboolean rpc_xdr_decode(const void *payload, gsize len, xdrproc_t proc, void *ret, gsize ret_size,
                        const char *what, GError **error);

GByteArray *rpc_xdr_encode(xdrproc_t proc, void *value, const char *what, GError **error);

/* The good reply to a call, with value as its result. */
RpcFrame *rpc_xdr_reply(const RpcHeader *call, xdrproc_t proc, void *value, GError **error);

/* The text that a good reply has for its result; g_free(). */
char *rpc_xdr_reply_text(const RpcFrame *reply, const char *what, GError **error);

void rpc_xdr_free(xdrproc_t proc, void *value);

/* For a variable whose clean-up should come by itself:
 *     RPC_XDR_AUTO(remote_prepare3_ret, ret) = { 0 }; */
#define RPC_XDR_AUTO(type, name) \
    __attribute__((cleanup(type##_rpc_xdr_clear))) type name
#define RPC_XDR_DEFINE_CLEAR(type) \
    static inline void type##_rpc_xdr_clear(type *value) \
    { \
        rpc_xdr_free((xdrproc_t)xdr_##type, value); \
    }
RPC_XDR_DEFINE_CLEAR(remote_connect_open)
RPC_XDR_DEFINE_CLEAR(remote_abort_job)
RPC_XDR_DEFINE_CLEAR(remote_abort_job_flags)
RPC_XDR_DEFINE_CLEAR(remote_list_domains)
RPC_XDR_DEFINE_CLEAR(remote_list_domains_ret)
RPC_XDR_DEFINE_CLEAR(remote_job_info)
RPC_XDR_DEFINE_CLEAR(remote_job_stats_ret)
RPC_XDR_DEFINE_CLEAR(remote_job_completed)
RPC_XDR_DEFINE_CLEAR(remote_perform3_params)
RPC_XDR_DEFINE_CLEAR(remote_dom_ret)
RPC_XDR_DEFINE_CLEAR(remote_text_ret)
RPC_XDR_DEFINE_CLEAR(remote_prepare3_ret)
RPC_XDR_DEFINE_CLEAR(remote_monitor_register)
