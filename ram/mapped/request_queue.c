/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/request_queue.h"

#include <glib/gi18n.h>
#include <inttypes.h>

/* Host pages of one block in a row. */
typedef struct {
    guint block;
    guint64 start;
    guint64 end;
} Waiting;

struct RequestQueue {
    const RamBlocks *blocks;
    GQueue ranges; /* of Waiting */
    guint size;    /* host pages */
};

RequestQueue *request_queue_new(const RamBlocks *blocks)
{
    RequestQueue *queue = g_new0(RequestQueue, 1);

    queue->blocks = blocks;
    g_queue_init(&queue->ranges);
    return queue;
}

void request_queue_free(RequestQueue *queue)
{
    if (!queue)
        return;
    request_queue_empty(queue);
    g_free(queue);
}

void request_queue_empty(RequestQueue *queue)
{
    g_queue_clear_full(&queue->ranges, g_free);
    queue->size = 0;
}

guint request_queue_size(const RequestQueue *queue)
{
    return queue->size;
}

gboolean request_queue_check(const RequestQueue *queue, const PageRequest *request,
                             guint64 *ret_start, guint64 *ret_end, GError **error)
{
    const RamBlock *block = ram_blocks_get(queue->blocks, request->block);
    guint64 host;
    guint64 end;

    if (!block) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("REQUEST for block %u, which does not exist"), request->block);
        return FALSE;
    }
    if (request->length == 0 || !ram_blocks_check_range(queue->blocks, request->block,
                                                        request->start, request->length, NULL)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("REQUEST for %u bytes at %" PRIu64 " of block \"%s\", which has %" PRIu64),
                    request->length, request->start, block->name, block->length);
        return FALSE;
    }
    host = ram_blocks_host_page(queue->blocks, request->block);
    end = request->start + request->length;
    *ret_start = request->start - request->start % host;
    *ret_end = MIN(block->length, end + (host - end % host) % host);
    return TRUE;
}

gboolean request_queue_add(RequestQueue *queue, guint block, guint64 offset, GError **error)
{
    guint64 host = ram_blocks_host_page(queue->blocks, block);
    Waiting *last = g_queue_peek_tail(&queue->ranges);

    if (queue->size >= REQUEST_QUEUE_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("more than %d host pages asked for and not sent"), REQUEST_QUEUE_MAX);
        return FALSE;
    }
    queue->size++;
    if (last && last->block == block && last->end == offset) {
        last->end += host;
        return TRUE;
    }
    last = g_new(Waiting, 1);
    *last = (Waiting){ block, offset, offset + host };
    g_queue_push_tail(&queue->ranges, last);
    return TRUE;
}

gboolean request_queue_take(RequestQueue *queue, guint *ret_block, guint64 *ret_offset)
{
    Waiting *first = g_queue_peek_head(&queue->ranges);

    if (!first)
        return FALSE;
    *ret_block = first->block;
    *ret_offset = first->start;
    first->start += ram_blocks_host_page(queue->blocks, first->block);
    queue->size--;
    if (first->start >= first->end)
        g_free(g_queue_pop_head(&queue->ranges));
    return TRUE;
}
