/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/release.h"

static GArray *ranges_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(ReleaseRange));
}

void release_list_init(ReleaseList *list)
{
    *list = (ReleaseList){ .open = ranges_new(), .closed = ranges_new() };
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

gboolean release_list_close(ReleaseList *list)
{
    GArray *empty = list->closed;

    if (release_list_is_waiting(list) || list->open->len == 0)
        return FALSE;
    list->closed = list->open;
    list->open = empty;
    return TRUE;
}

GArray *release_list_take(ReleaseList *list)
{
    GArray *due = list->closed;

    list->closed = ranges_new();
    for (guint i = 0; i < due->len; i++)
        list->bytes += g_array_index(due, ReleaseRange, i).range.length;
    return due;
}
