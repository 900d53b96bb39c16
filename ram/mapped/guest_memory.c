/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ram/mapped/pagemap_scan.h"

/* How far is looked at once: a millisecond at most. And how much of what is no hole: what is
 * read at once. */
#define HOLE_LOOK_MAX (64 * 1024 * 1024)
#define DATA_PAGES_MAX 16
#define FOUND_MAX 1024 /* of one scan */

struct GuestMemory {
    const MemoryLayout *layout;
    RamBlocks *blocks;
    guint8 **mapped; /* by block: of a file that takes no write(); NULL: not needed yet */
    guint8 *buf;     /* what was peeked at */
    guint64 data_start; /* addresses of private memory found last that was touched */
    guint64 data_end;
};

/* ---- making ---- */

static gboolean refuse(GError **error, const MemoryRegion *region, const char *what)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("memory region \"%s\": %s"), region->name,
                what);
    return FALSE;
}

/* Whoever could make the file shorter could make every use of it fail in the midst of a
 * migration. */
static gboolean check_file(const MemoryRegion *region, GError **error)
{
    int seals = fcntl(region->fd, F_GET_SEALS);
    struct stat st;

    if (seals < 0)
        return refuse(error, region, _("its descriptor is not a memfd"));
    if (!(seals & F_SEAL_SHRINK))
        return refuse(error, region,
                      _("its memfd is not sealed against shrinking (F_SEAL_SHRINK)"));
    if (fstat(region->fd, &st) < 0)
        return refuse(error, region, g_strerror(errno));
    if (region->fd_offset > (guint64)st.st_size ||
        region->length > (guint64)st.st_size - region->fd_offset)
        return refuse(error, region, _("its memfd is shorter than the region"));
    return TRUE;
}

static gboolean check_region(const MemoryLayout *layout, const MemoryRegion *region, GError **error)
{
    if (region->fd >= 0)
        return check_file(region, error);
    if (layout->mem_fd < 0 && !(region->flags & MEMORY_IGNORED))
        return refuse(error, region, _("it is private, and no /proc/self/mem came with it"));
    return TRUE;
}

static gboolean add_regions(GuestMemory *memory, GError **error)
{
    const MemoryLayout *layout = memory->layout;

    if (!ram_blocks_set_target_page(memory->blocks, layout->target_page, error))
        return FALSE;
    for (guint i = 0; i < layout->n_regions; i++) {
        const MemoryRegion *region = &layout->regions[i];
        guint index;

        if (region->length == 0)
            return refuse(error, region, _("it is empty"));
        if (!check_region(layout, region, error) ||
            !ram_blocks_add(memory->blocks, (const guint8 *)region->name, strlen(region->name),
                            region->length, region->page_size, &index, error))
            return FALSE;
        if (index != i)
            return refuse(error, region, _("there are two of that name"));
    }
    return TRUE;
}

GuestMemory *guest_memory_new(const MemoryLayout *layout, GError **error)
{
    g_autoptr(GuestMemory) memory = g_new0(GuestMemory, 1);

    memory->layout = layout;
    memory->blocks = ram_blocks_new();
    memory->mapped = g_new0(guint8 *, layout->n_regions);
    memory->buf = g_malloc(GUEST_MEMORY_PEEK_MAX);
    return add_regions(memory, error) ? g_steal_pointer(&memory) : NULL;
}

void guest_memory_free(GuestMemory *memory)
{
    if (!memory)
        return;
    for (guint i = 0; i < memory->layout->n_regions; i++) {
        if (memory->mapped[i])
            munmap(memory->mapped[i], memory->layout->regions[i].length);
    }
    g_free(memory->mapped);
    g_free(memory->buf);
    ram_blocks_free(memory->blocks);
    g_free(memory);
}

/* ---- asking ---- */

const RamBlocks *guest_memory_blocks(const GuestMemory *memory)
{
    return memory->blocks;
}

const MemoryRegion *guest_memory_region(const GuestMemory *memory, guint block)
{
    return &memory->layout->regions[block];
}

const MemoryLayout *guest_memory_layout(const GuestMemory *memory)
{
    return memory->layout;
}

gboolean guest_memory_find(const GuestMemory *memory, guint64 address, guint *ret_block,
                           guint64 *ret_offset)
{
    for (guint i = 0; i < memory->layout->n_regions; i++) {
        const MemoryRegion *region = &memory->layout->regions[i];

        if (address < region->address || address - region->address >= region->length)
            continue;
        *ret_block = i;
        *ret_offset = address - region->address;
        return TRUE;
    }
    return FALSE;
}

