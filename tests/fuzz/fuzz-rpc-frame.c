/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a client may send: a length word, a frame, and the error object of a reply. */
#include "config.h"

#include "driver/rpc_error.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_error(const RpcFrame *frame)
{
    g_autoptr(GError) error = NULL;
    g_auto(RpcError) e = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    g_assert(rpc_error_decode(payload, len, &e, &error) == (error == NULL));
}

/* A new message can be read back, whatever else the object has. */
static void try_replace(RpcFrame *frame)
{
    g_autoptr(RpcFrame) changed = rpc_error_append_message(frame, "more");
    g_auto(RpcError) e = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(changed, &len);

    if (changed->header.status == RPC_STATUS_ERROR && rpc_error_decode(payload, len, &e, NULL))
        g_assert(g_str_has_suffix(e.message, "more"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    GByteArray *wire = g_byte_array_new();
    RpcFrame *frame;
    guint32 len;
    guint n_fds = 0;
    gboolean good;

    g_byte_array_append(wire, data, (guint)size);
    good = size >= 4 && rpc_frame_parse_length(data, &len, NULL) && len == size;
    frame = rpc_frame_new_from_wire(wire, &n_fds, &error);
    g_assert((frame != NULL) == (error == NULL));
    g_assert(!frame || (good && n_fds <= RPC_FDS_MAX));
    if (!frame)
        return 0;
    try_error(frame);
    try_replace(frame);
    return 0;
}
