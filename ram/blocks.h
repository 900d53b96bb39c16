/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The RAM blocks of one guest, in the order in which they became known: both helpers give a block
 * the same index. Facts: QEMU's migration stream, MEM_SIZE list; docs/qemu-stream.md. Pure. */
#pragma once

#include <glib.h>

#define RAM_BLOCKS_MAX 4096
#define RAM_BLOCK_NAME_MAX 255
#define RAM_TARGET_PAGE_DEFAULT 4096
#define RAM_TARGET_PAGE_MAX (64 * 1024)
#define RAM_HOST_PAGE_MAX (G_GUINT64_CONSTANT(1) << 40)

#define RAM_ERROR (ram_error_quark())
GQuark ram_error_quark(void);

typedef enum {
    RAM_ERROR_INVALID, /* a value that cannot be: the message names it and the limit */
    RAM_ERROR_STATE,   /* not in this state */
    RAM_ERROR_PROTOCOL, /* the peer helper broke the session protocol */
} RamError;

typedef struct {
    char *name;        /* as QEMU has it; no NUL inside, at most RAM_BLOCK_NAME_MAX bytes */
    guint64 length;    /* used length in bytes; 0: not known (a resumed stream does not tell) */
    guint64 page_size; /* host page in bytes, a power of two >= the target page; 0: not known yet */
} RamBlock;

typedef struct RamBlocks RamBlocks;

RamBlocks *ram_blocks_new(void);
void ram_blocks_free(RamBlocks *blocks);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RamBlocks, ram_blocks_free)

/* Bytes of a target page: RAM_TARGET_PAGE_DEFAULT unless set. */
gsize ram_blocks_target_page(const RamBlocks *blocks);
/* A power of two from 1 KiB to RAM_TARGET_PAGE_MAX. */
gboolean ram_blocks_set_target_page(RamBlocks *blocks, guint64 size, GError **error);

guint ram_blocks_count(const RamBlocks *blocks);
/* NULL if there is no such block. */
const RamBlock *ram_blocks_get(const RamBlocks *blocks, guint index);
gboolean ram_blocks_find(const RamBlocks *blocks, const guint8 *name, gsize len, guint *ret_index);

/* Of all blocks whose length is known. */
guint64 ram_blocks_bytes(const RamBlocks *blocks);

/* Adds a block, or completes the one of that name: a length or page size of 0 leaves what is known.
 * Refuses what RamBlock rules out, a length that is no multiple of the target page, and more than
 * RAM_BLOCKS_MAX blocks. */
gboolean ram_blocks_add(RamBlocks *blocks, const guint8 *name, gsize len, guint64 length,
                        guint64 page_size, guint *ret_index, GError **error);

/* The host page of a block: page_size, or the target page while that is not known. */
guint64 ram_blocks_host_page(const RamBlocks *blocks, guint index);

/* Whether [offset, offset + length) lies in the block and both are multiples of the target page; in a
 * block of unknown length anything up to 2^56 does. */
gboolean ram_blocks_check_range(const RamBlocks *blocks, guint index, guint64 offset,
                                guint64 length, GError **error);
