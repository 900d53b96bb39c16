/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/placing.h"

#include <glib/gi18n.h>
#include <string.h>

#include "util/autofd.h"

/* QEMU's bitmaps come in words of that many pages. */
#define BITMAP_WORD 64

#define NONE G_MAXUINT

struct Placing {
    const RamBlocks *blocks;
    int uffd;
    UffdMap *map;
    PlacedRecord *record;
    guint *in_record; /* by block: its place there, or NONE */
};

const char *placing_state_name(PlacingState state)
{
    static const char *const names[] = { "off", "placing", "refused" };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == PLACING_STATE_MAX);
    return names[state];
}

static gboolean refuse(GError **error, const char *why)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_STATE,
                _("pages are not placed in QEMU's memory directly: %s"), why);
    return FALSE;
}

/* ---- which block is where ---- */

typedef struct {
    const RamBlocks *blocks;
    const PlacingRange *ranges;
    gsize n;
    guint64 unit; /* lengths are compared in it */
} Match;

static guint64 units(const Match *match, guint64 length)
{
    return length / match->unit + (length % match->unit != 0);
}

static gint compare_u64(gconstpointer a, gconstpointer b)
{
    guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

    return x < y ? -1 : x > y;
}

static guint64 *sorted_ranges(const Match *match)
{
    guint64 *lengths = g_new(guint64, match->n);

    for (gsize i = 0; i < match->n; i++)
        lengths[i] = units(match, match->ranges[i].length);
    qsort(lengths, match->n, sizeof *lengths, compare_u64);
    return lengths;
}

static guint64 *sorted_blocks(const Match *match)
{
    guint n = ram_blocks_count(match->blocks);
    guint64 *lengths = g_new(guint64, n);

    for (guint i = 0; i < n; i++)
        lengths[i] = units(match, ram_blocks_get(match->blocks, i)->length);
    qsort(lengths, n, sizeof *lengths, compare_u64);
    return lengths;
}

static gboolean lengths_are_the_same(const Match *match)
{
    g_autofree guint64 *ranges = NULL, *blocks = NULL;

    if (match->n == 0 || match->n != ram_blocks_count(match->blocks))
        return FALSE;
    ranges = sorted_ranges(match);
    blocks = sorted_blocks(match);
    return memcmp(ranges, blocks, match->n * sizeof *ranges) == 0;
}

/* The only one of that length, or NULL. */
static const PlacingRange *only_range(const Match *match, guint64 length)
{
    const PlacingRange *only = NULL;

    for (gsize i = 0; i < match->n; i++) {
        if (units(match, match->ranges[i].length) != units(match, length))
            continue;
        if (only)
            return NULL;
        only = &match->ranges[i];
    }
    return only;
}

static gboolean can_place(const RamBlocks *blocks, guint block, const PlacingRange *range)
{
    return range->page_size == ram_blocks_host_page(blocks, block) &&
           range->page_size <= PLACING_PAGE_MAX && range->page_size != 0 &&
           range->length % range->page_size == 0;
}

static PlacedBlock placed_block(const char *name, const PlacingRange *range)
{
    return (PlacedBlock){ name, range->address, range->length, range->page_size, range->backing };
}

static gboolean begin_record(PlacedRecord *record, const Match *match, GError **error)
{
    g_autoptr(GArray) chosen = g_array_new(FALSE, FALSE, sizeof(PlacedBlock));

    if (!lengths_are_the_same(match))
        return refuse(error, _("what it has registered is not as long as its RAM blocks are"));
    for (guint i = 0; i < ram_blocks_count(match->blocks); i++) {
        const RamBlock *block = ram_blocks_get(match->blocks, i);
        const PlacingRange *range = only_range(match, block->length);

        if (range && can_place(match->blocks, i, range)) {
            PlacedBlock placed = placed_block(block->name, range);

            g_array_append_val(chosen, placed);
        }
    }
    if (chosen->len == 0)
        return refuse(error, _("no RAM block is unlike the others in length"));
    return placed_record_begin(record, ram_blocks_target_page(match->blocks),
                               (const PlacedBlock *)chosen->data, chosen->len, error);
}

