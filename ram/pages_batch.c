/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Collects pages into the plain body of a PAGES. */
#include "config.h"

#include <string.h>

#include "ram/page_frames.h"

#define COUNT_LEN 4  /* of a ZERO record, and of a run */
#define LENGTH_LEN 4 /* of an XBZRLE or COMPRESSED one */

G_STATIC_ASSERT(PAGES_PLAIN_MAX >= PAGES_RECORD_HEAD_LEN + RAM_TARGET_PAGE_MAX);
G_STATIC_ASSERT(RAM_BLOCKS_MAX <= G_MAXUINT16 + 1);

void pages_batch_init(PagesBatch *batch, gsize reserve)
{
    *batch = (PagesBatch){ .reserve = reserve };
}

void pages_batch_use_runs(PagesBatch *batch)
{
    batch->runs = TRUE;
}

void pages_batch_expect_many(PagesBatch *batch)
{
    g_return_if_fail(!batch->bytes);
    batch->capacity = batch->reserve + PAGES_HEAD_LEN + PAGES_PLAIN_MAX;
    batch->bytes = g_malloc(batch->capacity);
}

static void begin_anew(PagesBatch *batch)
{
    *batch = (PagesBatch){ .reserve = batch->reserve, .runs = batch->runs };
}

void pages_batch_clear(PagesBatch *batch)
{
    g_free(batch->bytes);
    begin_anew(batch);
}

static void put_u16(guint8 *at, guint16 v)
{
    v = GUINT16_TO_BE(v);
    memcpy(at, &v, sizeof v);
}

static void put_u32(guint8 *at, guint32 v)
{
    v = GUINT32_TO_BE(v);
    memcpy(at, &v, sizeof v);
}

static void put_u64(guint8 *at, guint64 v)
{
    v = GUINT64_TO_BE(v);
    memcpy(at, &v, sizeof v);
}

/* The page is the next one after those of the last record, and may be a part of it. */
static gboolean continues_last(const PagesBatch *batch, const QemuPage *page)
{
    return batch->last_count > 0 && page->kind == batch->last.kind &&
           page->block == batch->last.block && page->offset == batch->last.offset &&
           (page->kind != QEMU_PAGE_ZERO || page->fill == batch->last.fill);
}

static gsize record_len(const QemuPage *page)
{
    gsize extra = page->kind == QEMU_PAGE_ZERO  ? COUNT_LEN
                  : page->kind == QEMU_PAGE_RAW ? page->data_len
                                                : LENGTH_LEN + page->data_len;

    return PAGES_RECORD_HEAD_LEN + extra;
}

/* The first page gets a buffer of its size, for a page that is sent alone; the second one a buffer
 * for as many as may come. NULL: it does not fit. */
static guint8 *add_room(PagesBatch *batch, gsize len)
{
    gsize head = batch->reserve + PAGES_HEAD_LEN;
    guint8 *room;

    if (len > PAGES_PLAIN_MAX - batch->len)
        return NULL;
    if (head + batch->len + len > batch->capacity) {
        batch->capacity = head + (batch->capacity == 0 ? len : PAGES_PLAIN_MAX);
        batch->bytes = g_realloc(batch->bytes, batch->capacity);
    }
    room = batch->bytes + head + batch->len;
    batch->len += len;
    return room;
}

static void put_record(guint8 *at, const QemuPage *page)
{
    put_u16(at, page->block);
    at[2] = page->kind;
    at[3] = page->kind == QEMU_PAGE_ZERO ? page->fill : 0;
    put_u64(at + 4, page->offset);
    at += PAGES_RECORD_HEAD_LEN;
    if (page->kind == QEMU_PAGE_ZERO) {
        put_u32(at, 1);
        return;
    }
    if (page->kind != QEMU_PAGE_RAW) {
        put_u32(at, page->data_len);
        at += LENGTH_LEN;
    }
    memcpy(at, page->data, page->data_len);
}

