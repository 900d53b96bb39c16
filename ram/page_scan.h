/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which host page goes next of those whose bits are set: from where it left off, round through all
 * blocks; and near where the guest waited last, for a while, as it will most likely want more
 * there.
 *
 * It reads the bitmaps (one bit for each target page) and changes nothing in them: what was found
 * is found again until the caller clears it. Pure; one thread. */
#pragma once

#include "ram/bitmap.h"

typedef struct {
    guint block;
    guint64 page; /* the first target page of the host page */
    guint64 n;    /* target pages in it; fewer at the end of a block */
} ScanPage;

typedef struct PageScan PageScan;

PageScan *page_scan_new(void);
void page_scan_free(PageScan *scan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageScan, page_scan_free)

/* pages is the caller's and must outlive the scan or its page_scan_remove(). per_host: target pages
 * in a host page, a power of two. A block that is there already is replaced. */
void page_scan_add(PageScan *scan, guint block, const Bitmap *pages, guint64 per_host);
void page_scan_remove(PageScan *scan, guint block);
gboolean page_scan_has(const PageScan *scan, guint block);
/* Of all blocks: target pages that are set. */
guint64 page_scan_count(const PageScan *scan);

/* The scan as a whole goes on from here. */
void page_scan_go_to(PageScan *scan, guint block, guint64 page);
/* Somebody waits for this page: page_scan_next_near() goes on from it, over steps target pages at
 * most. */
void page_scan_set_near(PageScan *scan, guint block, guint64 page, guint64 steps);

/* FALSE: none, or none near. */
gboolean page_scan_next(PageScan *scan, ScanPage *ret_page);
gboolean page_scan_next_near(PageScan *scan, ScanPage *ret_page);
