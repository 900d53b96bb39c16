/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migrations of memory clients for who asks by libvirt's RPC: their list (driver/memory_list.h)
 * and the statistics of each. libvirtd has no part in it. Main thread only. */
#pragma once

#include "driver/migration_account.h"
#include "driver/proxy.h"

/* accounts: those of memory clients alone. TRUE: the call was one for them; it took the frame. */
gboolean driver_memory_call(MigrationAccounts *accounts, Proxy *proxy, RpcFrame *frame);
