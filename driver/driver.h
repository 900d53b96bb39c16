/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver: what virtpostcopyd does with the calls it has an opinion on.
 *
 * A table keyed by procedure number, in libvirt's words (domainMigratePrepare3Params, ...);
 * driver.c is that table. A procedure that is not in it is forwarded untouched. */
#pragma once

#include "driver/proxy.h"
#include "driver/settings.h"

typedef struct Driver Driver;

/* How clients find it: the socket in libvirt's directory, and the name they open. */
#define DRIVER_SOCKET "virtpostcopyd-sock"
#define DRIVER_URI "postcopy:///system"

/* Listens on the migration port, and goes on with what an earlier run has left in the run directory.
 * settings must outlive the driver. */
Driver *driver_new(const Settings *settings, GError **error);
void driver_free(Driver *driver);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Driver, driver_free)

/* Hooks for the proxies of ordinary clients; their data is the Driver. */
const ProxyHooks *driver_hooks(void);
