/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a mapped source learns which pages its guest has written: the kernel
 * (ram/mapped/pagemap_log.h) or a log of the client's own (ram/mapped/client_log.h).
 *
 * A page that is written after it was cleared is noted by a later collect() or clear(), so
 * nothing is lost if a page is cleared before it is read. Noting a page twice, or one that was
 * not written, is no harm. Pages are target pages. One thread. */
#pragma once

#include <glib.h>

typedef struct DirtyLog DirtyLog;

/* n pages of a block from first on were written. */
typedef void (*DirtyLogNote)(guint block, guint64 first, guint64 n, gpointer data);

typedef struct {
    /* Notes what was written in the block. They need not be cleared by that. */
    gboolean (*collect)(DirtyLog *log, guint block, DirtyLogNote note, gpointer data,
                        GError **error);
    /* What is written to these pages from here on is noted again; what was before, and is not
     * noted yet, is noted now. NULL: collect() has cleared what it noted. */
    gboolean (*clear)(DirtyLog *log, guint block, guint64 first, guint64 n, DirtyLogNote note,
                      gpointer data, GError **error);
    /* Notes what of these pages was written, as collect() does, and leaves the log as it is. NULL
     * if clear is. */
    gboolean (*look)(DirtyLog *log, guint block, guint64 first, guint64 n, DirtyLogNote note,
                     gpointer data, GError **error);
    void (*free)(DirtyLog *log);
} DirtyLogOps;

struct DirtyLog {
    const DirtyLogOps *ops;
    gboolean asks_client; /* MemoryClientOps.log_sync comes before each round of collect() */
};

static inline void dirty_log_free(DirtyLog *log)
{
    if (log)
        log->ops->free(log);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DirtyLog, dirty_log_free)
