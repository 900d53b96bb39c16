/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which target pages of each block still have to be sent: a bitmap for each block, all ones at
 * first, with an exact count, kept up to date from a dirty log.
 *
 * The log is cleared in chunks, each just before a page in it is read for the first time since
 * the last sync: re-protecting all of RAM at once would make the whole guest fault at once. One
 * thread. */
#pragma once

#include "ram/bitmap.h"
#include "ram/blocks.h"
#include "ram/mapped/dirty_log.h"

typedef struct DirtyMap DirtyMap;

/* clear_shift: pages in a chunk, as a power of two (6 to 31); never less than a host page. log:
 * borrowed; NULL: nothing is written any more. blocks must be complete. */
DirtyMap *dirty_map_new(const RamBlocks *blocks, guint clear_shift, DirtyLog *log);
void dirty_map_free(DirtyMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DirtyMap, dirty_map_free)

/* Pages of this block are never dirty (again). */
void dirty_map_ignore(DirtyMap *map, guint block);
gboolean dirty_map_is_ignored(const DirtyMap *map, guint block);

guint dirty_map_blocks(const DirtyMap *map);
/* The caller may read it; changes go through this file. */
const Bitmap *dirty_map_bitmap(const DirtyMap *map, guint block);
guint64 dirty_map_count(const DirtyMap *map); /* pages, all blocks */

/* Notes what was written. *ret_dirtied: pages that are dirty now and were not before. */
gboolean dirty_map_sync(DirtyMap *map, guint64 *ret_dirtied, GError **error);

/* Nothing is written any more, and nothing needs to be prepared. */
void dirty_map_detach_log(DirtyMap *map);

/* These pages are going to be read: what is written from here on is noted by a later sync.
 * *ret_cleared: the log was cleared for it, so that what was read of the block before is out of
 * date. Then they can be taken. */
gboolean dirty_map_prepare(DirtyMap *map, guint block, guint64 first, guint64 n,
                           gboolean *ret_cleared, GError **error);
/* They are not dirty any more. */
void dirty_map_clear(DirtyMap *map, guint block, guint64 first, guint64 n);
/* The guest has said that it does not use these until it writes there. They are not dirty any
 * more, except for what the log has as written, or had when prepare() cleared it: whoever said
 * that they are not used has protected them before, or it may be in use again. In whole host
 * pages. What was read of the block is out of date. */
gboolean dirty_map_drop(DirtyMap *map, guint block, guint64 first, guint64 n, GError **error);
/* Everything that was said before now has been dropped: what prepare() has found so far stands
 * in the way of dropping no longer. */
void dirty_map_forget_noted(DirtyMap *map);
gboolean dirty_map_is_dropped(const DirtyMap *map, guint block, guint64 page);
/* What was dropped is dirty all the same: the destination waits for every page. */
void dirty_map_restore_dropped(DirtyMap *map);
/* They are. */
void dirty_map_set(DirtyMap *map, guint block, guint64 first, guint64 n);
/* What the other side has, by block: everything else is dirty. As long as the block's. */
void dirty_map_set_received(DirtyMap *map, guint block, const Bitmap *received);
