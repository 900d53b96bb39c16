/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/layout_check.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static gboolean refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean refuse(GError **error, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, RAM_ERROR, RAM_ERROR_INVALID, text);
    return FALSE;
}

/* ---- numbers ---- */

static gboolean check_numbers(const MemoryRegion *r, gsize target_page, GError **error)
{
    if (r->page_size < target_page || r->page_size > RAM_HOST_PAGE_MAX ||
        (r->page_size & (r->page_size - 1)) != 0)
        return refuse(error, _("region %s: a page size of %" PRIu64 " bytes cannot be"),
                      r->name, r->page_size);
    if (r->length == 0 || r->length % r->page_size != 0)
        return refuse(error,
                      _("region %s: its length of %" PRIu64 " bytes is no multiple of its page "
                        "size of %" PRIu64), r->name, r->length, r->page_size);
    if (r->address % r->page_size != 0 || r->fd_offset % r->page_size != 0)
        return refuse(error,
                      _("region %s: address 0x%" PRIx64 " or offset 0x%" PRIx64 " is no multiple "
                        "of its page size"),
                      r->name, r->address, r->fd_offset);
    if (r->length > G_MAXINT64 || r->address > G_MAXINT64 - r->length ||
        r->fd_offset > G_MAXINT64 - r->length)
        return refuse(error, _("region %s: goes beyond the end of addresses"), r->name);
    if (r->flags & ~(guint32)MEMORY_FLAGS_ALL)
        return refuse(error, _("region %s: there are no flags 0x%x"), r->name, r->flags);
    return TRUE;
}

static gint by_address(gconstpointer a, gconstpointer b)
{
    const MemoryRegion *x = *(MemoryRegion *const *)a, *y = *(MemoryRegion *const *)b;

    return x->address < y->address ? -1 : x->address > y->address;
}

static gboolean check_apart(const MemoryLayout *layout, GError **error)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    const MemoryRegion *r, *before = NULL;

    for (guint i = 0; i < layout->n_regions; i++) {
        if (!g_hash_table_add(names, layout->regions[i].name))
            return refuse(error, _("there are two regions called %s"), layout->regions[i].name);
        g_ptr_array_add(sorted, &layout->regions[i]);
    }
    g_ptr_array_sort(sorted, by_address);
    for (guint i = 0; i < sorted->len; i++, before = r) {
        r = g_ptr_array_index(sorted, i);
        if (before && before->address + before->length > r->address)
            return refuse(error, _("regions %s and %s overlap in the client's addresses"),
                          before->name, r->name);
    }
    return TRUE;
}

/* ---- descriptors ---- */

static gboolean check_access(int fd, const char *what, gboolean writes, GError **error)
{
    int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

    if (mode == O_RDWR || (!writes && mode == O_RDONLY))
        return TRUE;
    if (writes)
        return refuse(error, _("%s: its descriptor is not open for reading and writing"), what);
    return refuse(error, _("%s: its descriptor is not open for reading"), what);
}

/* fd is a memfd of at least `bytes` that keeps them. */
static gboolean check_memfd(int fd, const char *what, guint64 bytes, gboolean writes,
                            GError **error)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return refuse(error, _("%s: its descriptor is no memfd"), what);
    if (!(seals & F_SEAL_SHRINK))
        return refuse(error,
                      _("%s: its memfd is not sealed against shrinking; the client must set "
                        "F_SEAL_SHRINK"), what);
    if (writes && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return refuse(error, _("%s: its memfd is sealed against writing"), what);
    if ((guint64)st.st_size < bytes)
        return refuse(error,
                      _("%s: its memfd has %" PRId64 " bytes, and %" PRIu64 " are needed"), what,
                      (gint64)st.st_size, bytes);
    return check_access(fd, what, writes, error);
}

static gboolean check_region_fd(const MemoryRegion *r, gboolean source, GError **error)
{
    g_autofree char *what = g_strdup_printf(_("region %s"), r->name);
    struct statfs fs;
    guint64 page = 0;

    if (!check_memfd(r->fd, what, r->fd_offset + r->length, !source, error))
        return FALSE;
    /* Only its file system tells: a memfd that may have transparent huge pages looks large in
     * fstat(). */
    if (fstatfs(r->fd, &fs) == 0)
        page = fs.f_type == HUGETLBFS_MAGIC ? (guint64)fs.f_bsize : 4096;
    if (page == 0 || r->page_size % page != 0)
        return refuse(error,
                      _("%s: its memfd has pages of %" PRIu64 " bytes, not of %" PRIu64), what,
                      page, r->page_size);
    return TRUE;
}

