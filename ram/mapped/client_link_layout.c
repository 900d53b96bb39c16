/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The hand-over: regions, then the rest, then it is judged. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <sys/stat.h>

#include "ram/mapped/client_link_priv.h"
#include "ram/mapped/layout_check.h"

void client_link_take_params(const HandoverParams *from, MemoryParams *ret_params)
{
    *ret_params = (MemoryParams){
        .max_bandwidth = from->max_bandwidth,
        .max_postcopy_bandwidth = from->max_postcopy_bandwidth,
        .downtime_limit_ms = from->downtime_limit_ms,
        .postcopy = from->postcopy,
        .pause_before_switchover = from->pause_before_switchover,
        .auto_converge = from->auto_converge,
        .throttle_initial = from->throttle_initial,
        .throttle_increment = from->throttle_increment,
        .throttle_max = from->throttle_max,
        .release_ram = from->release_ram,
        .xbzrle_cache = from->xbzrle_cache,
        .checkpoints = from->checkpoints,
        .checkpoint_interval_ms = from->checkpoint_interval_ms,
    };
}

/* The descriptor of a region before it that lies in the same memfd, or -1. */
static int find_file(const ClientLink *link, const RegionFile *file)
{
    for (guint i = 0; i < link->files->len; i++) {
        const RegionFile *f = &g_array_index(link->files, RegionFile, i);

        if (f->device == file->device && f->inode == file->inode && f->mode == file->mode)
            return f->fd;
    }
    return -1;
}

/* Many regions may lie in one memfd, whether it came along with each or once: one descriptor of
 * it is kept. What else it has to be is judged once all is there. */
static gboolean take_fd(ClientLink *link, int fd, MemoryRegion *region, GError **error)
{
    RegionFile file = { .mode = fcntl(fd, F_GETFL) & O_ACCMODE };
    struct stat st;

    if (fstat(fd, &st) == 0) {
        file.device = st.st_dev;
        file.inode = st.st_ino;
        region->fd = find_file(link, &file);
        region->borrows_fd = region->fd >= 0;
    }
    if (!region->borrows_fd)
        region->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (region->fd < 0) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("the descriptor of a region cannot be kept: %s"), g_strerror(errno));
        return FALSE;
    }
    file.fd = region->fd;
    if (!region->borrows_fd)
        g_array_append_val(link->files, file);
    return TRUE;
}

static gboolean take_region(ClientLink *link, const HandoverRegion *from, const int *fds,
                            GError **error)
{
    MemoryRegion region = {
        .length = from->length,
        .page_size = from->page_size,
        .flags = from->flags,
        .address = from->address,
        .fd = -1,
        .fd_offset = from->fd_offset,
    };

    if (from->fd > 0 && !take_fd(link, fds[from->fd - 1], &region, error))
        return FALSE;
    region.name = g_strndup(from->name.bytes, from->name.len);
    g_array_append_val(link->regions, region);
    return TRUE;
}

static gboolean take_regions(ClientLink *link, const int *fds, GError **error)
{
    if (link->regions->len + link->message->regions.n > MEMORY_REGIONS_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("there are more than %d regions"),
                    MEMORY_REGIONS_MAX);
        return FALSE;
    }
    for (guint i = 0; i < link->message->regions.n; i++)
        if (!take_region(link, &link->message->regions.regions[i], fds, error))
            return FALSE;
    return TRUE;
}

static MemoryLayout *make_layout(ClientLink *link, int *fds)
{
    guint n = link->regions->len, taken = 0;
    MemoryLayout *layout = memory_layout_new(n);
    int *const places[] = { &layout->mem_fd, &layout->pagemap_fd, &layout->dirty_fd,
                            &layout->received_fd, &layout->uffd };

    for (guint i = 0; i < n; i++)
        layout->regions[i] = g_array_index(link->regions, MemoryRegion, i);
    g_clear_pointer(&link->regions, g_array_unref);
    layout->target_page = link->message->memory.target_page;
    layout->recovers = link->message->memory.recovers;
    layout->log = (MemoryLog)link->message->memory.log;
    client_link_take_params(&link->message->memory.params, &layout->params);
    for (guint i = 0; i < G_N_ELEMENTS(places); i++)
        if (link->message->memory.fds & (1u << i))
            *places[i] = autofd_steal(&fds[taken++]);
    return layout;
}

gboolean client_link_hand_over(ClientLink *link, int *fds, GError **error)
{
    const HandoverMessage *m = link->message;
    g_autoptr(MemoryLayout) layout = NULL;

    if (m->type == HANDOVER_REGIONS)
        return take_regions(link, fds, error);
    if (m->type != HANDOVER_MEMORY) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_STATE, _("%s before its memory is handed over"),
                    handover_type_name(m->type));
        return FALSE;
    }
    if (m->memory.n_regions != link->regions->len) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("%u regions came, and MEMORY says %u"),
                    link->regions->len, m->memory.n_regions);
        return FALSE;
    }
    layout = make_layout(link, fds);
    if (!layout_check(layout, link->source, error)) {
        /* Not the same hand-over again. */
        link->regions = g_array_new(FALSE, TRUE, sizeof(MemoryRegion));
        return FALSE;
    }
    link->layout = g_steal_pointer(&layout);
    return TRUE;
}
