/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/mapped-memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/autofd.h"

#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

#define PAGE 4096
#define HUGE_PAGE (2 * 1024 * 1024)

/* ---- memory ---- */

static int make_memfd(gsize length, guint flags)
{
    int fd = memfd_create("ram", MFD_ALLOW_SEALING | MFD_CLOEXEC | flags);

    if (fd < 0)
        return -1;
    assert_int_equal(ftruncate(fd, (off_t)length), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    return fd;
}

/* FALSE: there are not enough huge pages. */
static gboolean map(MappedMemory *memory, int *ret_fd)
{
    int flags = memory->kind == MAPPED_PRIVATE ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *at;

    *ret_fd = -1;
    if (memory->kind != MAPPED_PRIVATE)
        *ret_fd = make_memfd(memory->length, memory->kind == MAPPED_HUGE ? MFD_HUGETLB : 0);
    if (memory->kind != MAPPED_PRIVATE && *ret_fd < 0)
        return FALSE;
    at = mmap(NULL, memory->length, PROT_READ | PROT_WRITE, flags, *ret_fd, 0);
    if (at == MAP_FAILED && memory->kind == MAPPED_HUGE) {
        autofd_clear(ret_fd);
        return FALSE;
    }
    assert_ptr_not_equal(at, MAP_FAILED);
    memory->at = at;
    return TRUE;
}

/* ---- logs ---- */

void mapped_memory_open_pagemap(MappedMemory *memory)
{
    memory->layout->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    assert_true(memory->layout->pagemap_fd >= 0);
}

void mapped_memory_protect(MappedMemory *memory, gsize start, gsize length)
{
    struct uffdio_writeprotect protect = {
        .range = { (guintptr)memory->at + start, length },
        .mode = UFFDIO_WRITEPROTECT_MODE_WP,
    };

    assert_int_equal(ioctl(memory->uffd, UFFDIO_WRITEPROTECT, &protect), 0);
}

static void register_for_log(MappedMemory *memory)
{
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED |
                    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
    };
    struct uffdio_register reg = {
        .range = { (guintptr)memory->at, memory->length },
        .mode = UFFDIO_REGISTER_MODE_WP,
    };

    /* In async mode the kernel resolves the faults: whose they are makes no difference. */
    memory->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    assert_true(memory->uffd >= 0);
    assert_int_equal(ioctl(memory->uffd, UFFDIO_API, &api), 0);
    assert_int_equal(ioctl(memory->uffd, UFFDIO_REGISTER, &reg), 0);
    memory->layout->log = MEMORY_LOG_PAGEMAP;
    mapped_memory_open_pagemap(memory);
}

static void make_client_log(MappedMemory *memory)
{
    gsize bytes = memory_layout_bitmaps_bytes(memory->layout);
    int fd = make_memfd(bytes, 0);

    memory->layout->log = MEMORY_LOG_CLIENT;
    memory->layout->dirty_fd = fd;
    memory->dirty_bytes = bytes;
    memory->dirty = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(memory->dirty, MAP_FAILED);
}

/* ---- life ---- */

MappedMemory *mapped_memory_new(MappedKind kind, gsize length, MappedLogKind log)
{
    g_autoptr(MappedMemory) memory = g_new0(MappedMemory, 1);
    MemoryRegion *region;

    memory->kind = kind;
    memory->length = length;
    memory->uffd = -1;
    memory->layout = memory_layout_new(1);
    region = &memory->layout->regions[0];
    if (!map(memory, &region->fd))
        return NULL;
    region->name = g_strdup("ram");
    region->length = length;
    region->page_size = kind == MAPPED_HUGE ? HUGE_PAGE : PAGE;
    region->flags = MEMORY_MIGRATABLE | (kind == MAPPED_PRIVATE ? 0 : MEMORY_SHARED);
    region->address = (guintptr)memory->at;
    if (kind == MAPPED_PRIVATE) {
        memory->layout->mem_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
        assert_true(memory->layout->mem_fd >= 0);
    }
    if (log == MAPPED_WRITE_LOG)
        register_for_log(memory);
    else if (log == MAPPED_CLIENT_LOG)
        make_client_log(memory);
    return g_steal_pointer(&memory);
}

void mapped_memory_free(MappedMemory *memory)
{
    if (!memory)
        return;
    if (memory->at)
        munmap(memory->at, memory->length);
    if (memory->dirty)
        munmap(memory->dirty, memory->dirty_bytes);
    autofd_clear(&memory->uffd);
    memory_layout_free(memory->layout);
    g_free(memory);
}

/* ---- huge pages ---- */

#define NR_HUGEPAGES "/proc/sys/vm/nr_hugepages"
#define HUGE_PAGES_WANTED 16

static void change_huge_pages(gint64 by)
{
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    FILE *file;

    if (!g_file_get_contents(NR_HUGEPAGES, &before, NULL, NULL))
        return;
    by += g_ascii_strtoll(before, NULL, 10);
    after = g_strdup_printf("%" G_GINT64_FORMAT "\n", MAX(by, 0));
    /* Written in place: it is no file that could be replaced. */
    file = fopen(NR_HUGEPAGES, "we");
    if (!file)
        return;
    fputs(after, file);
    fclose(file);
}

int mapped_memory_reserve_huge(void **state)
{
    change_huge_pages(HUGE_PAGES_WANTED);
    return 0;
}

int mapped_memory_return_huge(void **state)
{
    change_huge_pages(-HUGE_PAGES_WANTED);
    return 0;
}