static gboolean check_proc(int fd, const char *what, gboolean writes, GError **error)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
        return refuse(error, _("%s: its descriptor is no file of /proc"), what);
    return check_access(fd, what, writes, error);
}

gboolean layout_check_uffd(int fd, guint64 address, GError **error)
{
    struct uffdio_range range = { .start = address, .len = 4096 };
    int flags = fcntl(fd, F_GETFL);

    /* Only a userfaultfd knows how to wake, and only one that has shaken hands does. Nobody
     * minds. */
    if (ioctl(fd, UFFDIO_WAKE, &range) < 0)
        return refuse(error, _("the descriptor is no userfaultfd that is ready (%s)"),
                      g_strerror(errno));
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return refuse(error, _("the userfaultfd cannot be made not to block: %s"),
                      g_strerror(errno));
    return TRUE;
}

static gboolean check_regions(const MemoryLayout *layout, gboolean source, GError **error)
{
    for (guint i = 0; i < layout->n_regions; i++) {
        const MemoryRegion *r = &layout->regions[i];

        if (!check_numbers(r, layout->target_page, error))
            return FALSE;
        if (r->flags & MEMORY_IGNORED)
            continue;
        if (r->fd >= 0 && !check_region_fd(r, source, error))
            return FALSE;
        if (r->fd < 0 && layout->mem_fd < 0)
            return refuse(error,
                          _("region %s has no memfd, and the client has not given its "
                            "/proc/self/mem"),
                          r->name);
    }
    return check_apart(layout, error);
}

static gboolean check_log(const MemoryLayout *layout, gboolean source, GError **error)
{
    gboolean needed = (source || layout->params.checkpoints) && !layout->recovers;

    if (layout->params.checkpoints && layout->recovers)
        return refuse(error, _("where checkpoints are made nothing is recovered: it begins anew"));
    if (needed != (layout->log != MEMORY_LOG_NONE))
        return refuse(error, "%s",
                      !needed  ? _("only a source that is not recovering has a dirty log")
                      : source ? _("a source needs a dirty log")
                               : _("a destination that takes checkpoints needs a dirty log"));
    if (layout->log == MEMORY_LOG_PAGEMAP && layout->pagemap_fd < 0)
        return refuse(error, _("the client has not given its /proc/self/pagemap"));
    if (layout->log == MEMORY_LOG_CLIENT && layout->dirty_fd < 0)
        return refuse(error, _("the client has not given its dirty bitmap"));
    return TRUE;
}

static gboolean check_descriptors(const MemoryLayout *layout, GError **error)
{
    gsize bytes = memory_layout_bitmaps_bytes(layout);

    if (layout->mem_fd >= 0 && !check_proc(layout->mem_fd, "/proc/self/mem", TRUE, error))
        return FALSE;
    if (layout->pagemap_fd >= 0 &&
        !check_proc(layout->pagemap_fd, "/proc/self/pagemap", FALSE, error))
        return FALSE;
    if (layout->dirty_fd >= 0 &&
        !check_memfd(layout->dirty_fd, _("dirty bitmap"), bytes, TRUE, error))
        return FALSE;
    if (layout->received_fd >= 0 &&
        !check_memfd(layout->received_fd, _("received bitmap"), bytes, TRUE, error))
        return FALSE;
    return layout->uffd < 0 ||
           layout_check_uffd(layout->uffd, layout->regions[0].address, error);
}

gboolean layout_check(const MemoryLayout *layout, gboolean source, GError **error)
{
    if (layout->n_regions == 0 || layout->n_regions > MEMORY_REGIONS_MAX)
        return refuse(error, _("%u regions cannot be moved"), layout->n_regions);
    if (layout->target_page != RAM_TARGET_PAGE_DEFAULT)
        return refuse(error, _("pages of %zu bytes: only 4096 are known here"),
                      layout->target_page);
    if (!source && layout->received_fd < 0)
        return refuse(error, _("a destination needs a received bitmap"));
    if (!source && layout->recovers != (layout->uffd >= 0))
        return refuse(error,
                      _("a destination hands over its userfaultfd when it recovers, only then"));
    return check_regions(layout, source, error) && check_log(layout, source, error) &&
           check_descriptors(layout, error);
}
