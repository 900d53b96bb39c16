/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tries it: a page of each kind is made to be missing, and placed. */
#include "config.h"

#include "ram/uffd/support.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ram/uffd/uffd.h"
#include "util/autofd.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif
#define HUGE_SHIFT 26

#define PATTERN 0x5a

static guint64 thread_feature(guint64 features)
{
    return features & UFFD_FEATURE_THREAD_ID;
}

static gpointer map_anon(gsize size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static gpointer map_memfd(gsize size, guint flags)
{
    autofd fd = memfd_create("userfaultfd-check", MFD_CLOEXEC | flags);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return MAP_FAILED;
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* memory: of one page of that size, not touched yet. */
static gboolean can_place(int uffd, guint8 *memory, gsize size)
{
    g_autofree guint8 *data = g_malloc(size);
    guint64 address = (guintptr)memory;
    guint64 done;
    gboolean works;

    memset(data, PATTERN, size);
    works = uffd_register(uffd, address, size, NULL, NULL) &&
            uffd_copy(uffd, address, data, size, &done, NULL) == UFFD_PLACED &&
            memcmp(memory, data, size) == 0;
    uffd_unregister(uffd, address, size, NULL);
    return works;
}

static gboolean try_memory(int uffd, gpointer memory, gsize size)
{
    gboolean works;

    if (memory == MAP_FAILED)
        return FALSE;
    works = can_place(uffd, memory, size);
    munmap(memory, size);
    return works;
}

void uffd_support_look(guint64 huge_page, UffdSupport *ret_support)
{
    gsize page = (gsize)sysconf(_SC_PAGESIZE);
    autofd uffd = uffd_open(0, FALSE, &ret_support->features, NULL);

    *ret_support = (UffdSupport){ .features = uffd < 0 ? 0 : ret_support->features };
    if (uffd < 0) {
        uffd = uffd_open(0, TRUE, &ret_support->features, NULL);
        ret_support->user_mode_only = uffd >= 0;
    }
    if (uffd < 0)
        return;
    ret_support->thread_ids = thread_feature(ret_support->features) != 0;
    ret_support->works[UFFD_ANON] = try_memory(uffd, map_anon(page), page);
    ret_support->works[UFFD_SHMEM] = try_memory(uffd, map_memfd(page, 0), page);
    if (huge_page)
        ret_support->works[UFFD_HUGETLB] =
            try_memory(uffd,
                       map_memfd(huge_page, MFD_HUGETLB | (guint)g_bit_nth_lsf(huge_page, -1)
                                                              << HUGE_SHIFT),
                       huge_page);
}
