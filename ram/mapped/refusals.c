/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/refusals.h"

#include <glib/gi18n.h>

static gboolean is_aligned(const MemoryRegion *region)
{
    guint64 page = region->page_size;

    return page == 0 || (region->length % page == 0 && region->fd_offset % page == 0 &&
                         region->address % page == 0);
}

static const char *reason_for(const MemoryRegion *region, gboolean postcopy)
{
    if (region->flags & MEMORY_IGNORED)
        return NULL;
    if (!(region->flags & MEMORY_MIGRATABLE))
        return _("it is not migratable");
    if (!postcopy)
        return NULL;
    if (region->flags & MEMORY_PMEM)
        return _("it is persistent memory, which post-copy cannot take: migrate without post-copy");
    if (!is_aligned(region))
        return _("it does not begin and end with a host page, which post-copy needs");
    return NULL;
}

gboolean memory_refusals_check(const MemoryLayout *layout, gboolean postcopy, GError **error)
{
    for (guint i = 0; i < layout->n_regions; i++) {
        const char *reason = reason_for(&layout->regions[i], postcopy);

        if (!reason)
            continue;
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("memory region \"%s\": %s"),
                    layout->regions[i].name, reason);
        return FALSE;
    }
    return TRUE;
}
