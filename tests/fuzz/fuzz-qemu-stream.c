/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's stream, whole and in pieces. The first byte chooses the kind of connection and the
 * pieces. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "ram/qemu_stream.h"

#define MODE_PREEMPT 0x01
#define PREEMPT_PAGE 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    GByteArray *raw;
    GByteArray *types; /* of events; pieces of one kind count once */
} Result;

static void result_clear(Result *result)
{
    g_byte_array_unref(result->raw);
    g_byte_array_unref(result->types);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Result, result_clear)

static void check_page(const RamBlocks *blocks, const QemuEvent *ev)
{
    const QemuPage *page = &ev->page;

    g_assert(page->kind < QEMU_PAGE_KIND_MAX);
    g_assert(ram_blocks_check_range(blocks, page->block, page->offset,
                                    ram_blocks_target_page(blocks), NULL));
    if (page->kind == QEMU_PAGE_ZERO)
        return;
    g_assert(page->data + page->data_len == ev->raw + ev->raw_len && page->data > ev->raw);
    if (page->kind == QEMU_PAGE_RAW)
        g_assert(page->data_len == ram_blocks_target_page(blocks));
}

static void check_event(const RamBlocks *blocks, const QemuEvent *ev)
{
    g_assert(ev->type < QEMU_EV_MAX && ev->raw_len > 0);
    switch (ev->type) {
    case QEMU_EV_PAGE:
        check_page(blocks, ev);
        break;
    case QEMU_EV_BLOCK:
        g_assert(ram_blocks_get(blocks, ev->block)->length > 0);
        break;
    case QEMU_EV_COMMAND:
        g_assert(ev->payload + ev->payload_len == ev->raw + ev->raw_len);
        break;
    case QEMU_EV_UNKNOWN:
        g_assert(g_utf8_validate(ev->text, -1, NULL) && !strchr(ev->text, '\n'));
        break;
    default:
        break;
    }
}

static void take(Result *result, const QemuEvent *ev)
{
    guint8 type = ev->type;
    GByteArray *types = result->types;
    gboolean piece = type == QEMU_EV_OPAQUE || type == QEMU_EV_DESCRIPTION ||
                     type == QEMU_EV_PACKAGE_DATA;

    g_byte_array_append(result->raw, ev->raw, ev->raw_len);
    if (!piece || types->len == 0 || types->data[types->len - 1] != type)
        g_byte_array_append(types, &type, 1);
}

static void feed(QemuStream *stream, const RamBlocks *blocks, const guint8 *bytes, gsize len,
                 Result *result)
{
    QemuEvent ev;

    do {
        gsize n = qemu_stream_read(stream, bytes, len, &ev);

        g_assert(n <= len);
        bytes += n;
        len -= n;
        if (ev.type == QEMU_EV_MORE)
            break;
        check_event(blocks, &ev);
        take(result, &ev);
    } while (TRUE);
    g_assert(len == 0);
}

static RamBlocks *blocks_of_mode(guint8 mode)
{
    RamBlocks *blocks = ram_blocks_new();

    if (mode & MODE_PREEMPT) {
        g_assert(ram_blocks_set_target_page(blocks, PREEMPT_PAGE, NULL));
        g_assert(ram_blocks_add(blocks, (const guint8 *)"ram", 3, 0x100000, 0, NULL, NULL));
    }
    return blocks;
}

/* pieces: how the sizes of the pieces begin; 0: in one. */
static Result read_all(const guint8 *bytes, gsize len, guint8 mode, guint32 pieces)
{
    g_autoptr(RamBlocks) blocks = blocks_of_mode(mode);
    g_autoptr(QemuStream) stream = mode & MODE_PREEMPT ? qemu_stream_new_preempt(blocks)
                                                       : qemu_stream_new(blocks);
    Result result = { g_byte_array_new(), g_byte_array_new() };
    const guint8 *held;
    gsize n_held;

    for (gsize at = 0; at < len;) {
        gsize n = len - at;

        if (pieces != 0) {
            pieces = pieces * 1103515245 + 12345;
            n = MIN(n, 1 + (pieces >> 16) % (pieces >> 8 & 1 ? 8 : 1500));
        }
        feed(stream, blocks, bytes + at, n, &result);
        at += n;
    }
    n_held = qemu_stream_held(stream, &held);
    g_assert(n_held <= QEMU_STREAM_HELD_MAX && qemu_stream_position(stream) == len);
    g_byte_array_append(result.raw, held, n_held);
    g_assert(result.raw->len == len && (len == 0 || memcmp(result.raw->data, bytes, len) == 0));
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    {
        g_auto(Result) whole = read_all(data + 1, size - 1, data[0], 0);
        g_auto(Result) cut = read_all(data + 1, size - 1, data[0], 1 + (data[0] >> 1));

        g_assert(whole.types->len == cut.types->len);
        g_assert(whole.types->len == 0 ||
                 memcmp(whole.types->data, cut.types->data, whole.types->len) == 0);
    }
    return 0;
}
