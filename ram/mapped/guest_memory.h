/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory that a client has handed over, by block and offset, whatever is behind a block: a
 * memfd, or memory of the client's own that is reached through its /proc/self/mem.
 *
 * It is read by pread() and never by way of a mapping: no hole is filled by looking at it, and
 * what goes wrong is an error, not a signal. One thread. */
#pragma once

#include "ram/mapped/memory_client.h"

#define GUEST_MEMORY_PEEK_MAX (64 * 1024)

typedef struct GuestMemory GuestMemory;

/* layout: borrowed, must outlive it. RAM_ERROR_INVALID names the region: a memfd that is not
 * sealed against shrinking or is too short, private memory without mem_fd, or what RamBlock
 * rules out. */
GuestMemory *guest_memory_new(const MemoryLayout *layout, GError **error);
void guest_memory_free(GuestMemory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestMemory, guest_memory_free)

/* Its blocks, complete, by the index of the layout's regions. */
const RamBlocks *guest_memory_blocks(const GuestMemory *memory);
const MemoryRegion *guest_memory_region(const GuestMemory *memory, guint block);
const MemoryLayout *guest_memory_layout(const GuestMemory *memory);
/* The client's address → block and offset; FALSE: none of its regions. */
gboolean guest_memory_find(const GuestMemory *memory, guint64 address, guint *ret_block,
                           guint64 *ret_offset);

/* In all of these the range must lie in the block. The errors are G_IO_ERROR and name the block. */

/* Reads up to GUEST_MEMORY_PEEK_MAX bytes; *ret_bytes is valid until the next peek. */
gboolean guest_memory_peek(GuestMemory *memory, guint block, guint64 offset, gsize len,
                           const guint8 **ret_bytes, GError **error);
/* How many bytes from offset on are zeros, as of now, because there is no memory behind them: a
 * hole of a memfd, or private memory that pagemap_fd shows to be untouched (that looks a piece
 * ahead; there may be more). 0: none, or it is not known. */
guint64 guest_memory_hole(GuestMemory *memory, guint block, guint64 offset);
/* The same of private memory in [offset, offset + length), a scan of the kernel's: what of it is
 * zeros, at most max ranges, in order. Returns how much of it was looked at; 0: it is not known. */
guint64 guest_memory_find_zeros(GuestMemory *memory, guint block, guint64 offset, guint64 length,
                                MemoryRange *ret_zeros, guint max, guint *ret_n);
/* Where guest_memory_hole() was 0: how many bytes it is worth reading before the next hole, as far
 * as that look went; the rest of the block where it is not known. */
guint64 guest_memory_data(const GuestMemory *memory, guint block, guint64 offset);

gboolean guest_memory_write(GuestMemory *memory, guint block, guint64 offset, const guint8 *bytes,
                            gsize len, GError **error);

/* Whether guest_memory_discard() can be used; else the client has to be asked
 * (MemoryClientOps.discard). */
gboolean guest_memory_can_discard(const GuestMemory *memory, guint block);
/* Gives the pages back to the host: they read as zeros from here on, in every mapping. start,
 * length: multiples of the host page. */
gboolean guest_memory_discard(GuestMemory *memory, guint block, guint64 start, guint64 length,
                              GError **error);
