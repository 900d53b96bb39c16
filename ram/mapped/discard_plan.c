/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/discard_plan.h"

static guint64 canonicalise_block(DirtyMap *map, guint block, guint64 host_pages)
{
    const Bitmap *dirty = dirty_map_bitmap(map, block);
    guint64 pages = bitmap_pages(dirty);
    guint64 before = dirty_map_count(map);
    guint64 page = 0;

    if (host_pages == 1)
        return 0;
    while ((page = bitmap_next(dirty, page)) < pages) {
        guint64 first = page - page % host_pages;
        guint64 n = MIN(host_pages, pages - first);

        dirty_map_set(map, block, first, n);
        page = first + n;
    }
    return dirty_map_count(map) - before;
}

guint64 discard_plan_canonicalise(DirtyMap *map, const RamBlocks *blocks)
{
    guint64 added = 0;

    for (guint i = 0; i < dirty_map_blocks(map); i++)
        added += canonicalise_block(map, i, ram_blocks_host_page(blocks, i) /
                                                ram_blocks_target_page(blocks));
    return added;
}

gboolean discard_plan_next(const DirtyMap *map, const RamBlocks *blocks, guint block, guint64 *page,
                           guint64 *ret_start, guint64 *ret_length)
{
    const Bitmap *dirty = dirty_map_bitmap(map, block);
    guint64 target = ram_blocks_target_page(blocks);
    guint64 first = bitmap_next(dirty, *page);

    if (first >= bitmap_pages(dirty))
        return FALSE;
    *page = bitmap_next_clear(dirty, first);
    *ret_start = first * target;
    *ret_length = (*page - first) * target;
    return TRUE;
}