static gboolean is_registered(const Match *match, const PlacedBlock *block)
{
    for (gsize i = 0; i < match->n; i++) {
        const PlacingRange *range = &match->ranges[i];

        if (range->address == block->address && range->length == block->length &&
            range->page_size == block->page_size && range->backing == block->backing)
            return TRUE;
    }
    return FALSE;
}

/* ---- life ---- */

static gboolean add_block(Placing *placing, const Match *match, guint index, GError **error)
{
    PlacedBlock block;
    guint number;

    placed_record_get(placing->record, index, &block);
    if (!is_registered(match, &block))
        return refuse(error, _("what was placed before is not registered any more"));
    if (!ram_blocks_find(placing->blocks, (const guint8 *)block.name, strlen(block.name),
                         &number) ||
        ram_blocks_host_page(placing->blocks, number) != block.page_size)
        return refuse(error, _("what was placed before is of other RAM blocks"));
    placing->in_record[number] = index;
    return uffd_map_add(placing->map,
                        &(UffdRange){ number, 0, block.address, block.length, block.page_size,
                                      block.backing },
                        error);
}

static gboolean set_up(Placing *placing, const Match *match, GError **error)
{
    guint n = ram_blocks_count(placing->blocks);

    if (placed_record_is_empty(placing->record) && !begin_record(placing->record, match, error))
        return FALSE;
    if (placed_record_target_page(placing->record) != ram_blocks_target_page(placing->blocks))
        return refuse(error, _("what was placed before has other target pages"));
    placing->in_record = g_new(guint, n);
    for (guint i = 0; i < n; i++)
        placing->in_record[i] = NONE;
    for (guint i = 0; i < placed_record_count(placing->record); i++) {
        if (!add_block(placing, match, i, error))
            return FALSE;
    }
    return TRUE;
}

Placing *placing_new(const RamBlocks *blocks, gboolean rounded, int uffd, PlacedRecord *record,
                     const PlacingRange *ranges, gsize n, GError **error)
{
    Match match = { blocks, ranges, n, rounded ? BITMAP_WORD * ram_blocks_target_page(blocks) : 1 };
    Placing *placing = g_new0(Placing, 1);

    placing->blocks = blocks;
    placing->uffd = uffd;
    placing->map = uffd_map_new();
    placing->record = record;
    if (set_up(placing, &match, error))
        return placing;
    placing->record = NULL;
    placing_free(placing);
    return NULL;
}

void placing_free(Placing *placing)
{
    if (!placing)
        return;
    uffd_map_free(placing->map);
    placed_record_free(placing->record);
    autofd_clear(&placing->uffd);
    g_free(placing->in_record);
    g_free(placing);
}

/* ---- pages ---- */

gboolean placing_takes(const Placing *placing, guint block, guint64 offset)
{
    return placing->in_record[block] != NONE &&
           uffd_map_at_offset(placing->map, block, offset) != NULL;
}

UffdSink *placing_new_sink(Placing *placing, UffdPlacedFunc func, gpointer data)
{
    return uffd_sink_new(placing->uffd, placing->map, placing->blocks, func, data);
}

UffdPlacer *placing_new_placer(const Placing *placing, UffdPlacedFunc func, UffdPlacedFunc note,
                               gpointer data, GError **error)
{
    return uffd_placer_new(placing->uffd, func, note, data, error);
}

void placing_note(Placing *placing, guint block, guint64 offset, guint64 length)
{
    gsize target = ram_blocks_target_page(placing->blocks);

    placed_record_mark(placing->record, placing->in_record[block], offset / target,
                       length / target);
}

guint placing_blocks(const Placing *placing, guint64 *ret_bytes)
{
    *ret_bytes = 0;
    for (guint i = 0; i < uffd_map_count(placing->map); i++)
        *ret_bytes += uffd_map_get(placing->map, i)->length;
    return uffd_map_count(placing->map);
}
