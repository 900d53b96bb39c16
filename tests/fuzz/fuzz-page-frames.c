/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bodies of RAM's frames. The first byte chooses which; what was accepted is written anew and
 * must be read as the same again. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "ram/page_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGE 4096
static void check_error(const GError *error)
{
    g_assert(error && g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
}

static GBytes *take_body(GByteArray **out)
{
    return g_byte_array_free_to_bytes(g_steal_pointer(out));
}

static RamBlocks *some_blocks(void)
{
    RamBlocks *blocks = ram_blocks_new();
    guint index;

    g_assert(ram_blocks_add(blocks, (const guint8 *)"ram", 3, 1024 * PAGE, PAGE, &index, NULL));
    g_assert(ram_blocks_add(blocks, (const guint8 *)"rom", 3, 0, 0, &index, NULL));
    return blocks;
}

/* ---- PAGES ---- */

static void check_page(const RamBlocks *blocks, const QemuPage *page)
{
    g_assert(ram_blocks_check_range(blocks, page->block, page->offset, PAGE, NULL));
    switch (page->kind) {
    case QEMU_PAGE_RAW:
        g_assert(page->data && page->data_len == PAGE);
        break;
    case QEMU_PAGE_ZERO:
        g_assert(page->data_len == 0);
        break;
    case QEMU_PAGE_COMPRESSED:
        g_assert(page->data && page->data_len > 0 && page->data_len < PAGES_PLAIN_MAX);
        break;
    default:
        g_assert_not_reached();
    }
}

/* Half of what follows a zero page in its record is taken along with it. */
static gboolean add(PagesReader *reader, PagesBatch *batch, const QemuPage *page)
{
    guint along = page->kind == QEMU_PAGE_ZERO ? pages_reader_run_left(reader) / 2 : 0;

    pages_reader_skip(reader, along);
    if (along == 0)
        return pages_batch_add(batch, page, PAGE);
    return pages_batch_add_zeros(batch, page, along + 1, PAGE) == along + 1;
}

/* Reads body into a new batch. FALSE: it was refused. */
static gboolean read_into(GBytes *body, PagesBatch *batch)
{
    g_autoptr(RamBlocks) blocks = some_blocks();
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_autoptr(GError) error = NULL;
    QemuPage page;

    if (!pages_reader_begin(reader, body, &error)) {
        check_error(error);
        return FALSE;
    }
    for (;;) {
        gboolean more;

        if (!pages_reader_next(reader, blocks, &page, &more, &error)) {
            check_error(error);
            return FALSE;
        }
        if (!more)
            return TRUE;
        check_page(blocks, &page);
        /* Ours is never longer than what was read. */
        g_assert(add(reader, batch, &page));
    }
}

static GBytes *finish(PagesBatch *batch)
{
    gsize len;
    guint8 *bytes = pages_batch_finish(batch, &len);

    return g_bytes_new_take(bytes, len);
}

/* Page by page, both are the same. */
static void check_same_pages(GBytes *a, GBytes *b)
{
    g_autoptr(RamBlocks) blocks = some_blocks();
    g_autoptr(PagesReader) reader_a = pages_reader_new(PAGE);
    g_autoptr(PagesReader) reader_b = pages_reader_new(PAGE);
    gboolean more = TRUE;

    g_assert(pages_reader_begin(reader_a, a, NULL));
    g_assert(pages_reader_begin(reader_b, b, NULL));
    while (more) {
        QemuPage page_a, page_b;
        gboolean more_b;

        g_assert(pages_reader_next(reader_a, blocks, &page_a, &more, NULL));
        g_assert(pages_reader_next(reader_b, blocks, &page_b, &more_b, NULL));
        g_assert(more == more_b);
        if (!more)
            break;
        g_assert(page_a.block == page_b.block && page_a.offset == page_b.offset &&
                 page_a.kind == page_b.kind && page_a.fill == page_b.fill &&
                 page_a.data_len == page_b.data_len &&
                 (page_a.data_len == 0 || memcmp(page_a.data, page_b.data, page_a.data_len) == 0));
    }
}

static void check_packed(GBytes *plain)
{
    static const PagesLevels levels = { { [PAGES_ZSTD] = 1, [PAGES_ZLIB] = 1 } };
    g_autoptr(PagesCompressor) compressor = pages_compressor_new(&levels);

    for (gint i = PAGES_ZSTD; i < PAGES_ENCODING_MAX; i++) {
        g_autoptr(GBytes) packed = NULL;
        gsize len;
        guint8 *bytes = pages_compress(compressor, (PagesEncoding)i,
                                       g_bytes_get_data(plain, NULL), g_bytes_get_size(plain), 0,
                                       &len);

        if (!bytes)
            continue;
        packed = g_bytes_new_take(bytes, len);
        g_assert(len < g_bytes_get_size(plain));
        check_same_pages(plain, packed);
    }
}

static void try_pages(GBytes *body)
{
    g_auto(PagesBatch) batch;
    g_autoptr(GBytes) written = NULL;

    pages_batch_init(&batch, 0);
    pages_batch_use_runs(&batch);
    if (!read_into(body, &batch))
        return;
    written = finish(&batch);
    check_same_pages(body, written);
    check_packed(written);
}

/* ---- the others ---- */

static void try_blocks(GBytes *body)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    g_autoptr(RamBlocks) again = ram_blocks_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) written = NULL;
    guint32 section, section_again;

    if (!blocks_body_decode(body, blocks, &section, &error)) {
        check_error(error);
        return;
    }
    g_assert(blocks_body_encode(out, blocks, section, g_bytes_get_size(body)));
    written = take_body(&out);
    g_assert(g_bytes_equal(body, written));
    g_assert(blocks_body_decode(written, again, &section_again, NULL));
    g_assert(section == section_again && ram_blocks_count(blocks) == ram_blocks_count(again));
}

/* These have one way to be written only. */
static void check_written(GBytes *body, GByteArray **out)
{
    g_autoptr(GBytes) written = take_body(out);

    g_assert(g_bytes_equal(body, written));
}

static void try_phase(GBytes *body)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    RamPhase phase;

    if (!phase_body_decode(body, &phase, &error)) {
        check_error(error);
        return;
    }
    phase_body_encode(out, phase);
    check_written(body, &out);
}

static void try_qemu_channel(GBytes *body)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    QemuChannelEvent event;

    if (!qemu_channel_body_decode(body, &event, &error)) {
        check_error(error);
        return;
    }
    qemu_channel_body_encode(out, event);
    check_written(body, &out);
}

static void try_ram_end(GBytes *body)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    RamEnd end;

    if (!ram_end_body_decode(body, &end, &error)) {
        check_error(error);
        return;
    }
    ram_end_body_encode(out, &end);
    check_written(body, &out);
}

static void try_request(GBytes *body)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    PageRequest request;

    if (!request_body_decode(body, &request, &error)) {
        check_error(error);
        return;
    }
    request_body_encode(out, &request);
    check_written(body, &out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(GBytes *) = { try_pages,       try_blocks,  try_phase,
                                               try_qemu_channel, try_ram_end, try_request };
    g_autoptr(GBytes) body = NULL;

    if (size < 1)
        return 0;
    body = g_bytes_new(data + 1, size - 1);
    tries[data[0] % G_N_ELEMENTS(tries)](body);
    return 0;
}
