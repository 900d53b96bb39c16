/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/monitor-calls.h"

#include <string.h>

static RpcFrame *call_of(gint32 procedure, guint32 serial, xdrproc_t proc, void *args)
{
    const RpcHeader header = { .program = RPC_PROGRAM_QEMU,
                               .version = 1,
                               .procedure = procedure,
                               .type = RPC_TYPE_CALL,
                               .serial = serial };
    g_autoptr(GByteArray) payload = rpc_xdr_encode(proc, args, "", NULL);

    g_assert(payload);
    return rpc_frame_new(&header, payload->data, payload->len);
}

RpcFrame *monitor_register_call(const guint8 *uuid, const char *event, guint32 flags,
                                guint32 serial)
{
    remote_dom dom = { .name = (char *)"vm1", .id = 1 };
    remote_text text = (char *)event;
    remote_monitor_register args = { .dom = uuid ? &dom : NULL,
                                     .event = event ? &text : NULL,
                                     .flags = flags };

    if (uuid)
        memcpy(dom.uuid, uuid, sizeof dom.uuid);
    return call_of(PROC_MONITOR_EVENT_REGISTER, serial, (xdrproc_t)xdr_remote_monitor_register,
                   &args);
}

RpcFrame *monitor_deregister_call(gint32 callback, guint32 serial)
{
    remote_monitor_callback args = { callback };

    return call_of(PROC_MONITOR_EVENT_DEREGISTER, serial, (xdrproc_t)xdr_remote_monitor_callback,
                   &args);
}

RpcFrame *monitor_register_reply(const RpcHeader *call, gint32 callback)
{
    remote_monitor_callback ret = { callback };

    return rpc_xdr_reply(call, (xdrproc_t)xdr_remote_monitor_callback, &ret, NULL);
}
