/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames: the checks on what arrives, and the layout of what is sent. */
#include "config.h"

#include "driver/rpc_frame.h"

#include <glib/gi18n.h>

#include "util/autofd.h"
#include "util/bytes.h"

G_DEFINE_QUARK(rpc-frame-error-quark, rpc_frame_error)

static gboolean type_has_fds(guint32 type)
{
    return type == RPC_TYPE_CALL_WITH_FDS || type == RPC_TYPE_REPLY_WITH_FDS;
}

gboolean rpc_frame_parse_length(const guint8 word[4], guint32 *ret_len, GError **error)
{
    guint32 len = (guint32)word[0] << 24 | (guint32)word[1] << 16 | (guint32)word[2] << 8 | word[3];

    if (len < RPC_HEADER_LEN) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_LENGTH,
                    _("RPC frame: length %1$u is shorter than a header (%2$u)"), len,
                    RPC_HEADER_LEN);
        return FALSE;
    }
    if (len > RPC_FRAME_MAX) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_LENGTH,
                    _("RPC frame: length %1$u is over the limit of %2$u"), len, RPC_FRAME_MAX);
        return FALSE;
    }
    *ret_len = len;
    return TRUE;
}

static gboolean parse_header(ByteReader *r, RpcHeader *ret_header, GError **error)
{
    RpcHeader header;
    guint32 procedure;

    if (!byte_reader_take_u32(r, "program", &header.program, error) ||
        !byte_reader_take_u32(r, "version", &header.version, error) ||
        !byte_reader_take_u32(r, "procedure", &procedure, error) ||
        !byte_reader_take_u32(r, "type", &header.type, error) ||
        !byte_reader_take_u32(r, "serial", &header.serial, error) ||
        !byte_reader_take_u32(r, "status", &header.status, error))
        return FALSE;
    header.procedure = (gint32)procedure;

    if (header.type > RPC_TYPE_STREAM_HOLE) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_TYPE,
                    _("RPC frame: unknown type %1$u (procedure %2$d, serial %3$u)"), header.type,
                    header.procedure, header.serial);
        return FALSE;
    }
    if (header.status > RPC_STATUS_CONTINUE) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_TYPE,
                    _("RPC frame: unknown status %1$u (procedure %2$d, serial %3$u)"),
                    header.status, header.procedure, header.serial);
        return FALSE;
    }
    *ret_header = header;
    return TRUE;
}

static gboolean parse_n_fds(ByteReader *r, guint *ret_n_fds, GError **error)
{
    guint32 n;

    if (!byte_reader_take_u32(r, "number of descriptors", &n, error))
        return FALSE;
    if (n > RPC_FDS_MAX) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_FDS,
                    _("RPC frame: %1$u descriptors announced, the limit is %2$u"), n, RPC_FDS_MAX);
        return FALSE;
    }
    *ret_n_fds = n;
    return TRUE;
}

RpcFrame *rpc_frame_new_from_wire(GByteArray *wire, guint *ret_n_fds, GError **error)
{
    g_autoptr(GByteArray) taken = wire;
    RpcHeader header;
    guint32 len;
    guint n_fds = 0;
    ByteReader r;
    RpcFrame *frame;

    if (taken->len < RPC_HEADER_LEN) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_LENGTH,
                    _("RPC frame: %1$u bytes are shorter than a header"), taken->len);
        return NULL;
    }
    if (!rpc_frame_parse_length(taken->data, &len, error))
        return NULL;
    if (len != taken->len) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_LENGTH,
                    _("RPC frame: length %1$u, but %2$u bytes came"), len, taken->len);
        return NULL;
    }
    r = byte_reader(taken->data + 4, len - 4);
    if (!parse_header(&r, &header, error))
        return NULL;
    if (type_has_fds(header.type) && !parse_n_fds(&r, &n_fds, error))
        return NULL;

    frame = g_new0(RpcFrame, 1);
    frame->header = header;
    frame->wire = g_steal_pointer(&taken);
    *ret_n_fds = n_fds;
    return frame;
}

static GByteArray *build_wire(const RpcHeader *header, guint n_fds, const void *payload, gsize len)
{
    gsize total = RPC_HEADER_LEN + (type_has_fds(header->type) ? 4 : 0) + len;
    GByteArray *wire;

    g_return_val_if_fail(total <= G_MAXUINT32, NULL);
    wire = g_byte_array_sized_new((guint)total);
    bytes_put_u32(wire, (guint32)total);
    bytes_put_u32(wire, header->program);
    bytes_put_u32(wire, header->version);
    bytes_put_u32(wire, (guint32)header->procedure);
    bytes_put_u32(wire, header->type);
    bytes_put_u32(wire, header->serial);
    bytes_put_u32(wire, header->status);
    if (type_has_fds(header->type))
        bytes_put_u32(wire, n_fds);
    if (len > 0)
        g_byte_array_append(wire, payload, (guint)len);
    return wire;
}

RpcFrame *rpc_frame_new(const RpcHeader *header, const void *payload, gsize len)
{
    RpcFrame *frame = g_new0(RpcFrame, 1);

    frame->header = *header;
    frame->wire = build_wire(header, /* n_fds= */ 0, payload, len);
    return frame;
}

RpcFrame *rpc_frame_new_with_payload(RpcFrame *frame, const void *payload, gsize len)
{
    RpcFrame *copy = g_new0(RpcFrame, 1);

    copy->header = frame->header;
    copy->wire = build_wire(&frame->header, frame->n_fds, payload, len);
    copy->n_fds = frame->n_fds;
    for (guint i = 0; i < frame->n_fds; i++)
        copy->fds[i] = autofd_steal(&frame->fds[i]);
    frame->n_fds = 0;
    return copy;
}

const guint8 *rpc_frame_payload(const RpcFrame *frame, gsize *ret_len)
{
    gsize skip = RPC_HEADER_LEN + (rpc_frame_has_fds(frame) ? 4 : 0);

    *ret_len = frame->wire->len - skip;
    return frame->wire->data + skip;
}

gboolean rpc_frame_has_fds(const RpcFrame *frame)
{
    return type_has_fds(frame->header.type);
}

void rpc_frame_free(RpcFrame *frame)
{
    if (!frame)
        return;
    for (guint i = 0; i < frame->n_fds; i++)
        autofd_clear(&frame->fds[i]);
    g_clear_pointer(&frame->wire, g_byte_array_unref);
    g_free(frame);
}
