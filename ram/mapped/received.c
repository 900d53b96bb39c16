/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bit i of word w is page 64 * w + i. Words are changed by atomic operations: the memory is
 * shared, and what a dead helper leaves behind is to be whole. */
#include "config.h"

#include "ram/mapped/received.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define WORD_BITS 64

typedef struct {
    guint64 *words;
    guint64 pages;
} BlockBits;

struct ReceivedMap {
    guint64 *memory; /* mapped, `size` bytes */
    gsize size;
    BlockBits *blocks;
    guint n_blocks;
};

/* ---- life ---- */

static gboolean check_fd(int fd, gsize size, GError **error)
{
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat st;

    if (seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &st) == 0 && st.st_size >= 0 &&
        (guint64)st.st_size >= size)
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                _("the received bitmap must be a memfd of at least %zu bytes, sealed against "
                  "shrinking (F_SEAL_SHRINK)"),
                size);
    return FALSE;
}

static gboolean map_memory(ReceivedMap *map, int fd, GError **error)
{
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *memory;

    if (fd >= 0 && !check_fd(fd, map->size, error))
        return FALSE;
    memory = mmap(NULL, map->size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("the received bitmap: %s"),
                    g_strerror(errno));
        return FALSE;
    }
    map->memory = memory;
    return TRUE;
}

ReceivedMap *received_map_new(const MemoryLayout *layout, GError **error)
{
    g_autoptr(ReceivedMap) map = g_new0(ReceivedMap, 1);

    /* mmap() takes no length of 0. */
    map->size = MAX(memory_layout_bitmaps_bytes(layout), sizeof(guint64));
    map->n_blocks = layout->n_regions;
    map->blocks = g_new0(BlockBits, layout->n_regions);
    if (!map_memory(map, layout->received_fd, error))
        return NULL;
    for (guint i = 0; i < layout->n_regions; i++) {
        map->blocks[i].words =
            map->memory + memory_layout_bitmap_offset(layout, i) / sizeof(guint64);
        map->blocks[i].pages = layout->regions[i].length / layout->target_page;
        if (!layout->recovers)
            received_map_clear(map, i, 0, map->blocks[i].pages);
    }
    return g_steal_pointer(&map);
}

void received_map_free(ReceivedMap *map)
{
    if (!map)
        return;
    if (map->memory)
        munmap(map->memory, map->size);
    g_free(map->blocks);
    g_free(map);
}

/* ---- words ---- */

static guint64 load(const BlockBits *bits, guint64 word)
{
    return __atomic_load_n(&bits->words[word], __ATOMIC_RELAXED);
}

static const BlockBits *block_bits(const ReceivedMap *map, guint block)
{
    g_assert(block < map->n_blocks);
    return &map->blocks[block];
}

/* The bits of a word that [page, page + n) has; *ret_n: how many. */
static guint64 mask_at(guint64 page, guint64 n, guint64 *ret_n)
{
    guint shift = page % WORD_BITS;

    *ret_n = MIN(n, (guint64)WORD_BITS - shift);
    return (G_MAXUINT64 >> (WORD_BITS - *ret_n)) << shift;
}

/* ---- pages ---- */

gboolean received_map_get(const ReceivedMap *map, guint block, guint64 page)
{
    const BlockBits *bits = block_bits(map, block);

    g_assert(page < bits->pages);
    return (load(bits, page / WORD_BITS) >> (page % WORD_BITS)) & 1;
}

static guint64 change(ReceivedMap *map, guint block, guint64 first, guint64 n, gboolean set)
{
    const BlockBits *bits = block_bits(map, block);
    guint64 changed = 0;

    g_assert(first <= bits->pages && n <= bits->pages - first);
    while (n > 0) {
        guint64 *word = &bits->words[first / WORD_BITS];
        guint64 these, mask = mask_at(first, n, &these), before;

        /* A release: the page is in place before its bit is. */
        if (set)
            before = ~__atomic_fetch_or(word, mask, __ATOMIC_RELEASE);
        else
            before = __atomic_fetch_and(word, ~mask, __ATOMIC_RELEASE);
        changed += (guint)__builtin_popcountll(before & mask);
        first += these;
        n -= these;
    }
    return changed;
}

guint64 received_map_set(ReceivedMap *map, guint block, guint64 first, guint64 n)
{
    return change(map, block, first, n, TRUE);
}

guint64 received_map_clear(ReceivedMap *map, guint block, guint64 first, guint64 n)
{
    return change(map, block, first, n, FALSE);
}

/* ---- the whole ---- */

/* A word without what lies beyond the end of the block. */
static guint64 word_within(const BlockBits *bits, guint64 word)
{
    guint64 n;

    return load(bits, word) & mask_at(0, bits->pages - word * WORD_BITS, &n);
}

static guint64 words_of(const BlockBits *bits)
{
    return bits->pages / WORD_BITS + (bits->pages % WORD_BITS != 0);
}

guint64 received_map_count(const ReceivedMap *map, guint block)
{
    const BlockBits *bits = block_bits(map, block);
    guint64 count = 0;

    for (guint64 i = 0; i < words_of(bits); i++)
        count += (guint)__builtin_popcountll(word_within(bits, i));
    return count;
}

guint64 received_map_next(const ReceivedMap *map, guint block, guint64 from, gboolean there)
{
    const BlockBits *bits = block_bits(map, block);
    guint64 skip = G_MAXUINT64 << (from % WORD_BITS);

    for (guint64 i = from / WORD_BITS; i < words_of(bits); i++) {
        guint64 word = (there ? load(bits, i) : ~load(bits, i)) & skip;

        if (word != 0)
            return MIN(i * WORD_BITS + (guint)__builtin_ctzll(word), bits->pages);
        skip = G_MAXUINT64;
    }
    return bits->pages;
}

gsize received_map_wire(const ReceivedMap *map, guint block, guint64 first, guint8 *ret_bytes,
                        gsize max)
{
    const BlockBits *bits = block_bits(map, block);
    gsize len = 0;

    g_assert(first % WORD_BITS == 0 && max % sizeof(guint64) == 0);
    for (guint64 i = first / WORD_BITS; i < words_of(bits) && len < max; i++) {
        guint64 word = GUINT64_TO_LE(word_within(bits, i));
        guint64 pages = MIN(bits->pages - i * WORD_BITS, WORD_BITS);

        memcpy(ret_bytes + len, &word, sizeof word);
        len += (pages + 7) / 8;
    }
    return len;
}
