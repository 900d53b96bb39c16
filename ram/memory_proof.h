/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a source QEMU has its RAM blocks, proved by what it writes into its stream.
 *
 * What is mapped in QEMU says where a block of that length could begin: the candidates. Pages that
 * come on the stream once the guest has stopped are compared with what stands at their place of
 * each candidate. A page of zeros proves nothing, and neither does one whose contents came before;
 * a page that differs ends a candidate for good. The block is where one candidate, and no other,
 * had MEMORY_PROOF_ENOUGH pages right; if there is none (or QEMU gives its memory back as it sends
 * it, as with release-ram), it is nowhere, and its pages have to come on the stream.
 *
 * A page is compared only when QEMU has written MEMORY_PROOF_LAG more: what release-ram gives back
 * must be gone by then, and is found out so. Reads by way of a MemoryReader; one thread. */
#pragma once

#include "ram/memory_reader.h"
#include "ram/qemu_stream.h"

/* Pages of a block that must be as they came, not near to each other. */
#define MEMORY_PROOF_ENOUGH 16
#define MEMORY_PROOF_SPACING (32 * 1024)
/* QEMU's buffer of its stream is 32 KiB, and 64 pieces. */
#define MEMORY_PROOF_LAG (1024 * 1024)
/* Smaller blocks are not worth it; nor are larger host pages read at once. */
#define MEMORY_PROOF_BLOCK_MIN (4 * 1024 * 1024)
#define MEMORY_RANGES_MAX 65536

/* What is mapped, readable and writable. */
typedef struct {
    guint64 start; /* multiples of 4096; end is behind it */
    guint64 end;
} MemoryRange;

/* Ascending, none overlapping another, not too many: or RAM_ERROR_INVALID. */
gboolean memory_ranges_check(const MemoryRange *ranges, gsize n, GError **error);

typedef struct MemoryProof MemoryProof;

/* ranges: as memory_ranges_check() has them. blocks must be complete, and reader must outlive the
 * proof. */
MemoryProof *memory_proof_new(const RamBlocks *blocks, MemoryReader *reader,
                              const MemoryRange *ranges, gsize n_ranges, GError **error);
void memory_proof_free(MemoryProof *proof);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MemoryProof, memory_proof_free)

/* A page has come on the stream: after the switch-over, as it was then. TRUE: there is news about
 * some block. */
gboolean memory_proof_on_page(MemoryProof *proof, const QemuPage *page);

typedef enum {
    MEMORY_UNPROVED, /* not yet */
    MEMORY_PROVED,
    MEMORY_NOWHERE,  /* and it will not be */
} MemoryVerdict;

/* ret_address: of the block's first byte, if it is proved. */
MemoryVerdict memory_proof_verdict(const MemoryProof *proof, guint block, guint64 *ret_address);
/* No block is still to be proved. */
gboolean memory_proof_is_over(const MemoryProof *proof);