/* ---- reading and writing ---- */

/* Where it is: a descriptor and an offset in it. */
static int place_of(const GuestMemory *memory, guint block, guint64 offset, off_t *ret_at)
{
    const MemoryRegion *region = &memory->layout->regions[block];

    if (region->fd >= 0) {
        *ret_at = (off_t)(region->fd_offset + offset);
        return region->fd;
    }
    *ret_at = (off_t)(region->address + offset);
    return memory->layout->mem_fd;
}

/* done: what pread() or pwrite() gave, which was too little. */
static gboolean failed(const GuestMemory *memory, guint block, guint64 offset, ssize_t done,
                       const char *what, GError **error)
{
    int code = done < 0 ? errno : EIO;

    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(code),
                _("memory region \"%s\", offset %" PRIu64 ": %s: %s"),
                memory->layout->regions[block].name, offset, what,
                done < 0 ? g_strerror(code) : _("it ends there"));
    return FALSE;
}

gboolean guest_memory_peek(GuestMemory *memory, guint block, guint64 offset, gsize len,
                           const guint8 **ret_bytes, GError **error)
{
    off_t at;
    int fd = place_of(memory, block, offset, &at);
    gsize have = 0;

    g_return_val_if_fail(len <= GUEST_MEMORY_PEEK_MAX, FALSE);
    while (have < len) {
        ssize_t n = pread(fd, memory->buf + have, len - have, at + (off_t)have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return failed(memory, block, offset + have, n, _("cannot be read"), error);
        have += (gsize)n;
    }
    *ret_bytes = memory->buf;
    return TRUE;
}

/* How much of what was found last is left from there on: to take it for memory that was touched
 * when it is no more costs a read, nothing else. */
static guint64 private_data(const GuestMemory *memory, guint64 address)
{
    return address >= memory->data_start && address < memory->data_end
               ? memory->data_end - address : 0;
}

/* All of it is mapped, and registered for the log: where there is nothing at all no page is present, either, and
 * a guest whose memory has gone must not be taken for one that has not touched it. */
static gboolean is_registered(const GuestMemory *memory, guint64 address, guint64 length)
{
    struct page_region found = { 0 };
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .start = address,
        .end = address + length,
        .vec = (guint64)(guintptr)&found,
        .vec_len = 1,
        .category_mask = PAGE_IS_WPALLOWED,
        .return_mask = PAGE_IS_WPALLOWED,
    };

    return ioctl(memory->layout->pagemap_fd, PAGEMAP_SCAN, &arg) == 1 && found.start <= address &&
           found.end >= address + length;
}

/* Private anonymous memory: pages that are in no page table and were not swapped out, and those
 * that are the kernel's page of zeros. Being protected counts as swapped there, so that less is
 * found once the log has been cleared, never too much. */
static guint64 private_hole(GuestMemory *memory, const MemoryRegion *region, guint64 offset,
                            guint64 left)
{
    struct page_region data = { 0 };
    guint64 address = region->address + offset;
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .start = address,
        .end = address + MIN(left, (guint64)HOLE_LOOK_MAX),
        .vec = (guint64)(guintptr)&data,
        .vec_len = 1,
        .max_pages = DATA_PAGES_MAX,
        .category_inverted = PAGE_IS_PFNZERO,
        .category_mask = PAGE_IS_PFNZERO,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_PRESENT,
    };
    guint64 length;
    int n;

    if (memory->layout->pagemap_fd < 0 || private_data(memory, address) > 0)
        return 0;
    n = ioctl(memory->layout->pagemap_fd, PAGEMAP_SCAN, &arg);
    if (n < 0)
        return 0; /* then it is read */
    memory->data_start = data.start;
    memory->data_end = data.end;
    length = (n > 0 ? data.start : arg.walk_end) - address;
    return length > 0 && is_registered(memory, address, length) ? length : 0;
}

/* Untouched, as above, or the kernel's page of zeros. */
static gboolean is_zeros(const struct page_region *found)
{
    return (found->categories & PAGE_IS_PFNZERO) ||
           !(found->categories & (PAGE_IS_PRESENT | PAGE_IS_SWAPPED));
}

