/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asked for pages that are written and for nothing else, the kernel counts those as written that
 * are not in the page table any more (what was swapped out of a memfd, for instance): whatever
 * it cannot vouch for is sent again. */
#include "config.h"

#include "ram/mapped/pagemap_log.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gi18n.h>

#include "ram/mapped/pagemap_scan.h"

#define REGIONS_MAX 512 /* of one call */

typedef struct {
    DirtyLog log;
    const MemoryLayout *layout;
} PagemapLog;

static gboolean failed(GError **error, const MemoryRegion *region)
{
    int code = errno;

    if (code == EPERM)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                    _("memory region \"%s\": it is not registered for write protection in async "
                      "mode (UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_WP_ASYNC)"),
                    region->name);
    else
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(code),
                    _("memory region \"%s\": PAGEMAP_SCAN: %s"), region->name, g_strerror(code));
    return FALSE;
}

typedef struct {
    const PagemapLog *log;
    guint block;
    guint64 flags;
    DirtyLogNote note;
    gpointer data;
} Scan;

static void note_regions(const Scan *scan, const struct page_region *found, guint n)
{
    const MemoryRegion *region = &scan->log->layout->regions[scan->block];
    guint64 target = scan->log->layout->target_page;

    for (guint i = 0; i < n; i++) {
        guint64 begin = (found[i].start - region->address) / target;
        guint64 end = (found[i].end - region->address + target - 1) / target;

        scan->note(scan->block, begin, end - begin, scan->data);
    }
}

static gboolean scan_range(const Scan *scan, guint64 start, guint64 end, GError **error)
{
    const MemoryRegion *region = &scan->log->layout->regions[scan->block];
    struct page_region found[REGIONS_MAX];
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .flags = scan->flags,
        .start = start,
        .end = end,
        .vec = (guint64)(guintptr)found,
        .vec_len = G_N_ELEMENTS(found),
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };

    while (arg.start < end) {
        int n = ioctl(scan->log->layout->pagemap_fd, PAGEMAP_SCAN, &arg);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(error, region);
        note_regions(scan, found, (guint)n);
        if (arg.walk_end <= arg.start) {
            errno = EIO;
            return failed(error, region);
        }
        arg.start = arg.walk_end;
    }
    return TRUE;
}

static gboolean pagemap_collect(DirtyLog *log, guint block, DirtyLogNote note, gpointer data,
                                GError **error)
{
    PagemapLog *self = (PagemapLog *)log;
    const MemoryRegion *region = &self->layout->regions[block];
    Scan scan = { self, block, PM_SCAN_CHECK_WPASYNC, note, data };

    return scan_range(&scan, region->address, region->address + region->length, error);
}

static gboolean scan_pages(const Scan *scan, guint64 first, guint64 n, GError **error)
{
    guint64 target = scan->log->layout->target_page;
    guint64 start = scan->log->layout->regions[scan->block].address + first * target;

    return scan_range(scan, start, start + n * target, error);
}

/* What was written is noted and protected in one step: nothing falls in between. */
static gboolean pagemap_clear(DirtyLog *log, guint block, guint64 first, guint64 n,
                              DirtyLogNote note, gpointer data, GError **error)
{
    Scan scan = { (PagemapLog *)log, block, PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC, note,
                  data };

    return scan_pages(&scan, first, n, error);
}

static gboolean pagemap_look(DirtyLog *log, guint block, guint64 first, guint64 n,
                             DirtyLogNote note, gpointer data, GError **error)
{
    Scan scan = { (PagemapLog *)log, block, PM_SCAN_CHECK_WPASYNC, note, data };

    return scan_pages(&scan, first, n, error);
}

static void pagemap_free(DirtyLog *log)
{
    g_free(log);
}

static const DirtyLogOps pagemap_ops = {
    .collect = pagemap_collect,
    .clear = pagemap_clear,
    .look = pagemap_look,
    .free = pagemap_free,
};

static void note_nothing(guint block, guint64 first, guint64 n, gpointer data)
{
}

/* A page of each region is looked at, so that what the kernel lacks is known before anything has
 * begun. The client registers its memory only when it is asked to log (MemoryClientOps.advise). */
static gboolean probe(PagemapLog *self, GError **error)
{
    for (guint i = 0; i < self->layout->n_regions; i++) {
        const MemoryRegion *region = &self->layout->regions[i];
        Scan scan = { self, i, 0, note_nothing, NULL };

        if (!(region->flags & MEMORY_IGNORED) &&
            !scan_range(&scan, region->address, region->address + region->page_size, error))
            return FALSE;
    }
    return TRUE;
}

DirtyLog *pagemap_log_new(const MemoryLayout *layout, GError **error)
{
    PagemapLog *self = g_new0(PagemapLog, 1);

    self->log.ops = &pagemap_ops;
    self->layout = layout;
    if (probe(self, error))
        return &self->log;
    g_free(self);
    return NULL;
}
