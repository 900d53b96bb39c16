/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a QEMU, or who has taken it over, may send on the return path. The first byte says in what
 * pieces it comes. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "ram/qemu_return.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    guint64 bitmap_len; /* of the one under way; 0: none */
    guint64 bitmap_done;
    gboolean opaque;
    guint elements; /* events that are no pieces of data */
} Seen;

static void check_bitmap(Seen *seen, const QemuReturnEvent *event)
{
    switch (event->type) {
    case QEMU_RETURN_BITMAP:
        g_assert(seen->bitmap_len == 0 && event->length > 0 && event->length % 8 == 0);
        seen->bitmap_len = event->length;
        seen->bitmap_done = 0;
        break;
    case QEMU_RETURN_BITMAP_DATA:
        g_assert(event->start == seen->bitmap_done);
        seen->bitmap_done += event->raw_len;
        g_assert(seen->bitmap_done <= seen->bitmap_len);
        break;
    case QEMU_RETURN_BITMAP_END:
        g_assert(seen->bitmap_done == seen->bitmap_len && seen->bitmap_len > 0);
        seen->bitmap_len = 0;
        break;
    default:
        g_assert(seen->bitmap_len == 0 || event->type == QEMU_RETURN_UNKNOWN);
    }
}

static void check_event(Seen *seen, const QemuReturnEvent *event)
{
    g_assert(seen->opaque == (event->type == QEMU_RETURN_OPAQUE));
    g_assert(event->raw_len > 0);
    if (event->type == QEMU_RETURN_UNKNOWN) {
        g_assert(event->text && *event->text);
        seen->opaque = TRUE;
    } else if (!seen->opaque) {
        check_bitmap(seen, event);
    }
    if (event->name)
        g_assert(event->name_len > 0 && event->name_len <= RAM_BLOCK_NAME_MAX &&
                 event->name[event->name_len] == 0);
    if (event->type == QEMU_RETURN_REQ_PAGES)
        g_assert(event->name && event->length > 0 && event->start % 4096 == 0 &&
                 event->length % 4096 == 0 && event->start + event->length > event->start);
    if (event->type != QEMU_RETURN_OPAQUE && event->type != QEMU_RETURN_BITMAP_DATA)
        seen->elements++;
}

/* Reads it in pieces of `step` bytes; what comes out is what went in. */
static guint read_all(const uint8_t *data, size_t size, size_t step)
{
    g_autoptr(QemuReturn) reader = qemu_return_new();
    Seen seen = { 0 };
    gsize out = 0;
    const guint8 *held;
    gsize held_len;

    for (size_t at = 0; at < size;) {
        gsize n = MIN(step, size - at), taken;
        g_autofree guint8 *piece = g_malloc(n);
        QemuReturnEvent event;

        memcpy(piece, data + at, n);
        taken = qemu_return_read(reader, piece, n, &event);
        g_assert(taken <= n);
        at += taken;
        if (event.type == QEMU_RETURN_MORE) {
            g_assert(event.raw_len == 0 && taken == n);
            continue;
        }
        check_event(&seen, &event);
        g_assert(out + event.raw_len <= at && memcmp(event.raw, data + out, event.raw_len) == 0);
        out += event.raw_len;
        g_assert(out == at);
        g_assert(qemu_return_is_opaque(reader) == seen.opaque);
    }
    held_len = qemu_return_held(reader, &held);
    g_assert(out + held_len == size && memcmp(held, data + out, held_len) == 0);
    g_assert(!qemu_return_at_boundary(reader) || held_len == 0);
    return seen.elements;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    guint whole;

    if (size < 1)
        return 0;
    whole = read_all(data + 1, size - 1, size);
    g_assert(read_all(data + 1, size - 1, 1 + data[0]) == whole);
    return 0;
}
