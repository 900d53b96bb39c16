/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migration calls' decoder. The first two bytes are the procedure's number, the others the
 * payload; what decodes must encode and decode again. */
#include "config.h"

#include <stdint.h>

#include "driver/migrate_call.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    RpcHeader header = { .program = RPC_PROGRAM_REMOTE, .version = 1, .type = RPC_TYPE_CALL };
    g_autoptr(RpcFrame) frame = NULL;
    g_autoptr(MigrateCall) call = NULL;
    g_autoptr(MigrateCall) again = NULL;
    g_autoptr(RpcFrame) encoded = NULL;
    g_autofree MigrateParam *params = NULL;
    gsize n;

    if (size < 2)
        return 0;
    header.procedure = data[0] << 8 | data[1];
    if (!migrate_call_knows(header.procedure))
        return 0;
    frame = rpc_frame_new(&header, data + 2, size - 2);
    call = migrate_call_decode(frame, NULL);
    if (!call)
        return 0;
    for (MigrateText text = 0; text < MIGRATE_TEXT_MAX; text++) {
        if (migrate_call_text(call, text))
            migrate_call_set_text(call, text, "unix:///changed");
    }
    params = migrate_call_params(call, &n);
    for (gsize i = n; i > 0; i--) {
        if (params[i - 1].type == MIGRATE_PARAM_OTHER)
            migrate_call_remove_param(call, i - 1);
    }
    encoded = migrate_call_encode(call, frame, NULL);
    g_assert_nonnull(encoded);
    again = migrate_call_decode(encoded, NULL);
    g_assert_nonnull(again);
    return 0;
}
