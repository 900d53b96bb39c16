/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Slot i holds its page at data + i * page_size; a page's set is chosen by a hash of where it lies,
 * so that neither strides nor blocks of the same size meet in few sets. */
#include "config.h"

#include "ram/page_cache.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "ram/blocks.h"

/* Pages that share a set: enough to keep collisions rare, few enough to look at all of them. */
#define SET_PAGES 8

typedef struct {
    guint64 offset;
    guint32 block_and_one; /* 0: free */
    guint64 used;          /* round */
    guint64 tick;          /* order of uses, within a round too */
} Slot;

struct PageCache {
    gsize page_size;
    guint64 capacity;
    guint64 pages;
    guint64 ticks;
    Slot *slots;
    guint8 *data;
};

static guint64 set_pages(const PageCache *cache)
{
    return MIN(cache->capacity, SET_PAGES);
}

/* SplitMix64's finish: each bit of the result depends on each of the page's place. */
static guint64 scatter(guint64 value)
{
    value ^= value >> 30;
    value *= G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
    value ^= value >> 27;
    value *= G_GUINT64_CONSTANT(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static Slot *set_of(const PageCache *cache, guint block, guint64 offset)
{
    guint64 sets = cache->capacity / set_pages(cache);
    guint64 hash = scatter(offset / cache->page_size + scatter(block + G_GUINT64_CONSTANT(1)));

    return cache->slots + (hash & (sets - 1)) * set_pages(cache);
}

static guint8 *data_of(const PageCache *cache, const Slot *slot)
{
    return cache->data + (gsize)(slot - cache->slots) * cache->page_size;
}

static Slot *find(const PageCache *cache, guint block, guint64 offset)
{
    Slot *set = set_of(cache, block, offset);

    for (guint64 i = 0; i < set_pages(cache); i++)
        if (set[i].block_and_one == block + 1 && set[i].offset == offset)
            return &set[i];
    return NULL;
}

/* ---- life ---- */

PageCache *page_cache_new(guint64 bytes, gsize page_size, GError **error)
{
    g_autoptr(PageCache) cache = g_new0(PageCache, 1);
    guint64 pages = bytes / page_size;

    if (pages == 0 || bytes > PAGE_CACHE_BYTES_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("a page cache of %" PRIu64 " bytes: it has from one page of %zu to %" PRIu64),
                    bytes, page_size, PAGE_CACHE_BYTES_MAX);
        return NULL;
    }
    cache->page_size = page_size;
    cache->capacity = G_GUINT64_CONSTANT(1) << (63 - __builtin_clzll(pages));
    /* Neither is touched before there is something to put there: the memory is taken as it is
     * needed. */
    cache->slots = g_try_malloc0_n(cache->capacity, sizeof(Slot));
    cache->data = g_try_malloc_n(cache->capacity, page_size);
    if (!cache->slots || !cache->data) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("no memory for a page cache of %" PRIu64 " bytes"), bytes);
        return NULL;
    }
    return g_steal_pointer(&cache);
}

void page_cache_free(PageCache *cache)
{
    if (!cache)
        return;
    g_free(cache->slots);
    g_free(cache->data);
    g_free(cache);
}

guint64 page_cache_capacity(const PageCache *cache)
{
    return cache->capacity;
}

guint64 page_cache_pages(const PageCache *cache)
{
    return cache->pages;
}

/* ---- pages ---- */

guint8 *page_cache_get(PageCache *cache, guint block, guint64 offset, guint64 round)
{
    Slot *slot = find(cache, block, offset);

    if (!slot)
        return NULL;
    slot->used = round;
    slot->tick = ++cache->ticks;
    return data_of(cache, slot);
}

/* A free slot of the set, or the one used least recently if it has aged, or NULL. */
static Slot *choose(Slot *set, guint64 n, guint64 round)
{
    Slot *oldest = set;

    for (guint64 i = 0; i < n; i++) {
        if (set[i].block_and_one == 0)
            return &set[i];
        if (set[i].tick < oldest->tick)
            oldest = &set[i];
    }
    return oldest->used + PAGE_CACHE_LIFETIME <= round ? oldest : NULL;
}

gboolean page_cache_insert(PageCache *cache, guint block, guint64 offset, const guint8 *data,
                           guint64 round)
{
    Slot *slot = choose(set_of(cache, block, offset), set_pages(cache), round);

    g_return_val_if_fail(!find(cache, block, offset), FALSE);
    if (!slot)
        return FALSE;
    if (slot->block_and_one == 0)
        cache->pages++;
    *slot = (Slot){
        .offset = offset, .block_and_one = block + 1, .used = round, .tick = ++cache->ticks
    };
    memcpy(data_of(cache, slot), data, cache->page_size);
    return TRUE;
}

void page_cache_drop(PageCache *cache, guint block, guint64 offset)
{
    Slot *slot = find(cache, block, offset);

    if (!slot)
        return;
    *slot = (Slot){ 0 };
    cache->pages--;
}

/* ---- size ---- */

/* The youngest first. */
static gint compare_slots(gconstpointer a, gconstpointer b)
{
    const Slot *const *left = a;
    const Slot *const *right = b;

    return (*left)->tick < (*right)->tick ? 1 : (*left)->tick > (*right)->tick ? -1 : 0;
}

/* What is in it, the youngest first. Not owned. */
static GPtrArray *slots_by_age(const PageCache *cache)
{
    GPtrArray *slots = g_ptr_array_new();

    for (guint64 i = 0; i < cache->capacity; i++)
        if (cache->slots[i].block_and_one != 0)
            g_ptr_array_add(slots, &cache->slots[i]);
    g_ptr_array_sort(slots, compare_slots);
    return slots;
}

/* Into a free slot, with the age it had; nothing if there is none. */
static void move_in(PageCache *cache, const Slot *from, const guint8 *data)
{
    Slot *set = set_of(cache, from->block_and_one - 1, from->offset);

    for (guint64 i = 0; i < set_pages(cache); i++) {
        if (set[i].block_and_one != 0)
            continue;
        set[i] = *from;
        memcpy(data_of(cache, &set[i]), data, cache->page_size);
        cache->pages++;
        return;
    }
}

gboolean page_cache_resize(PageCache *cache, guint64 bytes, GError **error)
{
    g_autoptr(PageCache) other = page_cache_new(bytes, cache->page_size, error);
    g_autoptr(GPtrArray) slots = NULL;

    if (!other)
        return FALSE;
    if (other->capacity == cache->capacity)
        return TRUE;
    other->ticks = cache->ticks;
    slots = slots_by_age(cache);
    for (guint i = 0; i < slots->len; i++)
        move_in(other, slots->pdata[i], data_of(cache, slots->pdata[i]));
    /* The callers keep their pointer: the contents change places. */
    {
        PageCache now = *other;

        *other = *cache;
        *cache = now;
    }
    return TRUE;
}
