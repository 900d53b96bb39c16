/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/rpc_error.h"

#include <glib/gi18n.h>
#include <string.h>

#include "util/bytes.h"

#define STRING_MAX (4u * 1024 * 1024) /* libvirt's limit of any string */
#define LEVEL_ERROR 2u                /* VIR_ERR_ERROR */

void rpc_error_clear(RpcError *e)
{
    g_clear_pointer(&e->message, g_free);
}

static void put_optional_string(GByteArray *out, const char *text)
{
    static const guint8 padding[4];
    gsize len = text ? MIN(strlen(text), STRING_MAX) : 0;

    bytes_put_u32(out, text != NULL);
    if (!text)
        return;
    bytes_put_u32(out, (guint32)len);
    g_byte_array_append(out, (const guint8 *)text, (guint)len);
    g_byte_array_append(out, padding, (guint)(-len & 3));
}

GByteArray *rpc_error_encode(int code, int domain, const char *message)
{
    GByteArray *out = g_byte_array_new();

    bytes_put_u32(out, (guint32)code);
    bytes_put_u32(out, (guint32)domain);
    put_optional_string(out, message);
    bytes_put_u32(out, LEVEL_ERROR);
    bytes_put_u32(out, 0); /* no domain */
    /* As libvirt does it: the format, and what was put into it. */
    put_optional_string(out, "%s");
    put_optional_string(out, message);
    put_optional_string(out, NULL);
    bytes_put_u32(out, (guint32)-1);
    bytes_put_u32(out, (guint32)-1);
    bytes_put_u32(out, 0); /* no network */
    return out;
}

static gboolean take_optional_string(ByteReader *r, char **ret, GError **error)
{
    guint32 present, len;
    const guint8 *bytes;

    if (!byte_reader_take_u32(r, "error message flag", &present, error))
        return FALSE;
    if (present == 0) {
        *ret = NULL;
        return TRUE;
    }
    if (present != 1) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("error message flag is %1$u, neither 0 nor 1"), present);
        return FALSE;
    }
    if (!byte_reader_take_u32(r, "error message length", &len, error))
        return FALSE;
    if (len > STRING_MAX) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("error message length %1$u is over the limit of %2$u"), len, STRING_MAX);
        return FALSE;
    }
    if (!byte_reader_take(r, "error message", (len + 3u) & ~3u, &bytes, error))
        return FALSE;
    *ret = g_strndup((const char *)bytes, len);
    return TRUE;
}

/* Leaves r behind the message. */
static gboolean take_error(ByteReader *r, RpcError *ret, GError **error)
{
    guint32 code, domain;
    char *message;

    if (!byte_reader_take_u32(r, "error code", &code, error) ||
        !byte_reader_take_u32(r, "error domain", &domain, error) ||
        !take_optional_string(r, &message, error))
        return FALSE;
    *ret = (RpcError){ (int)code, (int)domain, message };
    return TRUE;
}

gboolean rpc_error_decode(const void *payload, gsize len, RpcError *ret_error, GError **error)
{
    ByteReader r = byte_reader(payload, len);

    return take_error(&r, ret_error, error);
}

int rpc_error_code(const RpcFrame *reply)
{
    g_auto(RpcError) error = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(reply, &len);

    if (reply->header.status != RPC_STATUS_ERROR || !rpc_error_decode(payload, len, &error, NULL))
        return 0;
    return error.code;
}

RpcFrame *rpc_error_reply(const RpcHeader *call, int code, int domain, const char *message)
{
    g_autoptr(GByteArray) payload = rpc_error_encode(code, domain, message);
    RpcHeader header = *call;

    header.type = RPC_TYPE_REPLY;
    header.status = RPC_STATUS_ERROR;
    return rpc_frame_new(&header, payload->data, payload->len);
}

static RpcFrame *with_message(RpcFrame *reply, const char *text, gboolean append)
{
    g_autoptr(RpcFrame) old = reply;
    g_autoptr(GByteArray) payload = NULL;
    g_autofree char *message = NULL;
    g_auto(RpcError) e = { 0 };
    gsize len;
    const guint8 *bytes = rpc_frame_payload(old, &len);
    ByteReader r = byte_reader(bytes, len);

    if (old->header.status != RPC_STATUS_ERROR || !take_error(&r, &e, NULL))
        return g_steal_pointer(&old);
    message = append && e.message ? g_strconcat(e.message, ": ", text, NULL) : g_strdup(text);
    payload = g_byte_array_new();
    bytes_put_u32(payload, (guint32)e.code);
    bytes_put_u32(payload, (guint32)e.domain);
    put_optional_string(payload, message);
    g_byte_array_append(payload, r.data, (guint)r.len);
    return rpc_frame_new_with_payload(old, payload->data, payload->len);
}

RpcFrame *rpc_error_replace_message(RpcFrame *reply, const char *message)
{
    return with_message(reply, message, FALSE);
}

RpcFrame *rpc_error_append_message(RpcFrame *reply, const char *text)
{
    return with_message(reply, text, TRUE);
}
