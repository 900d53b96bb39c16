/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ranges of memory that were sent and are given back to the host once the peer has acknowledged
 * them. They are collected, then closed as a batch together with a mark of the sender's; when
 * that is reached the batch is due. Pure; one thread. */
#pragma once

#include <glib.h>

#include "ram/blocks.h"
#include "ram/mapped/memory_client.h"

typedef struct {
    guint block;
    MemoryRange range;
} ReleaseRange;

typedef struct {
    const RamBlocks *blocks;
    GArray *open;   /* of ReleaseRange: sent since the last batch was closed */
    GArray *closed; /* waits for its mark; empty: there is none */
    guint64 bytes;  /* that were due so far */
} ReleaseList;

/* blocks: borrowed; they may be added later. */
void release_list_init(ReleaseList *list, const RamBlocks *blocks);
void release_list_clear(ReleaseList *list);

/* Sent. Adjacent ranges are put together. */
void release_list_add(ReleaseList *list, guint block, guint64 start, guint64 length);
/* TRUE: what was added up to now is the closed batch; the caller takes a mark. A host page that is not complete
 * stays behind: the peer acknowledges its pieces before it can place them. FALSE: one is closed already, or
 * nothing is there to be. */
gboolean release_list_close(ReleaseList *list);
gboolean release_list_is_waiting(const ReleaseList *list);
/* The mark is reached: the batch, of whole host pages, is the caller's (g_array_unref()). */
GArray *release_list_take(ReleaseList *list);
