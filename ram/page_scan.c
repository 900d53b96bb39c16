/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/page_scan.h"

typedef struct {
    const Bitmap *pages; /* NULL: no such block */
    guint64 per_host;
} ScanBlock;

struct PageScan {
    GArray *blocks; /* of ScanBlock, by block */
    guint block;    /* where it left off */
    guint64 page;
    guint near_block;
    guint64 near_page;
    guint64 near_end; /* not from here on; near_page if there is nothing near */
};

PageScan *page_scan_new(void)
{
    PageScan *scan = g_new0(PageScan, 1);

    scan->blocks = g_array_new(FALSE, TRUE, sizeof(ScanBlock));
    return scan;
}

void page_scan_free(PageScan *scan)
{
    if (!scan)
        return;
    g_array_unref(scan->blocks);
    g_free(scan);
}

/* ---- blocks ---- */

static ScanBlock *get_block(const PageScan *scan, guint block)
{
    return block < scan->blocks->len ? &g_array_index(scan->blocks, ScanBlock, block) : NULL;
}

void page_scan_add(PageScan *scan, guint block, const Bitmap *pages, guint64 per_host)
{
    g_return_if_fail(per_host > 0 && (per_host & (per_host - 1)) == 0);
    if (block >= scan->blocks->len)
        g_array_set_size(scan->blocks, block + 1);
    *get_block(scan, block) = (ScanBlock){ pages, per_host };
}

void page_scan_remove(PageScan *scan, guint block)
{
    if (block < scan->blocks->len)
        *get_block(scan, block) = (ScanBlock){ NULL, 0 };
}

gboolean page_scan_has(const PageScan *scan, guint block)
{
    const ScanBlock *b = get_block(scan, block);

    return b && b->pages;
}

guint64 page_scan_count(const PageScan *scan)
{
    guint64 count = 0;

    for (guint i = 0; i < scan->blocks->len; i++) {
        if (page_scan_has(scan, i))
            count += bitmap_count(get_block(scan, i)->pages);
    }
    return count;
}

/* ---- searching ---- */

void page_scan_go_to(PageScan *scan, guint block, guint64 page)
{
    scan->block = block;
    scan->page = page;
}

void page_scan_set_near(PageScan *scan, guint block, guint64 page, guint64 steps)
{
    scan->near_block = block;
    scan->near_page = page;
    scan->near_end = steps > G_MAXUINT64 - page ? G_MAXUINT64 : page + steps;
}

/* The host page with the first bit from page `from` on. */
static gboolean find_in(const PageScan *scan, guint block, guint64 from, ScanPage *ret)
{
    const ScanBlock *b = get_block(scan, block);
    guint64 pages, found;

    if (!page_scan_has(scan, block))
        return FALSE;
    pages = bitmap_pages(b->pages);
    found = bitmap_next(b->pages, from);
    if (found >= pages)
        return FALSE;
    found -= found % b->per_host;
    *ret = (ScanPage){ block, found, MIN(b->per_host, pages - found) };
    return TRUE;
}

gboolean page_scan_next(PageScan *scan, ScanPage *ret_page)
{
    guint n = scan->blocks->len;
    guint first = scan->block < n ? scan->block : 0;
    guint64 from = scan->block < n ? scan->page : 0;

    /* The first block a second time: what lies before the place where it was left. */
    for (guint i = 0; n > 0 && i <= n; i++, from = 0) {
        guint block = (first + i) % n;

        if (find_in(scan, block, from, ret_page)) {
            page_scan_go_to(scan, block, ret_page->page);
            return TRUE;
        }
    }
    return FALSE;
}

gboolean page_scan_next_near(PageScan *scan, ScanPage *ret_page)
{
    if (scan->near_page >= scan->near_end)
        return FALSE;
    if (find_in(scan, scan->near_block, scan->near_page, ret_page) &&
        ret_page->page < scan->near_end) {
        scan->near_page = ret_page->page;
        return TRUE;
    }
    scan->near_page = scan->near_end;
    return FALSE;
}
