/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What cannot be migrated, found before anything has begun. Pure. */
#pragma once

#include "ram/mapped/memory_client.h"

/* Any migration: a region that may not leave this host. With postcopy also persistent memory,
 * whose content would not be in place when the guest runs, and a region that does not end with a
 * host page. RAM_ERROR_INVALID names the region. */
gboolean memory_refusals_check(const MemoryLayout *layout, gboolean postcopy, GError **error);