/* Pages of both kinds may lie side by side. */
static void add_zeros(MemoryRange *zeros, guint *n, guint64 start, guint64 length)
{
    if (*n > 0 && zeros[*n - 1].start + zeros[*n - 1].length == start)
        zeros[*n - 1].length += length;
    else
        zeros[(*n)++] = (MemoryRange){ start, length };
}

/* One scan tells what is registered for the log and what is in it: of the rest (it is gone, or not
 * what it was said to be) nothing is found. */
guint64 guest_memory_find_zeros(GuestMemory *memory, guint block, guint64 offset, guint64 length,
                                MemoryRange *ret_zeros, guint max, guint *ret_n)
{
    const MemoryRegion *region = &memory->layout->regions[block];
    struct page_region found[FOUND_MAX];
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .start = region->address + offset,
        .end = region->address + offset + length,
        .vec = (guint64)(guintptr)found,
        .vec_len = MIN(max, FOUND_MAX),
        .category_mask = PAGE_IS_WPALLOWED,
        .return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO,
    };
    int n;

    *ret_n = 0;
    if (region->fd >= 0 || memory->layout->pagemap_fd < 0)
        return 0;
    n = ioctl(memory->layout->pagemap_fd, PAGEMAP_SCAN, &arg);
    for (int i = 0; i < n; i++) {
        if (is_zeros(&found[i]))
            add_zeros(ret_zeros, ret_n, found[i].start - region->address,
                      found[i].end - found[i].start);
    }
    return n < 0 ? 0 : arg.walk_end - arg.start;
}

guint64 guest_memory_data(const GuestMemory *memory, guint block, guint64 offset)
{
    const MemoryRegion *region = &memory->layout->regions[block];
    guint64 length = region->fd < 0 ? private_data(memory, region->address + offset) : 0;

    return length > 0 ? MIN(length, region->length - offset) : region->length - offset;
}

guint64 guest_memory_hole(GuestMemory *memory, guint block, guint64 offset)
{
    const MemoryRegion *region = &memory->layout->regions[block];
    guint64 left = region->length - offset;
    off_t begin;
    off_t data;

    if (region->fd < 0)
        return private_hole(memory, region, offset, left);
    begin = (off_t)(region->fd_offset + offset);
    data = lseek(region->fd, begin, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? left : 0; /* a hole to the end; or it does not know */
    return MIN((guint64)(data - begin), left);
}

/* The files of huge pages take no write(). Mapping them reserves all their pages, so that
 * touching one does not fail for want of it. */
static gboolean write_mapped(GuestMemory *memory, guint block, guint64 offset, const guint8 *bytes,
                             gsize len, GError **error)
{
    const MemoryRegion *region = &memory->layout->regions[block];
    guint8 **mapped = &memory->mapped[block];

    if (!*mapped) {
        void *at = mmap(NULL, region->length, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd,
                        (off_t)region->fd_offset);

        if (at == MAP_FAILED)
            return failed(memory, block, offset, -1, _("cannot be mapped"), error);
        *mapped = at;
    }
    memcpy(*mapped + offset, bytes, len);
    return TRUE;
}

gboolean guest_memory_write(GuestMemory *memory, guint block, guint64 offset, const guint8 *bytes,
                            gsize len, GError **error)
{
    off_t at;
    int fd = place_of(memory, block, offset, &at);
    gsize done = 0;

    if (memory->mapped[block])
        return write_mapped(memory, block, offset, bytes, len, error);
    while (done < len) {
        ssize_t n = pwrite(fd, bytes + done, len - done, at + (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && memory->layout->regions[block].fd >= 0)
            return write_mapped(memory, block, offset, bytes, len, error);
        if (n <= 0)
            return failed(memory, block, offset + done, n, _("cannot be written"), error);
        done += (gsize)n;
    }
    return TRUE;
}

gboolean guest_memory_can_discard(const GuestMemory *memory, guint block)
{
    return memory->layout->regions[block].fd >= 0;
}

gboolean guest_memory_discard(GuestMemory *memory, guint block, guint64 start, guint64 length,
                              GError **error)
{
    off_t at;
    int fd = place_of(memory, block, start, &at);

    g_return_val_if_fail(guest_memory_can_discard(memory, block), FALSE);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)length) == 0)
        return TRUE;
    return failed(memory, block, start, -1, _("cannot be given back"), error);
}
