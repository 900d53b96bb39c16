/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way of a client from accept() to its proxy: who is it (names, TLS), and a connection to
 * upstream for it. Nothing of it blocks. A client for which there is no upstream is told so. */
#pragma once

#include "driver/proxy.h"
#include "driver/settings.h"

/* Once for each arrival, from the main loop. client NULL: the client is gone, or was sent away, and
 * that was logged. Else it takes both streams; peer is only lent. */
typedef void (*ArrivalFunc)(RpcStream *client, RpcStream *upstream, const ProxyPeer *peer,
                            gpointer data);

/* Takes fd. creds: for PROXY_CLIENT_TLS, else NULL. settings must outlive the arrival;
 * cancellable ends it. */
void arrival_start(int fd, ProxyClientKind kind, gboolean read_only, const Settings *settings,
                   TlsCredentials *creds, GCancellable *cancellable, ArrivalFunc func,
                   gpointer data);

/* "pid 4711, uid 1000", "192.0.2.1:40000", with the DN behind it for TLS: for log lines. */
char *arrival_describe(const ProxyPeer *peer);
