/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/page_set.h"

/* The key comes first: an entry is its own key. */
typedef struct {
    guint64 offset;
    guint block;
    gint64 since_us;
} Entry;

struct PageSet {
    GHashTable *entries; /* Entry -> itself */
};

static guint entry_hash(gconstpointer key)
{
    const Entry *entry = key;
    guint64 mixed = (entry->offset >> 10) * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) + entry->block;

    return (guint)(mixed >> 32) ^ (guint)mixed;
}

static gboolean entry_equal(gconstpointer a, gconstpointer b)
{
    const Entry *x = a, *y = b;

    return x->offset == y->offset && x->block == y->block;
}

PageSet *page_set_new(void)
{
    PageSet *set = g_new(PageSet, 1);

    set->entries = g_hash_table_new_full(entry_hash, entry_equal, g_free, NULL);
    return set;
}

void page_set_free(PageSet *set)
{
    if (!set)
        return;
    g_hash_table_unref(set->entries);
    g_free(set);
}

gboolean page_set_contains(const PageSet *set, guint block, guint64 offset)
{
    Entry key = { offset, block, 0 };

    return g_hash_table_contains(set->entries, &key);
}

gboolean page_set_add(PageSet *set, guint block, guint64 offset, gint64 since_us)
{
    Entry *entry;

    if (page_set_contains(set, block, offset))
        return FALSE;
    entry = g_new(Entry, 1);
    *entry = (Entry){ offset, block, since_us };
    return g_hash_table_add(set->entries, entry);
}

gboolean page_set_remove(PageSet *set, guint block, guint64 offset, gint64 *ret_since_us)
{
    Entry key = { offset, block, 0 };
    const Entry *entry = g_hash_table_lookup(set->entries, &key);

    if (!entry)
        return FALSE;
    *ret_since_us = entry->since_us;
    return g_hash_table_remove(set->entries, &key);
}

void page_set_each(const PageSet *set, guint block, PageSetFunc func, gpointer data)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, set->entries);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const Entry *entry = key;

        if (entry->block == block)
            func(block, entry->offset, data);
    }
}

guint page_set_size(const PageSet *set)
{
    return g_hash_table_size(set->entries);
}
