/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source daemon's half of a recovery's connection: libvirt's RPC to the destination's daemon
 * over its migration port. See driver/recovery_port.h for the other half and for what is said
 * before RPC. */
#pragma once

#include "driver/rpc_stream.h"
#include "driver/settings.h"
#include "xml/migration_uri.h"

/* Within settings' connect_timeout. tls_name: the name to expect in the peer's certificate; NULL:
 * uri's host. */
void recovery_dial(const Settings *settings, const MigrationUri *uri, const char *tls_name,
                   GAsyncReadyCallback callback, gpointer data);

/* A stream not started yet; the caller's. SESSION_DIAL_ERROR_UNKNOWN: the destination knows nothing
 * of the session. */
RpcStream *recovery_dial_finish(GAsyncResult *result, GError **error);
