/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/placed_look.h"

#include <unistd.h>

/* An entry for each page of the kernel's: in memory, or swapped out. */
#define ENTRY_THERE (G_GUINT64_CONSTANT(3) << 62)
#define ENTRIES 8192

typedef struct {
    int fd;
    guint64 page;    /* the kernel's */
    guint64 address; /* of entries[0] */
    guint64 n;
    guint64 entries[ENTRIES];
} Window;

/* FALSE: the kernel does not tell. Of huge pages one entry is enough, so no more are read. */
static gboolean is_there(Window *w, guint64 address, guint64 step)
{
    guint64 index = (address - w->address) / w->page;
    ssize_t got;

    if (address < w->address || index >= w->n) {
        gsize want = step > w->page ? sizeof w->entries[0] : sizeof w->entries;

        got = pread(w->fd, w->entries, want, (off_t)(address / w->page * sizeof w->entries[0]));
        w->address = address;
        w->n = got > 0 ? (guint64)got / sizeof w->entries[0] : 0;
        index = 0;
    }
    return index < w->n && (w->entries[index] & ENTRY_THERE) != 0;
}

static guint64 look_at_block(PlacedRecord *record, guint index, Window *w)
{
    gsize target = placed_record_target_page(record);
    guint64 found = 0;
    PlacedBlock block;

    placed_record_get(record, index, &block);
    for (guint64 at = 0; at < block.length; at += block.page_size) {
        if (!placed_record_has(record, index, at / target) &&
            is_there(w, block.address + at, block.page_size)) {
            placed_record_mark(record, index, at / target, block.page_size / target);
            found += block.page_size / target;
        }
    }
    return found;
}

guint64 placed_look(PlacedRecord *record, int pagemap)
{
    g_autofree Window *w = g_new0(Window, 1);
    guint64 found = 0;

    w->fd = pagemap;
    w->page = (guint64)sysconf(_SC_PAGESIZE);
    for (guint i = 0; i < placed_record_count(record); i++)
        found += look_at_block(record, i, w);
    return found;
}
