/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the RAM blocks of a guest lie in the address space of the process that owns them, and back:
 * from the address of a fault to a page. Addresses are that process's, numbers here. Pure. */
#pragma once

#include <glib.h>

#define UFFD_RANGES_MAX 8192

typedef enum {
    UFFD_ANON,    /* private anonymous memory */
    UFFD_SHMEM,   /* a memfd, tmpfs, shared anonymous memory */
    UFFD_HUGETLB, /* huge pages of hugetlbfs, private or shared */
    UFFD_BACKING_MAX,
} UffdBacking;

const char *uffd_backing_name(UffdBacking backing);

/* A piece of a block, all of it one mapping. Every number is a multiple of page_size. */
typedef struct {
    guint block;       /* index in RamBlocks */
    guint64 offset;    /* in the block */
    guint64 address;
    guint64 length;
    guint64 page_size; /* host page: what is placed at once, a power of two */
    UffdBacking backing;
} UffdRange;

typedef struct UffdMap UffdMap;

UffdMap *uffd_map_new(void);
void uffd_map_free(UffdMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(UffdMap, uffd_map_free)

/* Copies range. Refused (RAM_ERROR_INVALID): empty, unaligned, or overlapping another one in addresses or
 * in its block. */
gboolean uffd_map_add(UffdMap *map, const UffdRange *range, GError **error);
/* Forgets all pieces of a block. */
void uffd_map_remove_block(UffdMap *map, guint block);

guint uffd_map_count(const UffdMap *map);
/* In order of their addresses; valid until the map changes. */
const UffdRange *uffd_map_get(const UffdMap *map, guint index);

/* The piece that holds the byte; NULL: there is none. */
const UffdRange *uffd_map_at_address(const UffdMap *map, guint64 address);
const UffdRange *uffd_map_at_offset(const UffdMap *map, guint block, guint64 offset);

/* The host page that address lies in. FALSE: it is in no block. */
gboolean uffd_map_page_of(const UffdMap *map, guint64 address, guint *ret_block,
                          guint64 *ret_offset);
