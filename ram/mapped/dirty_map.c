/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/dirty_map.h"

typedef struct {
    Bitmap *dirty;
    Bitmap *dropped;   /* NULL: none */
    Bitmap *uncleared; /* by chunk: the log has to be cleared before a page of it is read */
    Bitmap *noted;     /* taken out of the log since dirty_map_forget_noted(); NULL: never any */
    guint64 noted_begin, noted_end; /* all of them are in between; 0: none */
    guint shift;       /* pages in a chunk, as a power of two */
    gboolean ignored;
} MapBlock;

struct DirtyMap {
    DirtyLog *log;
    MapBlock *blocks;
    guint n_blocks;
    guint64 count;
    gboolean has_noted; /* in any block */
};

static guint64 chunks_of(guint64 pages, guint shift)
{
    return (pages >> shift) + ((pages & ((G_GUINT64_CONSTANT(1) << shift) - 1)) != 0);
}

/* Huge pages cannot be protected in part. */
static guint block_shift(const RamBlocks *blocks, guint block, guint clear_shift)
{
    guint64 pages = ram_blocks_host_page(blocks, block) / ram_blocks_target_page(blocks);

    return MAX(clear_shift, (guint)__builtin_ctzll(pages));
}

static void init_block(DirtyMap *map, const RamBlocks *blocks, guint i, guint clear_shift)
{
    guint64 pages = ram_blocks_get(blocks, i)->length / ram_blocks_target_page(blocks);
    MapBlock *block = &map->blocks[i];

    block->shift = block_shift(blocks, i, clear_shift);
    block->dirty = bitmap_new(pages);
    bitmap_set_range(block->dirty, 0, pages);
    block->uncleared = bitmap_new(chunks_of(pages, block->shift));
    bitmap_set_range(block->uncleared, 0, bitmap_pages(block->uncleared));
    map->count += pages;
}

DirtyMap *dirty_map_new(const RamBlocks *blocks, guint clear_shift, DirtyLog *log)
{
    DirtyMap *map = g_new0(DirtyMap, 1);

    map->log = log;
    map->n_blocks = ram_blocks_count(blocks);
    map->blocks = g_new0(MapBlock, map->n_blocks);
    for (guint i = 0; i < map->n_blocks; i++)
        init_block(map, blocks, i, clear_shift);
    return map;
}

void dirty_map_free(DirtyMap *map)
{
    if (!map)
        return;
    for (guint i = 0; i < map->n_blocks; i++) {
        bitmap_free(map->blocks[i].dirty);
        bitmap_free(map->blocks[i].uncleared);
        bitmap_free(map->blocks[i].dropped);
        bitmap_free(map->blocks[i].noted);
    }
    g_free(map->blocks);
    g_free(map);
}

void dirty_map_ignore(DirtyMap *map, guint block)
{
    map->blocks[block].ignored = TRUE;
    dirty_map_clear(map, block, 0, bitmap_pages(map->blocks[block].dirty));
}

gboolean dirty_map_is_ignored(const DirtyMap *map, guint block)
{
    return map->blocks[block].ignored;
}

guint dirty_map_blocks(const DirtyMap *map)
{
    return map->n_blocks;
}

const Bitmap *dirty_map_bitmap(const DirtyMap *map, guint block)
{
    return map->blocks[block].dirty;
}

guint64 dirty_map_count(const DirtyMap *map)
{
    return map->count;
}

/* ---- changes ---- */

void dirty_map_clear(DirtyMap *map, guint block, guint64 first, guint64 n)
{
    Bitmap *dirty = map->blocks[block].dirty;
    guint64 before = bitmap_count(dirty);

    bitmap_clear_range(dirty, first, n);
    map->count -= before - bitmap_count(dirty);
}

void dirty_map_set(DirtyMap *map, guint block, guint64 first, guint64 n)
{
    Bitmap *dirty = map->blocks[block].dirty;
    guint64 before = bitmap_count(dirty);

    if (map->blocks[block].ignored)
        return;
    if (map->blocks[block].dropped)
        bitmap_clear_range(map->blocks[block].dropped, first, n);
    bitmap_set_range(dirty, first, n);
    map->count += bitmap_count(dirty) - before;
}

gboolean dirty_map_is_dropped(const DirtyMap *map, guint block, guint64 page)
{
    return map->blocks[block].dropped && bitmap_get(map->blocks[block].dropped, page);
}

void dirty_map_restore_dropped(DirtyMap *map)
{
    for (guint i = 0; i < map->n_blocks; i++) {
        const MapBlock *b = &map->blocks[i];
        guint64 page;

        if (!b->dropped || b->ignored)
            continue;
        for (page = bitmap_next(b->dropped, 0); page < bitmap_pages(b->dropped);
             page = bitmap_next(b->dropped, page + 1))
            map->count += bitmap_set(b->dirty, page);
    }
}

void dirty_map_set_received(DirtyMap *map, guint block, const Bitmap *received)
{
    guint64 pages = bitmap_pages(map->blocks[block].dirty);
    guint64 begin;
    guint64 end;

    dirty_map_set(map, block, 0, pages);
    for (begin = bitmap_next(received, 0); begin < pages; begin = bitmap_next(received, end)) {
        end = MIN(bitmap_next_clear(received, begin), pages);
        dirty_map_clear(map, block, begin, end - begin);
    }
}

/* ---- the log ---- */

static void note_dirty(guint block, guint64 first, guint64 n, gpointer data)
{
    DirtyMap *map = data;
    guint64 pages = bitmap_pages(map->blocks[block].dirty);

    if (first < pages)
        dirty_map_set(map, block, first, MIN(n, pages - first));
}

