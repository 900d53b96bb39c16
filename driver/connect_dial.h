/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opens the RPC connection to another host's virtpostcopyd that a peer-to-peer migration needs,
 * by the transport its URI names: TLS, TCP, a unix socket, or ssh. */
#pragma once

#include "driver/rpc_stream.h"
#include "driver/settings.h"
#include "xml/connect_uri.h"

/* Within settings' connect_timeout (ssh: until its own). uri may be cleared after the call. */
void connect_dial(const Settings *settings, const ConnectUri *uri, GAsyncReadyCallback callback,
                  gpointer data);

/* A stream not started yet; the caller's. */
RpcStream *connect_dial_finish(GAsyncResult *result, GError **error);
