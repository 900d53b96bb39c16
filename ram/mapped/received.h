/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which target pages of a guest are in place: a bit for each, in memory that the client keeps,
 * so that it outlives the helper. A bit is set when its page is in place, in one step, and
 * cleared by a discard.
 *
 * The client could write to it as well, and would harm itself only: nothing here depends on what
 * was read before. One thread writes. */
#pragma once

#include "ram/mapped/memory_client.h"

typedef struct ReceivedMap ReceivedMap;

/* layout: borrowed. Uses its received_fd, where nothing is set unless the layout recovers;
 * without one it is memory of ours, which nobody finds again. RAM_ERROR_INVALID: the descriptor
 * is no memfd that is sealed against shrinking and large enough. */
ReceivedMap *received_map_new(const MemoryLayout *layout, GError **error);
void received_map_free(ReceivedMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ReceivedMap, received_map_free)

/* block: index of the layout's region. Pages must be within the block. */

gboolean received_map_get(const ReceivedMap *map, guint block, guint64 page);
/* How many of [first, first + n) that changed. */
guint64 received_map_set(ReceivedMap *map, guint block, guint64 first, guint64 n);
guint64 received_map_clear(ReceivedMap *map, guint block, guint64 first, guint64 n);
guint64 received_map_count(const ReceivedMap *map, guint block);
/* The first page >= from that is (not) there; the number of pages if there is none. */
guint64 received_map_next(const ReceivedMap *map, guint block, guint64 from, gboolean there);
/* The pages from first (a multiple of 64) on in wire form, to the end of the block or of bytes;
 * how many bytes that are. Bits beyond the end are 0. */
gsize received_map_wire(const ReceivedMap *map, guint block, guint64 first, guint8 *ret_bytes,
                        gsize max);
