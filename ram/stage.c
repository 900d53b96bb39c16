/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The list of ready pages runs through the pages themselves (oldest first), the table is only for
 * finding them: its keys are the pages, of which block and offset are compared. */
#include "config.h"

#include "ram/stage.h"

#include <string.h>

/* What malloc() adds to each piece, and the table's slot (key and hash, at most three quarters
 * full and doubled when it grows): counted, for the limit is on real memory. */
#define MALLOC_OVERHEAD 16
#define TABLE_OVERHEAD 32
/* Pages come and go one by one, as fast as memory is copied: what is given to malloc() and taken
 * from it in between would cost more than the copy. 2 MiB of pages of 4 KiB. */
#define SPARE_MAX 512

struct Stage {
    gsize target_page;
    gsize limit;
    GHashTable *pages; /* set of StagedPage, owned */
    StagedPage *first; /* ready ones */
    StagedPage *last;
    gsize bytes;
    gsize high_water;
    guint n_ready;
    StagedPage *spare; /* to be used again, by `next`: each with room for one target page */
    guint n_spare;
};

/* ---- keys ---- */

/* Multiplicative: the high bits, which the multiplication has mixed, are those that are kept. */
static guint page_hash(gconstpointer key)
{
    const StagedPage *page = key;
    guint64 mixed = (page->offset >> 10) ^ ((guint64)page->block << 48);

    return (guint)((mixed * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15)) >> 32);
}

static gboolean page_equal(gconstpointer a, gconstpointer b)
{
    const StagedPage *one = a;
    const StagedPage *other = b;

    return one->offset == other->offset && one->block == other->block;
}

Stage *stage_new(gsize target_page, gsize limit)
{
    Stage *stage;

    g_return_val_if_fail(target_page > 0, NULL);
    stage = g_new0(Stage, 1);
    stage->target_page = target_page;
    stage->limit = limit;
    stage->pages = g_hash_table_new(page_hash, page_equal);
    return stage;
}

void stage_free(Stage *stage)
{
    GHashTableIter iter;
    gpointer page;

    if (!stage)
        return;
    g_hash_table_iter_init(&iter, stage->pages);
    while (g_hash_table_iter_next(&iter, &page, NULL))
        staged_page_free(page);
    g_hash_table_unref(stage->pages);
    while (stage->spare) {
        StagedPage *next = stage->spare->next;

        g_free(stage->spare);
        stage->spare = next;
    }
    g_free(stage);
}

/* ---- a page ---- */

/* Or a new one. */
static StagedPage *take_spare(Stage *stage, gsize inline_len)
{
    StagedPage *page = stage->spare;

    if (!page || inline_len != stage->target_page)
        return g_malloc(sizeof(StagedPage) + inline_len);
    stage->spare = page->next;
    stage->n_spare--;
    return page;
}

void stage_recycle(Stage *stage, StagedPage *page)
{
    gboolean fits = page->records == &page->single && page->single.data == (guint8 *)(page + 1) &&
                    page->single.data_len == stage->target_page;

    if (!fits || stage->n_spare == SPARE_MAX) {
        staged_page_free(page);
        return;
    }
    page->next = stage->spare;
    stage->spare = page;
    stage->n_spare++;
}

/* A host page of one target page, which is what most are, is one piece of memory: its data lies
 * behind it. */
static StagedPage *staged_page_new(Stage *stage, guint block, guint64 offset, guint n_records,
                                   gsize data_len)
{
    gsize inline_len = n_records == 1 ? data_len : 0;
    StagedPage *page = take_spare(stage, inline_len);

    memset(page, 0, sizeof(*page));
    page->block = block;
    page->offset = offset;
    page->n_records = n_records;
    page->bytes = sizeof(StagedPage) + inline_len + MALLOC_OVERHEAD + TABLE_OVERHEAD;
    page->records = &page->single;
    if (n_records > 1) {
        page->records = g_new0(StagedRecord, n_records);
        page->bytes += n_records * sizeof(StagedRecord) + MALLOC_OVERHEAD;
    } else if (data_len > 0) {
        page->single.data = (guint8 *)(page + 1);
    }
    return page;
}

StagedPage *staged_page_new_elsewhere(guint block, guint64 offset, guint n_records,
                                      gpointer elsewhere)
{
    StagedPage *page = g_new0(StagedPage, 1);

    page->block = block;
    page->offset = offset;
    page->n_records = n_records;
    page->elsewhere = elsewhere;
    return page;
}

