/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Real memory of this process, handed over as a memory client does it: one region named "ram",
 * or several. */
#pragma once

#include "ram/mapped/memory_client.h"

typedef enum { MAPPED_PRIVATE, MAPPED_MEMFD, MAPPED_HUGE } MappedKind;

typedef enum {
    MAPPED_NO_LOG,
    MAPPED_WRITE_LOG,  /* registered for write protection in async mode */
    MAPPED_CLIENT_LOG,
} MappedLogKind;

typedef struct {
    MappedKind kind;
    guint8 *at;
    gsize length;
    int uffd;
    guint64 *dirty; /* MAPPED_CLIENT_LOG: the bitmap */
    gsize dirty_bytes;
    MemoryLayout *layout;
} MappedMemory;

/* NULL only of MAPPED_HUGE: the host has not got as many huge pages. Everything else fails the
 * test. */
MappedMemory *mapped_memory_new(MappedKind kind, gsize length, MappedLogKind log);
void mapped_memory_open_pagemap(MappedMemory *memory);
/* As a client does before it hints that pages are free. */
void mapped_memory_protect(MappedMemory *memory, gsize start, gsize length);
void mapped_memory_free(MappedMemory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MappedMemory, mapped_memory_free)

/* For cmocka's groups: has the host set huge pages aside, if it lets us, and gives them back. */
int mapped_memory_reserve_huge(void **state);
int mapped_memory_return_huge(void **state);
