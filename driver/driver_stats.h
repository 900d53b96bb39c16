/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domainGetJobInfo and domainGetJobStats of domains that this driver migrates, and their
 * job-completed event.
 *
 * A client's call becomes one of this daemon's to libvirtd. libvirtd may be a long time
 * answering, while it holds the domain's lock for something else: a client that has waited
 * DRIVER_STATS_WAIT_MS is answered from libvirtd's last answer and the helper's newest counters,
 * and the late reply is kept for the next time. Main thread only. */
#pragma once

#include "driver/migration_account.h"
#include "driver/proxy.h"

/* So that the answer is there within 50 ms. */
#define DRIVER_STATS_WAIT_MS 35

/* Calls of ours that one client may have with libvirtd, of the few that libvirtd reads of a
 * client at a time. */
#define DRIVER_STATS_CALLS_MAX 2

typedef struct DriverStats DriverStats;

/* accounts must outlive it. */
DriverStats *driver_stats_new(MigrationAccounts *accounts);
void driver_stats_free(DriverStats *stats);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DriverStats, driver_stats_free)

/* One of the two calls. TRUE: it took the frame. */
gboolean driver_stats_call(DriverStats *stats, Proxy *proxy, RpcFrame *frame);

/* An event from upstream. TRUE: it took the frame and has passed it on. */
gboolean driver_stats_message(DriverStats *stats, Proxy *proxy, RpcFrame *frame);

/* The client is gone. */
void driver_stats_closed(DriverStats *stats, Proxy *proxy);
