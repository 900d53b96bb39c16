/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A GSequence, which is a balanced tree that can also be walked from any place. */
#include "config.h"

#include "ram/uffd/requested.h"

typedef struct {
    guint block;
    guint64 offset;
    gint64 since_us;
} Wanted;

struct Requested {
    GSequence *tree; /* of Wanted */
};

Requested *requested_new(void)
{
    Requested *requested = g_new0(Requested, 1);

    requested->tree = g_sequence_new(g_free);
    return requested;
}

void requested_free(Requested *requested)
{
    if (!requested)
        return;
    g_sequence_free(requested->tree);
    g_free(requested);
}

static gint compare(gconstpointer a, gconstpointer b, gpointer data)
{
    const Wanted *x = a, *y = b;

    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static GSequenceIter *find(const Requested *requested, guint block, guint64 offset)
{
    Wanted key = { block, offset, 0 };

    return g_sequence_lookup(requested->tree, &key, compare, NULL);
}

gboolean requested_add(Requested *requested, guint block, guint64 offset, gint64 now_us)
{
    Wanted *wanted;

    if (find(requested, block, offset))
        return FALSE;
    wanted = g_new(Wanted, 1);
    *wanted = (Wanted){ block, offset, now_us };
    g_sequence_insert_sorted(requested->tree, wanted, compare, NULL);
    return TRUE;
}

gboolean requested_remove(Requested *requested, guint block, guint64 offset, gint64 *ret_since_us)
{
    GSequenceIter *iter = find(requested, block, offset);

    if (!iter)
        return FALSE;
    *ret_since_us = ((const Wanted *)g_sequence_get(iter))->since_us;
    g_sequence_remove(iter);
    return TRUE;
}

/* The first one at or after the place. */
static GSequenceIter *find_from(const Requested *requested, guint block, guint64 offset)
{
    Wanted key = { block, offset, 0 };
    GSequenceIter *iter = g_sequence_search(requested->tree, &key, compare, NULL);
    GSequenceIter *before = g_sequence_iter_prev(iter);

    /* The search ends behind its equal. */
    if (before != iter && compare(g_sequence_get(before), &key, NULL) == 0)
        return before;
    return iter;
}

guint requested_remove_range(Requested *requested, guint block, guint64 offset, guint64 length,
                             RequestedFunc func, gpointer data)
{
    GSequenceIter *iter;
    guint n = 0;

    if (g_sequence_is_empty(requested->tree))
        return 0;
    iter = find_from(requested, block, offset);
    while (!g_sequence_iter_is_end(iter)) {
        GSequenceIter *next = g_sequence_iter_next(iter);
        const Wanted *wanted = g_sequence_get(iter);

        if (wanted->block != block || wanted->offset - offset >= length)
            break;
        if (func)
            func(wanted->block, wanted->offset, wanted->since_us, data);
        g_sequence_remove(iter);
        iter = next;
        n++;
    }
    return n;
}

guint64 requested_next(const Requested *requested, guint block, guint64 offset, guint64 end)
{
    GSequenceIter *iter = find_from(requested, block, offset);
    const Wanted *wanted = g_sequence_iter_is_end(iter) ? NULL : g_sequence_get(iter);

    return wanted && wanted->block == block ? MIN(wanted->offset, end) : end;
}

gboolean requested_has(const Requested *requested, guint block, guint64 offset)
{
    return find(requested, block, offset) != NULL;
}

guint requested_count(const Requested *requested)
{
    return (guint)g_sequence_get_length(requested->tree);
}

void requested_foreach(const Requested *requested, RequestedFunc func, gpointer data)
{
    GSequenceIter *iter = g_sequence_get_begin_iter(requested->tree);

    for (; !g_sequence_iter_is_end(iter); iter = g_sequence_iter_next(iter)) {
        const Wanted *wanted = g_sequence_get(iter);

        func(wanted->block, wanted->offset, wanted->since_us, data);
    }
}
