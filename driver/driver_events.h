/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens to migrations, told to the clients of this host that have registered for QEMU's
 * monitor events: virt-postcopy-events(7).
 *
 * libvirtd's own events pass by untouched. A client's registrations are libvirtd's as well; here
 * they are only watched, for what they let through and for the number that libvirtd has given
 * them. Main thread only. */
#pragma once

#include "driver/migration.h"
#include "driver/monitor_event.h"
#include "driver/proxy.h"

typedef struct DriverEvents DriverEvents;

/* set must outlive it. */
DriverEvents *driver_events_new(MigrationSet *set);
void driver_events_free(DriverEvents *events);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DriverEvents, driver_events_free)

/* A call of the qemu program. TRUE: it took the frame. */
gboolean driver_events_call(DriverEvents *events, Proxy *proxy, RpcFrame *frame);

/* The client is gone. */
void driver_events_closed(DriverEvents *events, Proxy *proxy);

/* A MigrationNoticeFunc's arguments. */
void driver_events_notice(DriverEvents *events, Migration *migration, MigrationNotice notice,
                          const char *detail, const char *reason);

/* How one of this daemon's own recoveries is getting on (driver/recovery.h).
 * kind: one of MONITOR_EVENT_RECOVERY_*; will_retry counts for a failure. */
void driver_events_recovery(DriverEvents *events, MonitorEventKind kind, const char *domain,
                            const MonitorDetails *details);
