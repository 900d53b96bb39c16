/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A set bit means that a page of the cache may not be the same in the guest's memory: because it
 * was loaded, or because the guest has written there. */
#include "config.h"

#include "ram/mapped/colo_cache.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/mman.h>

#include "ram/bitmap.h"
#include "ram/xbzrle.h"

typedef struct {
    guint8 *copy; /* NULL: an ignored block */
    guint64 length;
    Bitmap *pending;
} Copy;

struct ColoCache {
    GuestMemory *memory;
    DirtyLog *log;
    gsize page; /* target page */
    Copy *copies;
    guint n_copies;
    ColoCacheState state;
    guint block; /* where filling or flushing is */
    guint64 offset;
    ColoCacheStats stats;
};

/* ---- life ---- */

static gboolean make_copy(ColoCache *cache, guint block, GError **error)
{
    const MemoryRegion *region = guest_memory_region(cache->memory, block);
    Copy *copy = &cache->copies[block];
    void *at;

    if (region->flags & MEMORY_IGNORED)
        return TRUE;
    at = mmap(NULL, region->length, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                    _("no memory for a second copy of region \"%s\" (%" PRIu64 " bytes): %s"),
                    region->name, region->length, g_strerror(errno));
        return FALSE;
    }
    copy->copy = at;
    copy->length = region->length;
    copy->pending = bitmap_new(region->length / cache->page);
    return TRUE;
}

ColoCache *colo_cache_new(GuestMemory *memory, DirtyLog *log, GError **error)
{
    g_autoptr(ColoCache) cache = g_new0(ColoCache, 1);
    const RamBlocks *blocks = guest_memory_blocks(memory);

    cache->memory = memory;
    cache->log = log;
    cache->page = ram_blocks_target_page(blocks);
    cache->n_copies = ram_blocks_count(blocks);
    cache->copies = g_new0(Copy, cache->n_copies);
    for (guint i = 0; i < cache->n_copies; i++)
        if (!make_copy(cache, i, error))
            return NULL;
    return g_steal_pointer(&cache);
}

void colo_cache_free(ColoCache *cache)
{
    if (!cache)
        return;
    for (guint i = 0; i < cache->n_copies; i++) {
        if (cache->copies[i].copy)
            munmap(cache->copies[i].copy, cache->copies[i].length);
        bitmap_free(cache->copies[i].pending);
    }
    g_free(cache->copies);
    g_free(cache);
}

ColoCacheState colo_cache_state(const ColoCache *cache)
{
    return cache->state;
}

void colo_cache_get_stats(const ColoCache *cache, ColoCacheStats *ret_stats)
{
    *ret_stats = cache->stats;
    ret_stats->pages_pending = 0;
    for (guint i = 0; i < cache->n_copies; i++)
        if (cache->copies[i].copy)
            ret_stats->pages_pending += bitmap_count(cache->copies[i].pending);
}

static gboolean check_state(const ColoCache *cache, ColoCacheState state, const char *what,
                            GError **error)
{
    static const char *const names[] = { "filling", "loading", "flushing" };

    if (cache->state == state)
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_STATE, "COLO cache: %s while it is %s", what,
                names[cache->state]);
    return FALSE;
}

/* ---- the log ---- */

static void note_nothing(guint block, guint64 first, guint64 n, gpointer data)
{
    (void)block;
    (void)first;
    (void)n;
    (void)data;
}

/* Cache and memory are the same, and the guest stands still: what the log knows of is over. */
static gboolean begin_log(ColoCache *cache, GError **error)
{
    for (guint i = 0; i < cache->n_copies; i++) {
        const Copy *copy = &cache->copies[i];

        if (!copy->copy)
            continue;
        if (!cache->log->ops->collect(cache->log, i, note_nothing, NULL, error))
            return FALSE;
        if (cache->log->ops->clear &&
            !cache->log->ops->clear(cache->log, i, 0, copy->length / cache->page, note_nothing,
                                    NULL, error))
            return FALSE;
    }
    return TRUE;
}

static void note_diverged(guint block, guint64 first, guint64 n, gpointer data)
{
    ColoCache *cache = data;
    Bitmap *pending = cache->copies[block].pending;

    cache->stats.pages_diverged += n - bitmap_count_range(pending, first, n);
    bitmap_set_range(pending, first, n);
}

/* ---- the first copy ---- */

/* The next block that has a copy, from its beginning. FALSE: there are no more. */
static gboolean skip_to_copy(ColoCache *cache)
{
    while (cache->block < cache->n_copies &&
           (!cache->copies[cache->block].copy ||
            cache->offset == cache->copies[cache->block].length)) {
        cache->block++;
        cache->offset = 0;
    }
    return cache->block < cache->n_copies;
}

