/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Peer-to-peer: the source libvirtd is itself the client of the destination.
 *
 * It is given, in place of the destination's URI, a unix socket of ours; its connection there is
 * joined to the destination's virtpostcopyd, and only the URI in Prepare's answer is changed on the
 * way. Everything else of its migration is its own (facts: libvirt-rpc.md 5). */
#pragma once

#include "driver/driver_priv.h"

typedef struct P2p P2p;

/* Dials the destination that the dconnuri of perform names (for a recovery: see
 * driver/recovery_uri.h) and opens the local socket. outer is the client's proxy, perform its call
 * as it came; limit is of that. disks_owner: who will copy disks, if they are to be relayed; else
 * NULL. */
void p2p_open(Driver *driver, Proxy *outer, const MigrateCall *perform, const SpeedLimit *limit,
              const QemuOwner *disks_owner, GAsyncReadyCallback callback, gpointer data);

/* Owned by the caller; freed when Perform is over. */
P2p *p2p_open_finish(GAsyncResult *result, GError **error);

/* The URI for the source libvirtd. */
const char *p2p_uri(const P2p *p2p);

/* Takes out of the Perform what the source libvirtd must not have. */
void p2p_strip(MigrateCall *perform);

/* The disks_uri for it, or NULL. Free with g_free(). */
char *p2p_disks_uri(const P2p *p2p);

/* What the inner connection began, or NULL; and why it could not. */
Migration *p2p_migration(const P2p *p2p);
const char *p2p_error(const P2p *p2p);

/* It is an attempt of a recovery. */
gboolean p2p_is_recovery(const P2p *p2p);

/* libvirtd has not come to the local socket yet. */
gboolean p2p_is_waiting(const P2p *p2p);

/* Stops listening. A connection that was made goes on until one of its ends closes it. */
void p2p_free(P2p *p2p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(P2p, p2p_free)
