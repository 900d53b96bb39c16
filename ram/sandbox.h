/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The system calls a helper is left with.
 *
 * Everything it works with was opened by the daemon, so it opens nothing: no files, no sockets, no
 * programs. A call that is not on the list ends the process; calls by which libraries merely look
 * whether something is there fail with EPERM instead, which they take for "no". */
#pragma once

#include <gio/gio.h>

/* For all threads, for good. What has to be opened (locale, TLS library) must have been. TRUE with *ret_active FALSE: this
 * kernel has no seccomp filters. */
gboolean sandbox_enter(gboolean *ret_active, GError **error);