static gboolean fill_piece(ColoCache *cache, guint64 *ret_len, GError **error)
{
    Copy *copy = &cache->copies[cache->block];
    guint64 hole = guest_memory_hole(cache->memory, cache->block, cache->offset);
    guint64 len = MIN(copy->length - cache->offset, (guint64)GUEST_MEMORY_PEEK_MAX);
    const guint8 *bytes;

    *ret_len = 0;
    if (hole > 0) {
        cache->offset += hole;
        return TRUE;
    }
    if (!guest_memory_peek(cache->memory, cache->block, cache->offset, len, &bytes, error))
        return FALSE;
    memcpy(copy->copy + cache->offset, bytes, len);
    cache->offset += len;
    *ret_len = len;
    return TRUE;
}

gboolean colo_cache_fill(ColoCache *cache, guint64 max_bytes, gboolean *ret_done, GError **error)
{
    guint64 copied = 0;

    if (!check_state(cache, COLO_CACHE_FILLING, "filled", error))
        return FALSE;
    while (skip_to_copy(cache)) {
        guint64 len;

        if (copied >= max_bytes) {
            *ret_done = FALSE;
            return TRUE;
        }
        if (!fill_piece(cache, &len, error))
            return FALSE;
        copied += len;
    }
    if (!begin_log(cache, error))
        return FALSE;
    cache->state = COLO_CACHE_LOADING;
    *ret_done = TRUE;
    return TRUE;
}

/* ---- pages of a checkpoint ---- */

static gboolean refuse_page(const QemuPage *page, const char *what, GError **error)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                _("page at %" PRIu64 " of block %u of a checkpoint: %s"), page->offset,
                page->block, what);
    return FALSE;
}

gboolean colo_cache_load(ColoCache *cache, const QemuPage *page, GError **error)
{
    const RamBlocks *blocks = guest_memory_blocks(cache->memory);
    Copy *copy;
    guint8 *at;

    if (!check_state(cache, COLO_CACHE_LOADING, "loaded", error))
        return FALSE;
    if (!ram_blocks_check_range(blocks, page->block, page->offset, cache->page, NULL))
        return refuse_page(page, "there is no such page", error);
    copy = &cache->copies[page->block];
    if (!copy->copy)
        return refuse_page(page, "the block is ignored", error);
    at = copy->copy + page->offset;
    switch (page->kind) {
    case QEMU_PAGE_RAW:
        memcpy(at, page->data, cache->page);
        break;
    case QEMU_PAGE_ZERO:
        memset(at, page->fill, cache->page);
        break;
    case QEMU_PAGE_XBZRLE:
        if (!xbzrle_decode(page->data, page->data_len, at, cache->page, error))
            return FALSE;
        break;
    default:
        return refuse_page(page, "not a kind of page that checkpoints have", error);
    }
    bitmap_set(copy->pending, page->offset / cache->page);
    cache->stats.pages_loaded++;
    return TRUE;
}

/* ---- commit ---- */

gboolean colo_cache_commit(ColoCache *cache, GError **error)
{
    if (!check_state(cache, COLO_CACHE_LOADING, "committed", error))
        return FALSE;
    for (guint i = 0; i < cache->n_copies; i++)
        if (cache->copies[i].copy &&
            !cache->log->ops->collect(cache->log, i, note_diverged, cache, error))
            return FALSE;
    cache->state = COLO_CACHE_FLUSHING;
    cache->block = 0;
    cache->offset = 0;
    return TRUE;
}

/* The next run of pending pages of the block, no longer than one write; *ret_len 0: there is none,
 * and the block is through. */
static gboolean flush_run(ColoCache *cache, guint64 *ret_len, GError **error)
{
    Copy *copy = &cache->copies[cache->block];
    guint64 pages = bitmap_pages(copy->pending);
    guint64 most = MAX(GUEST_MEMORY_PEEK_MAX / cache->page, 1);
    guint64 first = bitmap_next(copy->pending, cache->offset / cache->page);
    guint64 n = 0;

    while (n < most && bitmap_get(copy->pending, first + n))
        n++;
    *ret_len = n * cache->page;
    if (n == 0) {
        cache->offset = pages * cache->page;
        return TRUE;
    }
    if (!guest_memory_write(cache->memory, cache->block, first * cache->page,
                            copy->copy + first * cache->page, n * cache->page, error))
        return FALSE;
    bitmap_clear_range(copy->pending, first, n);
    cache->stats.pages_flushed += n;
    cache->offset = (first + n) * cache->page;
    return TRUE;
}

gboolean colo_cache_flush(ColoCache *cache, guint64 max_bytes, gboolean *ret_done, GError **error)
{
    guint64 copied = 0;

    if (!check_state(cache, COLO_CACHE_FLUSHING, "flushed", error))
        return FALSE;
    while (skip_to_copy(cache)) {
        guint64 len;

        if (copied >= max_bytes) {
            *ret_done = FALSE;
            return TRUE;
        }
        if (!flush_run(cache, &len, error))
            return FALSE;
        copied += len;
    }
    if (!begin_log(cache, error))
        return FALSE;
    cache->stats.checkpoints++;
    cache->state = COLO_CACHE_LOADING;
    *ret_done = TRUE;
    return TRUE;
}
