/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client of a recovery's connection on the destination: another host's daemon, in the name of
 * its libvirtd. What it may call is a list; a migration it may only resume, and only that of one
 * domain. */
#pragma once

#include "driver/driver_priv.h"

/* record: of the session whose token was proved. Takes both streams and copies the rest. Ends when
 * either stream does, or with recovery_clients_close(). */
void recovery_client_start(Driver *driver, RpcStream *client, RpcStream *upstream,
                           const ProxyPeer *peer, const JobRecord *record);

void recovery_clients_close(Driver *driver);

/* NULL if a client for that domain may make that call, else a reason. Pure. */
const char *recovery_call_problem(const RpcFrame *call, const char *domain);
