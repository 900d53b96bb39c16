/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which pages were placed in the destination QEMU's memory directly, in a file that outlives the helper: QEMU's
 * received bitmaps lack them, and in a recovery they have to be told of all the same.
 *
 *     head    16 bytes magic, u32 target page, u32 number of blocks
 *     blocks  each 304 bytes: name (256, ended by NUL), u64 address, length, host page, offset of the bits in the
 *             file, u32 backing (UffdBacking), 12 bytes 0
 *     bits    of each block, as on QEMU's wire: bit i of little-endian bytes, LSB first
 *
 * In the host's byte order: it never leaves the host, and ends with the QEMU whose memory it is about. A bit
 * is set when the page is there. The file has its size before it comes here, and its blocks on disk, so that
 * writing to it cannot fail. One thread. */
#pragma once

#include "ram/uffd/map.h"

#define PLACED_RECORD_HEAD 24
#define PLACED_RECORD_ENTRY 304

typedef struct PlacedRecord PlacedRecord;

/* Maps the file; fd stays the caller's. Checks all that it says of itself (RAM_ERROR_INVALID); a file of zeros is
 * a record of nothing. */
PlacedRecord *placed_record_open(int fd, GError **error);
void placed_record_free(PlacedRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PlacedRecord, placed_record_free)

/* No page was ever placed. */
gboolean placed_record_is_empty(const PlacedRecord *record);

typedef struct {
    const char *name;
    guint64 address;
    guint64 length;
    guint64 page_size;
    UffdBacking backing;
} PlacedBlock;

gsize placed_record_target_page(const PlacedRecord *record);
guint placed_record_count(const PlacedRecord *record);
void placed_record_get(const PlacedRecord *record, guint index, PlacedBlock *ret_block);
/* FALSE: there is none of that name. */
gboolean placed_record_find(const PlacedRecord *record, const char *name, guint *ret_index);

/* Of an empty one, once. FALSE (RAM_ERROR_INVALID): the file is too small for them. */
gboolean placed_record_begin(PlacedRecord *record, gsize target_page, const PlacedBlock *blocks,
                             guint n, GError **error);

/* The target page is marked. */
gboolean placed_record_has(const PlacedRecord *record, guint index, guint64 page);
/* Of that block: target pages. Those beyond its end are left out. Any thread. */
void placed_record_mark(PlacedRecord *record, guint index, guint64 first, guint64 n);
/* Sets what is set here in QEMU's wire form, the first byte of which is byte `first` of the whole bitmap. */
void placed_record_merge(const PlacedRecord *record, guint index, guint64 first, guint8 *bytes,
                         gsize len);
