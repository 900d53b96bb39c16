/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A dirty log that the kernel keeps: the client has registered its memory with a userfaultfd for
 * write protection in async mode (UFFD_FEATURE_WP_ASYNC, Linux 6.7), and its pagemap tells which
 * pages have lost it. A guest that writes a protected page waits for nobody. */
#pragma once

#include "ram/mapped/dirty_log.h"
#include "ram/mapped/memory_client.h"

/* layout: borrowed, with pagemap_fd; must outlive it. G_IO_ERROR names what the kernel or the
 * client lacks. */
DirtyLog *pagemap_log_new(const MemoryLayout *layout, GError **error);
