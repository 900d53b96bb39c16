/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls of libvirt's qemu program, as a client makes them to register for monitor events, and
 * libvirtd's answers. */
#pragma once

#include "driver/monitor_event.h"

/* uuid, event: NULL for any. */
RpcFrame *monitor_register_call(const guint8 *uuid, const char *event, guint32 flags,
                                guint32 serial);
RpcFrame *monitor_deregister_call(gint32 callback, guint32 serial);

/* The good reply to a registration. */
RpcFrame *monitor_register_reply(const RpcHeader *call, gint32 callback);