void staged_page_free(StagedPage *page)
{
    if (!page)
        return;
    if (page->records && page->records != &page->single) {
        for (guint i = 0; i < page->n_records; i++)
            g_free(page->records[i].data);
        g_free(page->records);
    }
    g_free(page);
}

/* One that is not there yet is all zero: a raw page without data, which does not exist. */
static gboolean record_is_present(const StagedRecord *record)
{
    return record->kind != QEMU_PAGE_RAW || record->data_len > 0;
}

static void record_fill(StagedPage *page, StagedRecord *record, const QemuPage *from)
{
    record->kind = from->kind;
    record->fill = from->fill;
    record->data_len = (guint32)from->data_len;
    if (from->data_len > 0) {
        if (!record->data) {
            record->data = g_malloc(from->data_len);
            page->bytes += from->data_len + MALLOC_OVERHEAD;
        }
        memcpy(record->data, from->data, from->data_len);
    }
    page->n_present++;
}

/* ---- in and out ---- */

static void append_ready(Stage *stage, StagedPage *page)
{
    page->ready = TRUE;
    page->prev = stage->last;
    if (stage->last)
        stage->last->next = page;
    else
        stage->first = page;
    stage->last = page;
    stage->n_ready++;
}

static void unlink_ready(Stage *stage, StagedPage *page)
{
    if (page->prev)
        page->prev->next = page->next;
    else
        stage->first = page->next;
    if (page->next)
        page->next->prev = page->prev;
    else
        stage->last = page->prev;
    page->next = page->prev = NULL;
    stage->n_ready--;
}

StagedPage *stage_find(const Stage *stage, guint block, guint64 offset, guint64 host_page)
{
    StagedPage key = { .block = block };

    g_return_val_if_fail(host_page > 0, NULL);
    key.offset = offset - offset % host_page;
    return g_hash_table_lookup(stage->pages, &key);
}

StagePut stage_put(Stage *stage, const QemuPage *page, guint64 host_page, StagedPage **ret_page)
{
    StagedPage *staged;
    StagedRecord *record;
    gsize had;

    g_return_val_if_fail(host_page > 0 && host_page % stage->target_page == 0,
                         STAGE_PUT_DUPLICATE);
    g_return_val_if_fail(host_page / stage->target_page <= G_MAXUINT, STAGE_PUT_DUPLICATE);
    g_return_val_if_fail(page->kind != QEMU_PAGE_RAW || page->data_len > 0, STAGE_PUT_DUPLICATE);
    staged = stage_find(stage, page->block, page->offset, host_page);
    had = staged ? staged->bytes : 0;
    if (!staged) {
        staged = staged_page_new(stage, page->block, page->offset - page->offset % host_page,
                                 (guint)(host_page / stage->target_page), page->data_len);
        g_hash_table_add(stage->pages, staged);
    }
    if (ret_page)
        *ret_page = staged;
    record = &staged->records[(page->offset - staged->offset) / stage->target_page];
    if (record_is_present(record))
        return STAGE_PUT_DUPLICATE;
    record_fill(staged, record, page);
    stage->bytes += staged->bytes - had;
    stage->high_water = MAX(stage->high_water, stage->bytes);
    if (staged->n_present < staged->n_records)
        return STAGE_PUT_PARTIAL;
    append_ready(stage, staged);
    return STAGE_PUT_READY;
}

StagedPage *stage_first(const Stage *stage)
{
    return stage->first;
}

void stage_take(Stage *stage, StagedPage *page)
{
    g_return_if_fail(page->ready);
    g_return_if_fail(g_hash_table_steal(stage->pages, page));
    unlink_ready(stage, page);
    stage->bytes -= page->bytes;
}

void stage_drop(Stage *stage, StagedPage *page)
{
    g_return_if_fail(g_hash_table_steal(stage->pages, page));
    if (page->ready)
        unlink_ready(stage, page);
    stage->bytes -= page->bytes;
    staged_page_free(page);
}

/* ---- what there is ---- */

gsize stage_bytes(const Stage *stage)
{
    return stage->bytes;
}

gsize stage_high_water(const Stage *stage)
{
    return stage->high_water;
}

guint stage_ready_pages(const Stage *stage)
{
    return stage->n_ready;
}

guint stage_partial_pages(const Stage *stage)
{
    return g_hash_table_size(stage->pages) - stage->n_ready;
}

gboolean stage_is_full(const Stage *stage)
{
    return stage->bytes >= stage->limit;
}

gsize stage_limit(const Stage *stage)
{
    return stage->limit;
}
