/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/placed_record.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "ram/blocks.h"

#define MAGIC "postcopy-placed1"
/* 16 TiB in pages of 4 KiB, and the heads. */
#define SIZE_MAX_BYTES (G_GUINT64_CONSTANT(1) << 30)

typedef struct {
    char magic[16];
    guint32 target_page;
    guint32 n_blocks;
} Head;

typedef struct {
    char name[256];
    guint64 address;
    guint64 length;
    guint64 page_size;
    guint64 bits;
    guint32 backing;
    guint32 zero[3];
} Entry;

G_STATIC_ASSERT(sizeof(Head) == PLACED_RECORD_HEAD);
G_STATIC_ASSERT(sizeof(Entry) == PLACED_RECORD_ENTRY);

struct PlacedRecord {
    guint8 *bytes; /* the file, shared */
    gsize size;
    /* Checked, and copied, so that what another writes there changes nothing. */
    gsize target_page;
    GArray *entries; /* of Entry */
};

static gboolean bad(GError **error, const char *what)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("the record of placed pages: %s"), what);
    return FALSE;
}

static guint64 bits_len(const Entry *entry, gsize target_page)
{
    guint64 pages = entry->length / target_page;

    return pages / 8 + (pages % 8 != 0);
}

/* ---- reading ---- */

static gboolean is_page(guint64 size)
{
    return size >= 1024 && (size & (size - 1)) == 0;
}

static gboolean check_entry(const PlacedRecord *record, const Entry *entry, GError **error)
{
    if (!memchr(entry->name, 0, sizeof entry->name) || !entry->name[0])
        return bad(error, _("a block has no name"));
    if (entry->backing >= UFFD_BACKING_MAX || !is_page(entry->page_size) ||
        entry->page_size < record->target_page || entry->length == 0 ||
        ((entry->address | entry->length) & (entry->page_size - 1)) != 0 ||
        entry->address > G_MAXUINT64 - entry->length)
        return bad(error, _("a block cannot be where it says"));
    if (entry->bits < sizeof(Head) || entry->bits > record->size ||
        bits_len(entry, record->target_page) > record->size - entry->bits)
        return bad(error, _("the bits of a block are outside of it"));
    return TRUE;
}

static gboolean read_entries(PlacedRecord *record, guint n, GError **error)
{
    for (guint i = 0; i < n; i++) {
        Entry entry;

        memcpy(&entry, record->bytes + sizeof(Head) + i * sizeof entry, sizeof entry);
        if (!check_entry(record, &entry, error))
            return FALSE;
        g_array_append_val(record->entries, entry);
    }
    return TRUE;
}

static gboolean read_head(PlacedRecord *record, GError **error)
{
    static const char nothing[sizeof MAGIC - 1] = { 0 };
    Head head;

    memcpy(&head, record->bytes, sizeof head);
    if (memcmp(head.magic, nothing, sizeof head.magic) == 0)
        return TRUE;
    if (memcmp(head.magic, MAGIC, sizeof head.magic) != 0)
        return bad(error, _("it is none"));
    if (!is_page(head.target_page) || head.target_page > RAM_TARGET_PAGE_MAX)
        return bad(error, _("its target page cannot be"));
    if (head.n_blocks == 0 || head.n_blocks > RAM_BLOCKS_MAX ||
        sizeof head + (guint64)head.n_blocks * sizeof(Entry) > record->size)
        return bad(error, _("its number of blocks cannot be"));
    record->target_page = head.target_page;
    return read_entries(record, head.n_blocks, error);
}

PlacedRecord *placed_record_open(int fd, GError **error)
{
    g_autoptr(PlacedRecord) record = g_new0(PlacedRecord, 1);
    struct stat st;

    record->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Head) ||
        (guint64)st.st_size > SIZE_MAX_BYTES) {
        bad(error, _("it is no file of a size that could be"));
        return NULL;
    }
    record->size = (gsize)st.st_size;
    record->bytes = mmap(NULL, record->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (record->bytes == MAP_FAILED) {
        record->bytes = NULL;
        bad(error, g_strerror(errno));
        return NULL;
    }
    return read_head(record, error) ? g_steal_pointer(&record) : NULL;
}