/* Noted by collect(), so the log still has it: to be cleared before it is read. */
static void note_written(guint block, guint64 first, guint64 n, gpointer data)
{
    DirtyMap *map = data;
    const MapBlock *b = &map->blocks[block];
    guint64 pages = bitmap_pages(b->dirty);

    if (n == 0 || first >= pages)
        return;
    n = MIN(n, pages - first);
    note_dirty(block, first, n, map);
    bitmap_set_range(b->uncleared, first >> b->shift,
                     ((first + n - 1) >> b->shift) - (first >> b->shift) + 1);
}

/* Noted by clear(): the log has it no more. */
static void note_taken(guint block, guint64 first, guint64 n, gpointer data)
{
    DirtyMap *map = data;
    MapBlock *b = &map->blocks[block];
    guint64 pages = bitmap_pages(b->dirty);

    if (n == 0 || first >= pages)
        return;
    n = MIN(n, pages - first);
    note_dirty(block, first, n, map);
    if (!b->noted)
        b->noted = bitmap_new(pages);
    bitmap_set_range(b->noted, first, n);
    b->noted_begin = b->noted_end ? MIN(b->noted_begin, first) : first;
    b->noted_end = MAX(b->noted_end, first + n);
    map->has_noted = TRUE;
}

gboolean dirty_map_sync(DirtyMap *map, guint64 *ret_dirtied, GError **error)
{
    guint64 before = map->count;

    for (guint i = 0; map->log && i < map->n_blocks; i++) {
        if (!map->blocks[i].ignored &&
            !map->log->ops->collect(map->log, i, note_written, map, error))
            return FALSE;
    }
    *ret_dirtied = map->count - before;
    return TRUE;
}

/* ---- what is not used ---- */

typedef struct {
    Bitmap *keep; /* from first on */
    guint64 first;
} Drop;

static void keep_pages(guint block, guint64 first, guint64 n, gpointer data)
{
    Drop *drop = data;
    guint64 begin = MAX(first, drop->first);
    guint64 end = MIN(first + n, drop->first + bitmap_pages(drop->keep));

    if (begin < end)
        bitmap_set_range(drop->keep, begin - drop->first, end - begin);
}

/* The log had them as written, but prepare() has taken them out of it since: that may have been
 * between what whoever drops has protected, and what he says. */
static void keep_noted(const MapBlock *b, Drop *drop)
{
    guint64 page = drop->first;

    if (b->noted_end <= b->noted_begin)
        return;
    for (page = bitmap_next(b->noted, page); page < drop->first + bitmap_pages(drop->keep);
         page = bitmap_next(b->noted, page + 1))
        bitmap_set(drop->keep, page - drop->first);
}

static void drop_dirty(MapBlock *b, guint64 first, guint64 n, const Bitmap *keep)
{
    guint64 page;

    if (!b->dropped)
        b->dropped = bitmap_new(bitmap_pages(b->dirty));
    for (page = bitmap_next(b->dirty, first); page < first + n;
         page = bitmap_next(b->dirty, page + 1)) {
        if (bitmap_get(keep, page - first))
            continue;
        bitmap_clear(b->dirty, page);
        bitmap_set(b->dropped, page);
    }
}

gboolean dirty_map_drop(DirtyMap *map, guint block, guint64 first, guint64 n, GError **error)
{
    MapBlock *b = &map->blocks[block];
    g_autoptr(Bitmap) keep = bitmap_new(n);
    Drop drop = { keep, first };
    guint64 before;

    /* What is written stays in the log: should it be dropped a second time, it still is, and
     * until a sync, before which all is acknowledged, no page is dirty for the second time. */
    if (map->log && map->log->ops->look &&
        !map->log->ops->look(map->log, block, first, n, keep_pages, &drop, error))
        return FALSE;
    keep_noted(b, &drop);
    before = bitmap_count(b->dirty);
    drop_dirty(b, first, n, keep);
    map->count -= before - bitmap_count(b->dirty);
    return TRUE;
}

void dirty_map_forget_noted(DirtyMap *map)
{
    for (guint i = 0; map->has_noted && i < map->n_blocks; i++) {
        MapBlock *b = &map->blocks[i];

        if (b->noted_begin < b->noted_end)
            bitmap_clear_range(b->noted, b->noted_begin, b->noted_end - b->noted_begin);
        b->noted_begin = b->noted_end = 0;
    }
    map->has_noted = FALSE;
}

void dirty_map_detach_log(DirtyMap *map)
{
    map->log = NULL;
}

gboolean dirty_map_prepare(DirtyMap *map, guint block, guint64 first, guint64 n,
                           gboolean *ret_cleared, GError **error)
{
    const MapBlock *b = &map->blocks[block];
    guint64 pages = bitmap_pages(b->dirty);
    guint64 chunk = first >> b->shift;
    guint64 last = (first + n - 1) >> b->shift;

    *ret_cleared = FALSE;
    if (n == 0 || !map->log || !map->log->ops->clear)
        return TRUE;
    while ((chunk = bitmap_next(b->uncleared, chunk)) <= last &&
           chunk < bitmap_pages(b->uncleared)) {
        guint64 begin = chunk << b->shift;
        guint64 len = MIN(G_GUINT64_CONSTANT(1) << b->shift, pages - begin);

        if (!map->log->ops->clear(map->log, block, begin, len, note_taken, map, error))
            return FALSE;
        bitmap_clear(b->uncleared, chunk);
        *ret_cleared = TRUE;
    }
    return TRUE;
}
