/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd hands to a service and wants to hear from it: sd_listen_fds(3), sd_notify(3). */
#pragma once

#include <gio/gio.h>

#define SYSTEMD_FIRST_FD 3
#define SYSTEMD_FDS_MAX 64u

/* The descriptors that were passed to this process, as an array of int; empty if there are none.
 * They are the caller's and close on exec. The variables are consumed: a child sees nothing of
 * them. first: SYSTEMD_FIRST_FD, but for tests. */
GArray *systemd_take_fds(int first, GError **error);

/* Tells the service manager, if there is one, for instance "READY=1". Failure is only logged. */
void systemd_notify(const char *state);