void placed_record_free(PlacedRecord *record)
{
    if (!record)
        return;
    if (record->bytes)
        munmap(record->bytes, record->size);
    g_array_unref(record->entries);
    g_free(record);
}

/* ---- asking ---- */

gboolean placed_record_is_empty(const PlacedRecord *record)
{
    return record->entries->len == 0;
}

gsize placed_record_target_page(const PlacedRecord *record)
{
    return record->target_page;
}

guint placed_record_count(const PlacedRecord *record)
{
    return record->entries->len;
}

void placed_record_get(const PlacedRecord *record, guint index, PlacedBlock *ret_block)
{
    const Entry *entry = &g_array_index(record->entries, Entry, index);

    *ret_block = (PlacedBlock){
        .name = entry->name,
        .address = entry->address,
        .length = entry->length,
        .page_size = entry->page_size,
        .backing = entry->backing,
    };
}

gboolean placed_record_find(const PlacedRecord *record, const char *name, guint *ret_index)
{
    for (guint i = 0; i < record->entries->len; i++) {
        if (g_str_equal(g_array_index(record->entries, Entry, i).name, name)) {
            *ret_index = i;
            return TRUE;
        }
    }
    return FALSE;
}

/* ---- writing ---- */

gboolean placed_record_begin(PlacedRecord *record, gsize target_page, const PlacedBlock *blocks,
                             guint n, GError **error)
{
    Head head = { .target_page = (guint32)target_page, .n_blocks = n };
    guint64 at = sizeof head + (guint64)n * sizeof(Entry);

    for (guint i = 0; i < n; i++) {
        Entry entry = {
            .address = blocks[i].address,
            .length = blocks[i].length,
            .page_size = blocks[i].page_size,
            .backing = blocks[i].backing,
            .bits = at,
        };

        g_strlcpy(entry.name, blocks[i].name, sizeof entry.name);
        at += bits_len(&entry, target_page);
        if (at > record->size) {
            g_array_set_size(record->entries, 0);
            return bad(error, _("it is too small"));
        }
        memcpy(record->bytes + sizeof head + i * sizeof entry, &entry, sizeof entry);
        g_array_append_val(record->entries, entry);
    }
    record->target_page = target_page;
    /* It is one from here on. */
    memcpy(head.magic, MAGIC, sizeof head.magic);
    memcpy(record->bytes, &head, sizeof head);
    return TRUE;
}

gboolean placed_record_has(const PlacedRecord *record, guint index, guint64 page)
{
    const Entry *entry = &g_array_index(record->entries, Entry, index);

    return page < entry->length / record->target_page &&
           (record->bytes[entry->bits + page / 8] >> (page % 8) & 1) != 0;
}

void placed_record_mark(PlacedRecord *record, guint index, guint64 first, guint64 n)
{
    const Entry *entry = &g_array_index(record->entries, Entry, index);
    guint64 pages = entry->length / record->target_page;
    guint64 end = first < pages ? first + MIN(n, pages - first) : first;
    guint8 *bits = record->bytes + entry->bits;

    while (first < end) {
        if (first % 8 == 0 && end - first >= 8) {
            __atomic_store_n(&bits[first / 8], 0xff, __ATOMIC_RELAXED);
            first += 8;
        } else {
            __atomic_fetch_or(&bits[first / 8], (guint8)(1u << (first % 8)), __ATOMIC_RELAXED);
            first++;
        }
    }
}

void placed_record_merge(const PlacedRecord *record, guint index, guint64 first, guint8 *bytes,
                         gsize len)
{
    const Entry *entry = &g_array_index(record->entries, Entry, index);
    guint64 all = bits_len(entry, record->target_page);
    const guint8 *bits = record->bytes + entry->bits;

    for (gsize i = 0; i < len && first + i < all; i++)
        bytes[i] |= bits[first + i];
}
