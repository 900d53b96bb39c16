/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A record of placed pages that another helper has left: what is taken lies within its file, whatever it is used
 * for. */
#include "config.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ram/blocks.h"
#include "ram/placed_record.h"
#include "util/autofd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(PlacedRecord *record, guint index)
{
    guint8 bytes[64] = { 0 }, again[64] = { 0 };
    guint found;
    PlacedBlock block;
    guint64 pages;

    placed_record_get(record, index, &block);
    pages = block.length / placed_record_target_page(record);
    g_assert(pages > 0 && *block.name);
    g_assert(placed_record_find(record, block.name, &found) && found <= index);
    placed_record_merge(record, index, 0, bytes, sizeof bytes);
    placed_record_merge(record, index, pages / 8, again, sizeof again);
    placed_record_mark(record, index, pages - 1, 2);
    placed_record_mark(record, index, 0, pages);
    placed_record_mark(record, index, G_MAXUINT64, G_MAXUINT64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofd fd = memfd_create("record", MFD_CLOEXEC);
    g_autoptr(PlacedRecord) record = NULL;
    g_autoptr(GError) error = NULL;

    g_assert(fd >= 0);
    if (size > 0 && pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    record = placed_record_open(fd, &error);
    if (!record) {
        g_assert(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
        return 0;
    }
    for (guint i = 0; i < placed_record_count(record); i++)
        use(record, i);
    return 0;
}
