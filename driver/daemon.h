/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtpostcopyd but for its command line: listeners, clients, the driver. */
#pragma once

#include "driver/settings.h"

typedef struct Daemon Daemon;

/* Makes the driver and every listening socket; nobody is served before daemon_start(). passed:
 * listening sockets from the service manager (int), all taken, also on error. A configured socket
 * that is not among them is made here; one among them that is not known is an error. settings
 * must outlive the daemon. */
Daemon *daemon_new(const Settings *settings, GArray *passed, GError **error);

/* After daemon_stop() has told that it is done, or when the main loop will not run again. */
void daemon_free(Daemon *daemon);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Daemon, daemon_free)

void daemon_start(Daemon *daemon);

/* Reads the TLS server credentials again, for connections from now on. The old stay on error. */
gboolean daemon_reload(Daemon *daemon, GError **error);

/* Accepts no more and closes every client. Calls stopped, once and from the main loop, when all are
 * gone or after a few seconds. */
void daemon_stop(Daemon *daemon, GDestroyNotify stopped, gpointer data);
