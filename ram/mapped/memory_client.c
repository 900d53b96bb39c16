/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/memory_client.h"

#include "util/autofd.h"

static const char *const event_names[] = {
    [MEMORY_EV_ADVISED] = "advised",
    [MEMORY_EV_PAUSED] = "paused",
    [MEMORY_EV_DEVICE] = "device",
    [MEMORY_EV_SYNCED] = "synced",
    [MEMORY_EV_GIVEN_UP] = "given-up",
    [MEMORY_EV_LISTENING] = "listening",
    [MEMORY_EV_DISCARDED] = "discarded",
    [MEMORY_EV_RUNNING] = "running",
    [MEMORY_EV_FAILED] = "failed",
    [MEMORY_EV_FREE_HINTS] = "free-hints",
    [MEMORY_EV_START_POSTCOPY] = "start-postcopy",
    [MEMORY_EV_CONTINUE] = "continue",
    [MEMORY_EV_CANCEL] = "cancel",
    [MEMORY_EV_PARAMS] = "params",
    [MEMORY_EV_SHARED] = "shared",
    [MEMORY_EV_UNSHARED] = "unshared",
    [MEMORY_EV_CHECKPOINT] = "checkpoint",
    [MEMORY_EV_FAILOVER] = "failover",
    [MEMORY_EV_VCPUS] = "vcpus",
    [MEMORY_EV_GONE] = "gone",
};
G_STATIC_ASSERT(G_N_ELEMENTS(event_names) == MEMORY_EVENT_MAX);

const char *memory_event_name(MemoryEventType type)
{
    return (guint)type < MEMORY_EVENT_MAX ? event_names[type] : "?";
}

MemoryLayout *memory_layout_new(guint n_regions)
{
    MemoryLayout *layout = g_new0(MemoryLayout, 1);

    layout->regions = g_new0(MemoryRegion, n_regions);
    layout->n_regions = n_regions;
    for (guint i = 0; i < n_regions; i++)
        layout->regions[i].fd = -1;
    layout->target_page = RAM_TARGET_PAGE_DEFAULT;
    layout->mem_fd = layout->pagemap_fd = layout->dirty_fd = -1;
    layout->received_fd = layout->uffd = -1;
    return layout;
}

void memory_layout_free(MemoryLayout *layout)
{
    if (!layout)
        return;
    for (guint i = 0; i < layout->n_regions; i++) {
        g_free(layout->regions[i].name);
        if (!layout->regions[i].borrows_fd)
            autofd_clear(&layout->regions[i].fd);
    }
    g_free(layout->regions);
    autofd_clear(&layout->mem_fd);
    autofd_clear(&layout->pagemap_fd);
    autofd_clear(&layout->dirty_fd);
    autofd_clear(&layout->received_fd);
    autofd_clear(&layout->uffd);
    g_free(layout);
}

static gsize bitmap_bytes(const MemoryLayout *layout, guint block)
{
    guint64 pages = layout->regions[block].length / layout->target_page;

    return (pages + 63) / 64 * 8;
}

gsize memory_layout_bitmap_offset(const MemoryLayout *layout, guint block)
{
    gsize offset = 0;

    for (guint i = 0; i < block; i++)
        offset += bitmap_bytes(layout, i);
    return offset;
}

gsize memory_layout_bitmaps_bytes(const MemoryLayout *layout)
{
    return memory_layout_bitmap_offset(layout, layout->n_regions);
}
