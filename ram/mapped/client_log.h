/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A dirty log of the client's own: when it is asked (MemoryClientOps.log_sync) it or-s what was
 * written into a bitmap in shared memory. */
#pragma once

#include "ram/mapped/dirty_log.h"
#include "ram/mapped/memory_client.h"

/* layout: borrowed, with dirty_fd; must outlive it. RAM_ERROR_INVALID: that one is no memfd, too
 * short or not sealed against shrinking. */
DirtyLog *client_log_new(const MemoryLayout *layout, GError **error);
