/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/rpc_xdr.h"

#include <glib/gi18n.h>
#include <string.h>

G_DEFINE_QUARK(rpc-xdr-error-quark, rpc_xdr_error)

gboolean rpc_xdr_decode(const void *payload, gsize len, xdrproc_t proc, void *ret, gsize ret_size,
                        const char *what, GError **error)
{
    XDR xdr;
    gsize used;

    memset(ret, 0, ret_size);
    /* libtirpc takes a non-const pointer for both directions; decoding does not write. */
    xdrmem_create(&xdr, (char *)(guintptr)payload, (u_int)len, XDR_DECODE);
    if (!proc(&xdr, ret)) {
        g_set_error(error, RPC_XDR_ERROR, RPC_XDR_ERROR_DECODE,
                    _("%s: the arguments are truncated or exceed a limit of the protocol"), what);
        xdr_destroy(&xdr);
        rpc_xdr_free(proc, ret);
        memset(ret, 0, ret_size);
        return FALSE;
    }
    used = xdr_getpos(&xdr);
    xdr_destroy(&xdr);
    if (used != len) {
        g_set_error(error, RPC_XDR_ERROR, RPC_XDR_ERROR_DECODE,
                    _("%s: %zu bytes too many after the arguments"), what, len - used);
        rpc_xdr_free(proc, ret);
        memset(ret, 0, ret_size);
        return FALSE;
    }
    return TRUE;
}

GByteArray *rpc_xdr_encode(xdrproc_t proc, void *value, const char *what, GError **error)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    gsize len = xdr_sizeof(proc, value);
    gboolean ok = FALSE;
    XDR xdr;

    if (len > 0 && len <= RPC_FRAME_MAX - RPC_HEADER_LEN) {
        g_byte_array_set_size(out, (guint)len);
        xdrmem_create(&xdr, (char *)out->data, (u_int)len, XDR_ENCODE);
        ok = proc(&xdr, value);
        xdr_destroy(&xdr);
    }
    if (!ok) {
        g_set_error(error, RPC_XDR_ERROR, RPC_XDR_ERROR_ENCODE,
                    _("%s: the message would exceed a limit of the protocol"), what);
        return NULL;
    }
    return g_steal_pointer(&out);
}

RpcFrame *rpc_xdr_reply(const RpcHeader *call, xdrproc_t proc, void *value, GError **error)
{
    g_autoptr(GByteArray) payload = rpc_xdr_encode(proc, value, _("the reply"), error);
    RpcHeader header = *call;

    if (!payload)
        return NULL;
    header.type = RPC_TYPE_REPLY;
    header.status = RPC_STATUS_OK;
    return rpc_frame_new(&header, payload->data, payload->len);
}

char *rpc_xdr_reply_text(const RpcFrame *reply, const char *what, GError **error)
{
    RPC_XDR_AUTO(remote_text_ret, ret) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_text_ret, &ret, sizeof ret, what,
                        error))
        return NULL;
    return g_strdup(ret.text);
}

void rpc_xdr_free(xdrproc_t proc, void *value)
{
    xdr_free(proc, value);
}
