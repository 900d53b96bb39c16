/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The workload's memory: regions of each kind that there is. Its pages are numbered through, in the
 * order of the regions. */
#pragma once

#include <gio/gio.h>

typedef enum {
    MEMORY_ANON,  /* private anonymous pages of 4 KiB */
    MEMORY_SHMEM, /* a memfd, shared */
    MEMORY_HUGE,  /* a memfd of huge pages of 2 MiB */
} MemoryKind;

typedef struct {
    char *name;
    MemoryKind kind;
    guint64 length;
    guint64 page_size; /* host page */
    guint8 *address;
    int fd;             /* -1: MEMORY_ANON */
    guint64 first_page; /* number of its first page of CONTENTS_PAGE */
} Region;

typedef struct {
    GPtrArray *regions; /* Region */
    guint64 pages;
} Memory;

Memory *memory_new(void);
void memory_free(Memory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Memory, memory_free)

/* spec: "NAME:anon|shmem|huge:MIB" or "NAME:…:MIB:FLAG,…" (flags are the caller's: *ret_flags, or
 * NULL). Nothing of it is touched. */
gboolean memory_add(Memory *memory, const char *spec, char **ret_flags, GError **error);
const Region *memory_region(const Memory *memory, guint index);
guint8 *memory_page(const Memory *memory, guint64 page);
/* Of a page's host page: its first page, and how many. */
guint64 memory_host_page(const Memory *memory, guint64 page, guint64 *ret_n);
