/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is handed over is judged: numbers first, then the descriptors. */
#pragma once

#include "ram/mapped/memory_client.h"

/* source: of which side. RAM_ERROR_INVALID names the region or the descriptor, what is wrong
 * with it and what to do. Sets O_NONBLOCK on the userfaultfd. */
gboolean layout_check(const MemoryLayout *layout, gboolean source, GError **error);

/* fd is a userfaultfd, with its handshake done, of a process in which address is: mapped or not
 * does not matter. Sets O_NONBLOCK. */
gboolean layout_check_uffd(int fd, guint64 address, GError **error);
