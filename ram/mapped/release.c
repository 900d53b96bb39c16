/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/release.h"

static GArray *ranges_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(ReleaseRange));
}

void release_list_init(ReleaseList *list, const RamBlocks *blocks)
{
    *list = (ReleaseList){ .blocks = blocks, .open = ranges_new(), .closed = ranges_new() };
}

void release_list_clear(ReleaseList *list)
{
    g_clear_pointer(&list->open, g_array_unref);
    g_clear_pointer(&list->closed, g_array_unref);
}

void release_list_add(ReleaseList *list, guint block, guint64 start, guint64 length)
{
    ReleaseRange add = { block, { start, length } };
    ReleaseRange *last = list->open->len == 0
                             ? NULL
                             : &g_array_index(list->open, ReleaseRange, list->open->len - 1);

    if (last && last->block == block && last->range.start + last->range.length == start)
        last->range.length += length;
    else
        g_array_append_val(list->open, add);
}

gboolean release_list_is_waiting(const ReleaseList *list)
{
    return list->closed->len > 0;
}

/* What of the last range is no whole host page yet; length 0: nothing. */
static ReleaseRange cut_tail(const ReleaseList *list)
{
    ReleaseRange *last = &g_array_index(list->open, ReleaseRange, list->open->len - 1);
    guint64 end = last->range.start + last->range.length;
    guint64 left = MIN(end % ram_blocks_host_page(list->blocks, last->block), last->range.length);

    last->range.length -= left;
    return (ReleaseRange){ last->block, { end - left, left } };
}

gboolean release_list_close(ReleaseList *list)
{
    GArray *empty = list->closed;
    ReleaseRange tail;

    if (release_list_is_waiting(list) || list->open->len == 0)
        return FALSE;
    tail = cut_tail(list);
    if (list->open->len == 1 && g_array_index(list->open, ReleaseRange, 0).range.length == 0) {
        g_array_index(list->open, ReleaseRange, 0) = tail;
        return FALSE;
    }
    list->closed = list->open;
    list->open = empty;
    if (tail.range.length > 0)
        g_array_append_val(list->open, tail);
    return TRUE;
}

/* Another host page may have come in between: then neither part of this one is given back. */
static void keep_whole(const ReleaseList *list, ReleaseRange *range)
{
    guint64 host = ram_blocks_host_page(list->blocks, range->block);
    guint64 end = range->range.start + range->range.length;
    guint64 first = (range->range.start + host - 1) / host * host;

    end -= end % host;
    range->range = (MemoryRange){ first, end > first ? end - first : 0 };
}

GArray *release_list_take(ReleaseList *list)
{
    GArray *due = list->closed;

    list->closed = ranges_new();
    for (guint i = due->len; i-- > 0;) {
        ReleaseRange *range = &g_array_index(due, ReleaseRange, i);

        keep_whole(list, range);
        list->bytes += range->range.length;
        if (range->range.length == 0)
            g_array_remove_index(due, i);
    }
    return due;
}
