/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Host pages that the destination's guest waits for, in the order in which they were asked for.
 * Pure; one thread. */
#pragma once

#include "ram/page_frames.h"

/* Host pages that may wait at one time: docs/protocol.md, "REQUEST". */
#define REQUEST_QUEUE_MAX 65536

typedef struct RequestQueue RequestQueue;

/* blocks: borrowed. */
RequestQueue *request_queue_new(const RamBlocks *blocks);
void request_queue_free(RequestQueue *queue);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RequestQueue, request_queue_free)

/* Grows the request to whole host pages, and refuses one that cannot be: a block that does not
 * exist, a range that is not in it, no length. RAM_ERROR_PROTOCOL. */
gboolean request_queue_check(const RequestQueue *queue, const PageRequest *request,
                             guint64 *ret_start, guint64 *ret_end, GError **error);
/* One host page. FALSE: REQUEST_QUEUE_MAX of them wait. */
gboolean request_queue_add(RequestQueue *queue, guint block, guint64 offset, GError **error);
/* The oldest one; FALSE: none waits. */
gboolean request_queue_take(RequestQueue *queue, guint *ret_block, guint64 *ret_offset);
guint request_queue_size(const RequestQueue *queue);
/* Nobody waits any more. */
void request_queue_empty(RequestQueue *queue);
