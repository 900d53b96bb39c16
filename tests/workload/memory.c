/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/workload/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/workload/contents.h"

/* Headers of Debian 12's C library do not have it. */
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#define HUGE_PAGE (2 * 1024 * 1024)
#define MIB (1024 * 1024)
#define REGION_MAX_MIB (64 * 1024)

static void region_free(gpointer data)
{
    Region *region = data;

    if (region->address)
        munmap(region->address, region->length);
    if (region->fd >= 0)
        close(region->fd);
    g_free(region->name);
    g_free(region);
}

Memory *memory_new(void)
{
    Memory *memory = g_new0(Memory, 1);

    memory->regions = g_ptr_array_new_with_free_func(region_free);
    return memory;
}

void memory_free(Memory *memory)
{
    if (!memory)
        return;
    g_ptr_array_unref(memory->regions);
    g_free(memory);
}

/* ---- regions ---- */

static gboolean fail(const char *name, const char *what, GError **error)
{
    int code = errno;

    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(code), "region %s: %s: %s", name,
                what, g_strerror(code));
    return FALSE;
}

static gboolean make_file(Region *region, GError **error)
{
    guint flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

    if (region->kind == MEMORY_HUGE)
        flags |= MFD_HUGETLB | MFD_HUGE_2MB;
    region->fd = memfd_create(region->name, flags);
    if (region->fd < 0)
        return fail(region->name, "memfd_create", error);
    if (ftruncate(region->fd, (off_t)region->length) < 0)
        return fail(region->name, "ftruncate", error);
    if (fcntl(region->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
        return fail(region->name, "F_ADD_SEALS", error);
    return TRUE;
}

static gboolean map_region(Region *region, GError **error)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *at;

    if (region->kind != MEMORY_ANON && !make_file(region, error))
        return FALSE;
    if (region->fd >= 0)
        flags = MAP_SHARED;
    at = mmap(NULL, region->length, PROT_READ | PROT_WRITE, flags, region->fd, 0);
    if (at == MAP_FAILED)
        return fail(region->name, "mmap", error);
    region->address = at;
    return TRUE;
}

static gboolean kind_of(const char *word, MemoryKind *ret_kind)
{
    static const char *const words[] = { "anon", "shmem", "huge" };

    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            *ret_kind = (MemoryKind)i;
            return TRUE;
        }
    }
    return FALSE;
}

gboolean memory_add(Memory *memory, const char *spec, char **ret_flags, GError **error)
{
    g_auto(GStrv) words = g_strsplit(spec, ":", 4);
    Region *region = g_new0(Region, 1);
    guint n = g_strv_length(words);
    guint64 mib = 0;

    region->fd = -1;
    g_ptr_array_add(memory->regions, region);
    if (n < 3 || !kind_of(words[1], &region->kind) ||
        !g_ascii_string_to_unsigned(words[2], 10, 1, REGION_MAX_MIB, &mib, NULL)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "region %s: say NAME:anon|shmem|huge:MIB", spec);
        return FALSE;
    }
    region->name = g_strdup(words[0]);
    region->length = mib * MIB;
    region->page_size = region->kind == MEMORY_HUGE ? HUGE_PAGE : CONTENTS_PAGE;
    region->first_page = memory->pages;
    if (!map_region(region, error))
        return FALSE;
    memory->pages += region->length / CONTENTS_PAGE;
    if (ret_flags)
        *ret_flags = g_strdup(n > 3 ? words[3] : "");
    return TRUE;
}

const Region *memory_region(const Memory *memory, guint index)
{
    return index < memory->regions->len ? memory->regions->pdata[index] : NULL;
}

/* ---- pages ---- */

static const Region *region_of(const Memory *memory, guint64 page)
{
    guint i = memory->regions->len - 1;

    while (memory_region(memory, i)->first_page > page)
        i--;
    return memory_region(memory, i);
}

guint8 *memory_page(const Memory *memory, guint64 page)
{
    const Region *region = region_of(memory, page);

    return region->address + (page - region->first_page) * CONTENTS_PAGE;
}

guint64 memory_host_page(const Memory *memory, guint64 page, guint64 *ret_n)
{
    const Region *region = region_of(memory, page);

    *ret_n = region->page_size / CONTENTS_PAGE;
    return page - (page - region->first_page) % *ret_n;
}
