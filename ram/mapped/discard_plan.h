/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the destination has to drop before it runs the guest, so that each page that is missing
 * or out of date there faults: decided after the last sync. Pure. */
#pragma once

#include "ram/mapped/dirty_map.h"

/* The destination places whole host pages: one that is partly dirty becomes wholly dirty.
 * Returns how many target pages that are. */
guint64 discard_plan_canonicalise(DirtyMap *map, const RamBlocks *blocks);

/* The first range of dirty pages at or behind *page of the block, in bytes; *page is moved
 * behind it. FALSE: there is none. */
gboolean discard_plan_next(const DirtyMap *map, const RamBlocks *blocks, guint block, guint64 *page,
                           guint64 *ret_start, guint64 *ret_length);
