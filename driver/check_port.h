/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The answering half of a check of the migration port (docs/protocol.md, "Checks"): TLS with the
 * credentials of migrations, both ends proving themselves, and then a few words of this daemon
 * about itself. Nothing of a migration or a guest can be reached by it. */
#pragma once

#include "driver/driver_priv.h"

/* Takes fd. Everything from here on happens by itself; driver_free() ends it. */
void check_port_take(Driver *driver, int fd, const char *address);
