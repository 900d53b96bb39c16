/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A set of pages of one block, with its count. Pure; one thread. */
#pragma once

#include <glib.h>

typedef struct Bitmap Bitmap;

/* All clear. Takes 1 bit for each page. */
Bitmap *bitmap_new(guint64 pages);
void bitmap_free(Bitmap *bitmap);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Bitmap, bitmap_free)

guint64 bitmap_pages(const Bitmap *bitmap);
guint64 bitmap_count(const Bitmap *bitmap); /* of pages that are set; exact */
/* A page beyond the end is not set. */
gboolean bitmap_get(const Bitmap *bitmap, guint64 page);
/* TRUE if that changed it. page must be within. */
gboolean bitmap_set(Bitmap *bitmap, guint64 page);
gboolean bitmap_clear(Bitmap *bitmap, guint64 page);
void bitmap_set_range(Bitmap *bitmap, guint64 first, guint64 n);
void bitmap_clear_range(Bitmap *bitmap, guint64 first, guint64 n);
/* How many of [first, first + n) are set. */
guint64 bitmap_count_range(const Bitmap *bitmap, guint64 first, guint64 n);
/* The first page >= from that is set, or bitmap_pages(). */
guint64 bitmap_next(const Bitmap *bitmap, guint64 from);
/* The first page >= from that is clear, or bitmap_pages(). */
guint64 bitmap_next_clear(const Bitmap *bitmap, guint64 from);
/* What was set is clear, and the other way round. */
void bitmap_invert(Bitmap *bitmap);
/* Makes it larger; the new pages are clear. */
void bitmap_grow(Bitmap *bitmap, guint64 pages);
/* Sets pages from QEMU's wire form (bit i of little-endian bytes, LSB first), the first of which is
 * page `first` (a multiple of 8). Bits beyond the end are ignored. */
void bitmap_merge_wire(Bitmap *bitmap, guint64 first, const guint8 *bytes, gsize len);
