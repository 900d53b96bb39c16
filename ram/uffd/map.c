/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two sorted arrays, of the same pieces: by address and by place in the blocks. There are few of them, and
 * they are found by halving. */
#include "config.h"

#include "ram/uffd/map.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "ram/blocks.h"

struct UffdMap {
    GArray *by_address; /* of UffdRange */
    GArray *by_offset;
};

const char *uffd_backing_name(UffdBacking backing)
{
    static const char *const names[] = { "anonymous", "shmem", "hugetlb" };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == UFFD_BACKING_MAX);
    return names[backing];
}

UffdMap *uffd_map_new(void)
{
    UffdMap *map = g_new0(UffdMap, 1);

    map->by_address = g_array_new(FALSE, FALSE, sizeof(UffdRange));
    map->by_offset = g_array_new(FALSE, FALSE, sizeof(UffdRange));
    return map;
}

void uffd_map_free(UffdMap *map)
{
    if (!map)
        return;
    g_array_unref(map->by_address);
    g_array_unref(map->by_offset);
    g_free(map);
}

/* ---- finding ---- */

/* How many begin at or before the byte. */
static guint count_address(const UffdMap *map, guint64 address)
{
    guint low = 0, high = map->by_address->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;

        if (g_array_index(map->by_address, UffdRange, middle).address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static gboolean is_at_or_before(const UffdRange *range, guint block, guint64 offset)
{
    return range->block < block || (range->block == block && range->offset <= offset);
}

static guint count_offset(const UffdMap *map, guint block, guint64 offset)
{
    guint low = 0, high = map->by_offset->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;

        if (is_at_or_before(&g_array_index(map->by_offset, UffdRange, middle), block, offset))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const UffdRange *uffd_map_at_address(const UffdMap *map, guint64 address)
{
    guint n = count_address(map, address);
    const UffdRange *range = n ? &g_array_index(map->by_address, UffdRange, n - 1) : NULL;

    return range && address - range->address < range->length ? range : NULL;
}

const UffdRange *uffd_map_at_offset(const UffdMap *map, guint block, guint64 offset)
{
    guint n = count_offset(map, block, offset);
    const UffdRange *range = n ? &g_array_index(map->by_offset, UffdRange, n - 1) : NULL;

    return range && range->block == block && offset - range->offset < range->length ? range : NULL;
}

gboolean uffd_map_page_of(const UffdMap *map, guint64 address, guint *ret_block,
                          guint64 *ret_offset)
{
    const UffdRange *range = uffd_map_at_address(map, address);

    if (!range)
        return FALSE;
    *ret_block = range->block;
    *ret_offset = range->offset + (address - range->address) / range->page_size * range->page_size;
    return TRUE;
}

guint uffd_map_count(const UffdMap *map)
{
    return map->by_address->len;
}

const UffdRange *uffd_map_get(const UffdMap *map, guint index)
{
    return index < map->by_address->len ? &g_array_index(map->by_address, UffdRange, index) : NULL;
}

/* ---- changing ---- */

static gboolean is_sound(const UffdRange *range)
{
    guint64 page = range->page_size;

    return page != 0 && (page & (page - 1)) == 0 && range->length != 0 &&
           ((range->offset | range->address | range->length) & (page - 1)) == 0 &&
           range->address <= G_MAXUINT64 - range->length &&
           range->offset <= G_MAXUINT64 - range->length && range->backing < UFFD_BACKING_MAX;
}

static gboolean overlaps(const UffdMap *map, const UffdRange *range)
{
    guint by_address = count_address(map, range->address + range->length - 1);
    guint by_offset = count_offset(map, range->block, range->offset + range->length - 1);
    const UffdRange *other;

    if (by_address) {
        other = &g_array_index(map->by_address, UffdRange, by_address - 1);
        if (other->address + other->length > range->address)
            return TRUE;
    }
    if (!by_offset)
        return FALSE;
    other = &g_array_index(map->by_offset, UffdRange, by_offset - 1);
    return other->block == range->block && other->offset + other->length > range->offset;
}

gboolean uffd_map_add(UffdMap *map, const UffdRange *range, GError **error)
{
    const char *why = NULL;

    if (map->by_address->len >= UFFD_RANGES_MAX)
        why = _("there are too many pieces of memory");
    else if (!is_sound(range))
        why = _("is empty, or not in whole pages");
    else if (overlaps(map, range))
        why = _("overlaps another piece");
    if (why) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("memory at 0x%" PRIx64 ", %" PRIu64 " bytes in pages of %" PRIu64
                      ", offset 0x%" PRIx64 " of RAM block %u: %s"),
                    range->address, range->length, range->page_size, range->offset, range->block,
                    why);
        return FALSE;
    }
    g_array_insert_val(map->by_address, count_address(map, range->address), *range);
    g_array_insert_val(map->by_offset, count_offset(map, range->block, range->offset), *range);
    return TRUE;
}

static void remove_block(GArray *ranges, guint block)
{
    for (guint i = ranges->len; i-- > 0;) {
        if (g_array_index(ranges, UffdRange, i).block == block)
            g_array_remove_index(ranges, i);
    }
}

void uffd_map_remove_block(UffdMap *map, guint block)
{
    remove_block(map->by_address, block);
    remove_block(map->by_offset, block);
}