static guint8 *last_record(const PagesBatch *batch)
{
    return batch->bytes + batch->reserve + PAGES_HEAD_LEN + batch->last_at;
}

/* A RAW record becomes a run by its second page: there is no count before that. */
static gboolean add_to_run(PagesBatch *batch, const QemuPage *page)
{
    gboolean begins = batch->last_count == 1;
    guint8 *at = add_room(batch, page->data_len + (begins ? COUNT_LEN : 0));
    guint8 *record, *data;

    if (!at)
        return FALSE;
    record = last_record(batch);
    data = record + PAGES_RECORD_HEAD_LEN + COUNT_LEN;
    if (begins) {
        memmove(data, data - COUNT_LEN, page->data_len);
        record[2] = PAGES_KIND_RUN;
    }
    put_u32(record + PAGES_RECORD_HEAD_LEN, batch->last_count + 1);
    memcpy(data + batch->last_count * page->data_len, page->data, page->data_len);
    return TRUE;
}

static gboolean add_record(PagesBatch *batch, const QemuPage *page)
{
    gsize before = batch->len;
    guint8 *at = add_room(batch, record_len(page));

    if (!at)
        return FALSE;
    put_record(at, page);
    batch->last_at = before;
    batch->last_count = 0;
    return TRUE;
}

gboolean pages_batch_add(PagesBatch *batch, const QemuPage *page, gsize target_page)
{
    gboolean counts = page->kind == QEMU_PAGE_ZERO ||
                      (page->kind == QEMU_PAGE_RAW && batch->runs);

    g_return_val_if_fail(page->block < RAM_BLOCKS_MAX, FALSE);
    g_return_val_if_fail(page->kind < QEMU_PAGE_KIND_MAX, FALSE);
    g_return_val_if_fail(page->kind != QEMU_PAGE_RAW || page->data_len == target_page, FALSE);

    if (batch->target_pages == PAGES_TARGET_MAX)
        return FALSE;
    if (!continues_last(batch, page)) {
        if (!add_record(batch, page))
            return FALSE;
    } else if (page->kind == QEMU_PAGE_ZERO) {
        put_u32(last_record(batch) + PAGES_RECORD_HEAD_LEN, batch->last_count + 1);
    } else if (!add_to_run(batch, page)) {
        return FALSE;
    }
    batch->last_count = counts ? batch->last_count + 1 : 0;
    batch->last = *page;
    batch->last.offset += target_page;
    batch->target_pages++;
    return TRUE;
}

guint pages_batch_add_zeros(PagesBatch *batch, const QemuPage *page, guint n, gsize target_page)
{
    guint more;

    g_return_val_if_fail(page->kind == QEMU_PAGE_ZERO && n > 0, 0);
    if (!pages_batch_add(batch, page, target_page))
        return 0;
    more = MIN(n - 1, PAGES_TARGET_MAX - batch->target_pages);
    batch->last_count += more;
    batch->last.offset += (guint64)more * target_page;
    batch->target_pages += more;
    put_u32(last_record(batch) + PAGES_RECORD_HEAD_LEN, batch->last_count);
    return 1 + more;
}

guint8 *pages_batch_finish(PagesBatch *batch, gsize *ret_body_len)
{
    gsize len = batch->reserve + PAGES_HEAD_LEN + batch->len;
    guint8 *bytes, *head;

    g_return_val_if_fail(batch->len > 0, NULL);
    /* What waits to be acknowledged should not hold much more memory than it needs. */
    bytes = batch->capacity > 2 * len ? g_realloc(batch->bytes, len) : batch->bytes;
    head = bytes + batch->reserve;
    memset(head, 0, PAGES_HEAD_LEN);
    head[0] = PAGES_PLAIN;
    put_u32(head + 4, batch->len);

    *ret_body_len = PAGES_HEAD_LEN + batch->len;
    begin_anew(batch);
    return bytes;
}
