/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Moves bytes between sockets and the session, as much as goes without waiting, but not more than
 * a turn's share: all return TRUE if they stopped for that reason alone. Errors are told to the
 * session, which decides. */
#pragma once

#include "ram/link.h"
#include "tls/session.h"

gboolean pump_channel_in(Link *link, Session *session);
gboolean pump_channel_out(Link *link, Session *session);
gboolean pump_qemu_in(int fd, Session *session);
gboolean pump_qemu_out(int fd, Session *session);
