/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bodies of RAM's frames: what goes in comes out, and a named field for each bad body. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "ram/page_frames.h"
#include "tls/features.h"
#include "tls/frame.h"
#include "util/bytes.h"

#define PAGE 4096
#define RESERVE FRAME_HEADER_LEN
#define SECTION 3

/* Three blocks: 64 MiB; 1 MiB in pages of 2 MiB; one of unknown length. */
static RamBlocks *some_blocks(gsize target_page)
{
    static const RamBlock rows[] = {
        { (char *)"pc.ram", 64 * 1024 * 1024, PAGE },
        { (char *)"vga.vram", 1024 * 1024, 2 * 1024 * 1024 },
        { (char *)"/rom@etc/acpi/tables", 0, 0 },
    };
    RamBlocks *blocks = ram_blocks_new();

    assert_true(ram_blocks_set_target_page(blocks, target_page, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        guint index;

        assert_true(ram_blocks_add(blocks, (const guint8 *)rows[i].name, strlen(rows[i].name),
                                   rows[i].length, MAX(rows[i].page_size, target_page), &index,
                                   NULL));
        assert_int_equal(index, i);
    }
    return blocks;
}

static GBytes *finish(PagesBatch *batch)
{
    gsize len;
    g_autofree guint8 *bytes = pages_batch_finish(batch, &len);

    return g_bytes_new(bytes + batch->reserve, len);
}

static GBytes *pack_with(PagesCompressor *compressor, PagesEncoding encoding, GBytes *plain)
{
    gsize len;
    g_autofree guint8 *bytes = pages_compress(compressor, encoding, g_bytes_get_data(plain, NULL),
                                              g_bytes_get_size(plain), RESERVE, &len);

    return bytes ? g_bytes_new(bytes + RESERVE, len) : NULL;
}

static const PagesLevels quick = { { [PAGES_ZSTD] = 1, [PAGES_ZLIB] = 1 } };

static GBytes *pack(PagesEncoding encoding, GBytes *plain)
{
    g_autoptr(PagesCompressor) compressor = pages_compressor_new(&quick);

    return pack_with(compressor, encoding, plain);
}

static void assert_page_equal(const QemuPage *got, const QemuPage *want)
{
    assert_int_equal(got->block, want->block);
    assert_true(got->offset == want->offset);
    assert_int_equal(got->kind, want->kind);
    assert_int_equal(got->fill, want->fill);
    assert_int_equal(got->data_len, want->data_len);
    if (want->data_len > 0)
        assert_memory_equal(got->data, want->data, want->data_len);
}

/* ---- batches ---- */

static QemuPage zero_page(guint block, guint64 index, guint8 fill)
{
    return (QemuPage){ .block = block, .offset = index * PAGE, .kind = QEMU_PAGE_ZERO,
                       .fill = fill };
}

static QemuPage raw_page(guint block, guint64 index, const guint8 *data)
{
    return (QemuPage){ .block = block, .offset = index * PAGE, .kind = QEMU_PAGE_RAW,
                       .data = data, .data_len = PAGE };
}

static QemuPage random_page(GRand *rand, gsize target_page, const guint8 *data)
{
    QemuPage page = { .block = g_rand_int_range(rand, 0, 3),
                      .offset = g_rand_int_range(rand, 0, 16) * target_page };

    switch (g_rand_int_range(rand, 0, 3)) {
    case 0:
        page.kind = QEMU_PAGE_RAW;
        page.data_len = target_page;
        break;
    case 1:
        page.kind = QEMU_PAGE_ZERO;
        page.fill = g_rand_int_range(rand, 0, 2);
        return page;
    default:
        page.kind = QEMU_PAGE_COMPRESSED;
        page.data_len = g_rand_int_range(rand, 1, target_page + 1);
    }
    page.data = data + g_rand_int_range(rand, 0, 1000);
    return page;
}

/* body must hold these pages and no more. */
static void assert_body_holds(PagesReader *reader, const RamBlocks *blocks, GBytes *body,
                              const QemuPage *pages, guint n)
{
    gboolean more;
    QemuPage got;

    assert_true(pages_reader_begin(reader, body, NULL));
    for (guint i = 0; i < n; i++) {
        assert_true(pages_reader_next(reader, blocks, &got, &more, NULL));
        assert_true(more);
        assert_page_equal(&got, &pages[i]);
    }
    /* And again: the end stays the end. */
    for (guint i = 0; i < 2; i++) {
        assert_true(pages_reader_next(reader, blocks, &got, &more, NULL));
        assert_false(more);
    }
}

static void assert_encoding(const PagesReader *reader, PagesEncoding encoding, gsize plain_body_len)
{
    gsize got;

    assert_int_equal(pages_reader_encoding(reader, &got), encoding);
    assert_int_equal(got, plain_body_len);
}

static void random_batches_come_out_as_they_went_in(void **state)
{
    static const gsize target_pages[] = { 1024, 4096, 16384, RAM_TARGET_PAGE_MAX };
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autofree guint8 *data = g_malloc(RAM_TARGET_PAGE_MAX + 1000);
    g_autoptr(PagesCompressor) compressor = pages_compressor_new(&quick);
    QemuPage pages[300];

    for (gsize i = 0; i < RAM_TARGET_PAGE_MAX + 1000; i++)
        data[i] = i % 3 ? i / 7 : g_rand_int(rand);

    for (guint round = 0; round < 200; round++) {
        gsize target_page = target_pages[round % G_N_ELEMENTS(target_pages)];
        g_autoptr(RamBlocks) blocks = some_blocks(target_page);
        g_autoptr(PagesReader) reader = pages_reader_new(target_page);
        guint n = 0, limit = g_rand_int_range(rand, 1, G_N_ELEMENTS(pages));
        g_auto(PagesBatch) batch;
        g_autoptr(GBytes) body = NULL;

        pages_batch_init(&batch, RESERVE);
        if (g_rand_boolean(rand))
            pages_batch_use_runs(&batch);
        while (n < limit) {
            pages[n] = random_page(rand, target_page, data);
            if (n > 0 && g_rand_boolean(rand)) {
                pages[n].block = pages[n - 1].block;
                pages[n].offset = MIN(pages[n - 1].offset / target_page + 1, 15) * target_page;
            }
            if (!pages_batch_add(&batch, &pages[n], target_page))
                break;
            n++;
        }
        assert_true(n > 0);
        assert_int_equal(batch.target_pages, n);
        body = finish(&batch);
        assert_int_equal(batch.target_pages, 0);
        assert_true(g_bytes_get_size(body) <= PAGES_HEAD_LEN + PAGES_PLAIN_MAX);
        assert_true(g_bytes_get_size(body) <= FRAME_PAGES_MAX);

        assert_body_holds(reader, blocks, body, pages, n);
        for (gint encoding = PAGES_ZSTD; encoding < PAGES_ENCODING_MAX; encoding++) {
            g_autoptr(GBytes) packed = pack_with(compressor, (PagesEncoding)encoding, body);

            if (packed) {
                assert_true(g_bytes_get_size(packed) < g_bytes_get_size(body));
                assert_body_holds(reader, blocks, packed, pages, n);
                assert_encoding(reader, (PagesEncoding)encoding, g_bytes_get_size(body));
            }
        }
        assert_body_holds(reader, blocks, body, pages, n);
    }
}

static void zero_pages_in_a_row_are_one_record(void **state)
{
    const QemuPage pages[] = {
        zero_page(0, 5, 0), zero_page(0, 6, 0), zero_page(0, 7, 0), /* 1 */
        zero_page(0, 9, 0),                                         /* 2: a gap */
        zero_page(0, 10, 1),                                        /* 3: another fill */
        zero_page(1, 11, 1), zero_page(1, 12, 1),                   /* 4: another block */
        zero_page(1, 12, 1),                                        /* 5: the same again */
        zero_page(1, 11, 1),                                        /* 6: backwards */
    };
    g_autoptr(RamBlocks) blocks = some_blocks(PAGE);
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_auto(PagesBatch) batch;
    g_autoptr(GBytes) body = NULL;

    pages_batch_init(&batch, 0);
    for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
        assert_true(pages_batch_add(&batch, &pages[i], PAGE));
    assert_int_equal(batch.target_pages, G_N_ELEMENTS(pages));
    body = finish(&batch);
    assert_int_equal(g_bytes_get_size(body), PAGES_HEAD_LEN + 6 * (PAGES_RECORD_HEAD_LEN + 4));
    assert_body_holds(reader, blocks, body, pages, G_N_ELEMENTS(pages));
}

/* Whole runs are put in and taken out at once, in pieces, between pages that come one by one. */
static void zero_pages_go_in_and_come_out_in_runs(void **state)
{
    const QemuPage first = zero_page(0, 3, 0), second = zero_page(0, 8, 0);
    const QemuPage last = zero_page(0, 10, 0);
    g_autoptr(RamBlocks) blocks = some_blocks(PAGE);
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_auto(PagesBatch) batch;
    g_autoptr(GBytes) body = NULL;
    gboolean more;
    QemuPage page;

    pages_batch_init(&batch, RESERVE);
    assert_int_equal(pages_batch_add_zeros(&batch, &first, 5, PAGE), 5);
    assert_int_equal(pages_batch_add_zeros(&batch, &second, 2, PAGE), 2);
    assert_true(pages_batch_add(&batch, &last, PAGE));
    assert_int_equal(batch.target_pages, 8);
    body = finish(&batch);
    assert_int_equal(g_bytes_get_size(body), PAGES_HEAD_LEN + PAGES_RECORD_HEAD_LEN + 4);

    assert_true(pages_reader_begin(reader, body, NULL));
    assert_int_equal(pages_reader_run_left(reader), 0);
    assert_true(pages_reader_next(reader, blocks, &page, &more, NULL) && more);
    assert_page_equal(&page, &first);
    assert_int_equal(pages_reader_run_left(reader), 7);
    pages_reader_skip(reader, 4);
    assert_true(pages_reader_next(reader, blocks, &page, &more, NULL) && more);
    assert_page_equal(&page, &second);
    pages_reader_skip(reader, pages_reader_run_left(reader));
    assert_true(pages_reader_next(reader, blocks, &page, &more, NULL));
    assert_false(more);
}

static void run_of_zero_pages_is_cut_at_the_limit(void **state)
{
    const QemuPage first = zero_page(0, 0, 0);
    const QemuPage more = zero_page(0, PAGES_TARGET_MAX, 0);
    g_auto(PagesBatch) batch;
    g_autoptr(GBytes) body = NULL;

    pages_batch_init(&batch, 0);
    assert_int_equal(pages_batch_add_zeros(&batch, &first, PAGES_TARGET_MAX + 7, PAGE),
                     PAGES_TARGET_MAX);
    assert_int_equal(pages_batch_add_zeros(&batch, &more, 7, PAGE), 0);
    assert_false(pages_batch_add(&batch, &more, PAGE));
    assert_int_equal(batch.target_pages, PAGES_TARGET_MAX);
    body = finish(&batch);
    assert_int_equal(pages_batch_add_zeros(&batch, &more, 7, PAGE), 7);
}

static void another_page_ends_a_run_of_zero_pages(void **state)
{
    static const guint8 data[PAGE] = { 1, 2, 3 };
    const QemuPage pages[] = { zero_page(0, 0, 0), raw_page(0, 1, data), zero_page(0, 2, 0),
                               zero_page(0, 3, 0) };
    g_autoptr(RamBlocks) blocks = some_blocks(PAGE);
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_auto(PagesBatch) batch;
    g_autoptr(GBytes) body = NULL;
    g_autoptr(GBytes) second = NULL;

    pages_batch_init(&batch, RESERVE);
    for (guint i = 0; i < 3; i++)
        assert_true(pages_batch_add(&batch, &pages[i], PAGE));
    body = finish(&batch);
    assert_body_holds(reader, blocks, body, pages, 3);

    /* So does the end of a batch. */
    assert_true(pages_batch_add(&batch, &pages[3], PAGE));
    second = finish(&batch);
    assert_body_holds(reader, blocks, second, &pages[3], 1);
}

static gsize length_of(PagesBatch *batch, const QemuPage *pages, guint n)
{
    g_autoptr(RamBlocks) blocks = some_blocks(PAGE);
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_autoptr(GBytes) body = NULL;

    for (guint i = 0; i < n; i++)
        assert_true(pages_batch_add(batch, &pages[i], PAGE));
    assert_int_equal(batch->target_pages, n);
    body = finish(batch);
    assert_body_holds(reader, blocks, body, pages, n);
    return g_bytes_get_size(body) - PAGES_HEAD_LEN;
}

static void raw_pages_in_a_row_are_one_record_with_runs(void **state)
{
    static guint8 data[16][PAGE];
    QemuPage pages[16];
    g_auto(PagesBatch) batch;

    for (guint i = 0; i < 16; i++) {
        memset(data[i], i + 1, PAGE);
        pages[i] = raw_page(0, i, data[i]);
    }
    pages_batch_init(&batch, RESERVE);
    assert_int_equal(length_of(&batch, pages, 2), 2 * (PAGES_RECORD_HEAD_LEN + PAGE));
    pages_batch_use_runs(&batch);
    /* One alone needs no count. */
    assert_int_equal(length_of(&batch, pages, 1), PAGES_RECORD_HEAD_LEN + PAGE);
    assert_int_equal(length_of(&batch, pages, 2), PAGES_RECORD_HEAD_LEN + 4 + 2 * PAGE);
    assert_int_equal(length_of(&batch, pages, 16), PAGES_RECORD_HEAD_LEN + 4 + 16 * PAGE);
    /* A gap, another block, the same again, and backwards. */
    pages[3].offset += PAGE;
    pages[7].block = 1;
    pages[10].offset = pages[9].offset;
    pages[13].offset = pages[12].offset - PAGE;
    assert_int_equal(length_of(&batch, pages, 16), /* 3, 1, 3, 1, 2, 1, 2, 1, 2 */
                     9 * PAGES_RECORD_HEAD_LEN + 5 * 4 + 16 * PAGE);
    /* Another kind. */
    pages[1].kind = QEMU_PAGE_COMPRESSED;
    assert_int_equal(length_of(&batch, pages, 3), 3 * PAGES_RECORD_HEAD_LEN + 4 + 3 * PAGE);
}

static void pages_of_a_run_lie_one_behind_the_other(void **state)
{
    static const guint8 data[PAGE];
    g_autoptr(RamBlocks) blocks = some_blocks(PAGE);
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_auto(PagesBatch) batch;
    g_autoptr(GBytes) body = NULL;
    QemuPage first, page;
    gboolean more;

    pages_batch_init(&batch, RESERVE);
    pages_batch_use_runs(&batch);
    for (guint i = 0; i < 5; i++)
        assert_true(pages_batch_add(&batch, &(QemuPage){ .offset = i * PAGE, .kind = QEMU_PAGE_RAW,
                                                         .data = data, .data_len = PAGE }, PAGE));
    body = finish(&batch);
    assert_true(pages_reader_begin(reader, body, NULL));
    assert_true(pages_reader_next(reader, blocks, &first, &more, NULL));
    for (guint i = 1; i < 5; i++) {
        assert_true(pages_reader_next(reader, blocks, &page, &more, NULL) && more);
        assert_ptr_equal(page.data, first.data + i * PAGE);
    }
}

static void full_batch_takes_no_more_until_it_is_finished(void **state)
{
    static const guint8 data[PAGE];
    g_auto(PagesBatch) batch;
    g_autoptr(GBytes) body = NULL;
    QemuPage zero;
    guint n = 0;

    pages_batch_init(&batch, RESERVE);
    while (pages_batch_add(&batch, &(QemuPage){ .offset = n * PAGE, .kind = QEMU_PAGE_RAW,
                                                .data = data, .data_len = PAGE }, PAGE))
        n++;
    assert_int_equal(n, PAGES_PLAIN_MAX / (PAGES_RECORD_HEAD_LEN + PAGE));
    assert_int_equal(batch.target_pages, n);
    /* What is small still fits. */
    for (guint i = 0; i < 1000; i++) {
        zero = zero_page(0, n + i, 0);
        assert_true(pages_batch_add(&batch, &zero, PAGE));
    }
    body = finish(&batch);
    assert_int_equal(g_bytes_get_size(body), PAGES_HEAD_LEN + n * (PAGES_RECORD_HEAD_LEN + PAGE) +
                                                 PAGES_RECORD_HEAD_LEN + 4);
    assert_true(pages_batch_add(&batch, &(QemuPage){ .kind = QEMU_PAGE_RAW, .data = data,
                                                     .data_len = PAGE }, PAGE));
}

static void batch_takes_bytes_up_to_the_limit_itself(void **state)
{
    static const guint8 data[PAGES_PLAIN_MAX];
    const QemuPage zero = zero_page(0, 0, 0);
    QemuPage rest = { .kind = QEMU_PAGE_COMPRESSED, .data = data,
                      .data_len = PAGES_PLAIN_MAX - 2 * (PAGES_RECORD_HEAD_LEN + 4) + 1 };
    g_auto(PagesBatch) batch;

    pages_batch_init(&batch, RESERVE);
    assert_true(pages_batch_add(&batch, &zero, PAGE));
    assert_false(pages_batch_add(&batch, &rest, PAGE));
    rest.data_len--;
    assert_true(pages_batch_add(&batch, &rest, PAGE));
    assert_int_equal(batch.len, PAGES_PLAIN_MAX);
    assert_int_equal(batch.target_pages, 2);
}

static void batch_keeps_room_in_front_and_only_the_memory_it_needs(void **state)
{
    static const guint8 data[PAGE] = { 7 };
    const QemuPage page = raw_page(0, 1, data);
    g_auto(PagesBatch) batch;
    g_autofree guint8 *bytes = NULL;
    gsize len;

    pages_batch_init(&batch, RESERVE);
    assert_true(pages_batch_add(&batch, &page, PAGE));
    assert_true(batch.capacity <= RESERVE + PAGES_HEAD_LEN + PAGES_RECORD_HEAD_LEN + PAGE);
    bytes = pages_batch_finish(&batch, &len);
    memset(bytes, 0xff, RESERVE); /* ours to write */
    assert_int_equal(len, PAGES_HEAD_LEN + PAGES_RECORD_HEAD_LEN + PAGE);
    assert_memory_equal(bytes + RESERVE + len - PAGE, data, PAGE);
    assert_null(batch.bytes);
}

/* ---- compression ---- */

static GBytes *page_body(guint32 seed, gboolean random)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_auto(PagesBatch) batch;
    guint8 data[PAGE];

    pages_batch_init(&batch, 0);
    for (guint i = 0; i < 4; i++) {
        const QemuPage page = raw_page(0, i, data);

        for (guint k = 0; k < PAGE; k++)
            data[k] = random ? g_rand_int(rand) : k;
        assert_true(pages_batch_add(&batch, &page, PAGE));
    }
    return finish(&batch);
}

static void what_does_not_get_smaller_is_not_compressed(void **state)
{
    g_autoptr(GBytes) random = page_body(1, TRUE);
    g_autoptr(GBytes) pattern = page_body(1, FALSE);

    for (gint i = PAGES_ZSTD; i < PAGES_ENCODING_MAX; i++) {
        g_autoptr(GBytes) packed = pack((PagesEncoding)i, pattern);

        assert_null(pack((PagesEncoding)i, random));
        assert_non_null(packed);
        assert_true(g_bytes_get_size(packed) < g_bytes_get_size(pattern) / 8);
    }
}

static void methods_have_names_features_and_an_order(void **state)
{
    static const struct {
        guint64 features;
        PagesEncoding best;
    } rows[] = {
        { 0, PAGES_PLAIN },
        { SESSION_FEATURE_RAM | SESSION_FEATURE_RESUME, PAGES_PLAIN },
        { SESSION_FEATURE_ZLIB, PAGES_ZLIB },
        { SESSION_FEATURE_ZSTD, PAGES_ZSTD },
        { SESSION_FEATURES_ALL, PAGES_ZSTD },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        assert_int_equal(pages_encoding_choose(rows[i].features), rows[i].best);
    for (gint i = PAGES_ZSTD; i < PAGES_ENCODING_MAX; i++) {
        PagesEncoding encoding = (PagesEncoding)i;
        const char *name = pages_encoding_name(encoding);

        assert_int_equal(pages_encoding_from_name(name), encoding);
        assert_true(pages_encoding_feature(encoding) == session_feature_from_name(name));
    }
    assert_int_equal(pages_encoding_from_name("none"), PAGES_ENCODING_MAX);
    assert_int_equal(pages_encoding_from_name("xbzrle"), PAGES_ENCODING_MAX);
    assert_string_equal(pages_encoding_name(PAGES_PLAIN), "none");
}

static void encoding_that_was_not_agreed_on_is_refused(void **state)
{
    g_autoptr(GBytes) plain = page_body(1, FALSE);

    for (gint i = PAGES_ZSTD; i < PAGES_ENCODING_MAX; i++) {
        PagesEncoding encoding = (PagesEncoding)i;
        g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
        g_autoptr(GBytes) packed = pack(encoding, plain);
        g_autoptr(GError) error = NULL;

        pages_reader_set_features(reader, pages_encoding_feature(encoding));
        assert_true(pages_reader_begin(reader, packed, NULL));
        pages_reader_set_features(reader, ~pages_encoding_feature(encoding));
        assert_false(pages_reader_begin(reader, packed, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
        assert_non_null(strstr(error->message, "was not agreed on"));
        assert_non_null(strstr(error->message, pages_encoding_name(encoding)));
        assert_true(pages_reader_begin(reader, plain, NULL));
    }
}

/* ---- bad PAGES ---- */

/* A PAGES body around these records, plain length as given. */
static GBytes *pages_body(guint8 encoding, guint32 plain_len, gconstpointer rest, gsize len)
{
    GByteArray *body = g_byte_array_new();

    bytes_put_u8(body, encoding);
    bytes_put_u8(body, 0);
    bytes_put_u16(body, 0);
    bytes_put_u32(body, plain_len);
    g_byte_array_append(body, rest, len);
    return g_byte_array_free_to_bytes(body);
}

static gboolean read_with(PagesReader *reader, GBytes *body, GError **error)
{
    g_autoptr(RamBlocks) blocks = some_blocks(PAGE);
    gboolean more = TRUE;
    QemuPage page;

    if (!pages_reader_begin(reader, body, error))
        return FALSE;
    while (more) {
        if (!pages_reader_next(reader, blocks, &page, &more, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean read_all(GBytes *body, GError **error)
{
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);

    return read_with(reader, body, error);
}

/* Takes body. */
static void assert_pages_refused(GBytes *body, const char *names)
{
    g_autoptr(GBytes) owned = body;
    g_autoptr(GError) error = NULL;

    assert_false(read_all(owned, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    if (!strstr(error->message, names) || !g_str_has_prefix(error->message, "PAGES: "))
        fail_msg("\"%s\" does not name \"%s\"", error->message, names);
}

static void bad_head_of_pages_is_refused_by_the_name_of_its_field(void **state)
{
    static const struct {
        guint8 bytes[12];
        gsize len;
        const char *names;
    } rows[] = {
        { { 0 }, 0, "encoding" },
        { { 0 }, 1, "reserved field needs" },
        { { 0 }, 3, "reserved field needs" },
        { { 0 }, 7, "plain length needs" },
        { { 3 }, 8, "encoding 3 is out of range (0 to 2)" },
        { { 255 }, 8, "encoding 255" },
        { { 0, 1 }, 8, "reserved fields are 0x01 and 0x0000" },
        { { 0, 0, 1, 2 }, 8, "reserved fields are 0x00 and 0x0102" },
        { { 0 }, 8, "plain length 0" },
        { { 1 }, 8, "plain length 0" },
        { { 0, 0, 0, 0, 0, 1, 0x04, 1 }, 8, "plain length 66561" },
        { { 1, 0, 0, 0, 0, 1, 0x04, 1 }, 8, "plain length 66561" },
        { { 1, 0, 0, 0, 255, 255, 255, 255 }, 8, "plain length 4294967295" },
        { { 2 }, 8, "plain length 0" },
        { { 2, 0, 0, 0, 0, 1, 0x04, 1 }, 8, "plain length 66561" },
        { { 2, 0, 0, 0, 0, 0, 0, 5 }, 8, "zlib data is cut off" },
        { { 2, 0, 0, 0, 0, 0, 0, 5, 0x78 }, 9, "zlib data is cut off" },
        { { 2, 0, 0, 0, 0, 0, 0, 5, 0x78, 0x9c }, 10, "zlib data is cut off" },
        { { 2, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4 }, 12, "incorrect header check" },
        { { 2, 0, 0, 0, 0, 0, 0, 5, 0x79, 0x18, 3, 4 }, 12, "unknown compression method" },
        { { 2, 0, 0, 0, 0, 0, 0, 5, 0x88, 0x1c, 3, 4 }, 12, "invalid window size" },
        /* gzip, and a stream that wants a dictionary */
        { { 2, 0, 0, 0, 0, 0, 0, 5, 0x1f, 0x8b, 8, 0 }, 12, "incorrect header check" },
        { { 2, 0, 0, 0, 0, 0, 0, 5, 0x78, 0x20, 3, 4 }, 12, "is cut off" },
        { { 0, 0, 0, 0, 0, 0, 0, 5 }, 12, "plain length is 5, but 4 bytes follow" },
        { { 0, 0, 0, 0, 0, 0, 0, 3 }, 12, "plain length is 3, but 4 bytes follow" },
        { { 1, 0, 0, 0, 0, 0, 0, 5 }, 8, "does not begin with a zstd frame" },
        { { 1, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4 }, 12, "does not begin with a zstd frame" },
        { { 1, 0, 0, 0, 0, 0, 0, 5, 0x28, 0xb5, 0x2f, 0xfd }, 12, "bad frame header" },
        /* an old format, and a frame that holds nothing */
        { { 1, 0, 0, 0, 0, 0, 0, 5, 0x27, 0xb5, 0x2f, 0xfd }, 12, "does not begin with a zstd" },
        { { 1, 0, 0, 0, 0, 0, 0, 5, 0x50, 0x2a, 0x4d, 0x18 }, 12, "does not begin with a zstd" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        assert_pages_refused(g_bytes_new(rows[i].bytes, rows[i].len), rows[i].names);
}

typedef struct {
    guint16 block;
    guint8 kind;
    guint8 fill;
    guint64 offset;
    guint32 value; /* count or length */
    gsize data;    /* bytes after it */
    gsize cut;     /* so many bytes of that are missing at the end */
} Record;

static void put_record(GByteArray *out, const Record *record)
{
    static const guint8 data[16 * PAGE];

    bytes_put_u16(out, record->block);
    bytes_put_u8(out, record->kind);
    bytes_put_u8(out, record->fill);
    bytes_put_u64(out, record->offset);
    if (record->kind != QEMU_PAGE_RAW)
        bytes_put_u32(out, record->value);
    g_byte_array_append(out, data, record->data);
    g_byte_array_set_size(out, out->len - record->cut);
}

static const struct {
    Record record;
    const char *names; /* NULL: it is good */
} records[] = {
    { { 0, QEMU_PAGE_RAW, 0, 0, 0, PAGE, 0 }, NULL },
    { { 0, QEMU_PAGE_ZERO, 9, PAGE, 1, 0, 0 }, NULL },
    { { 1, QEMU_PAGE_COMPRESSED, 0, PAGE, 1, 1, 0 }, NULL },
    { { 1, QEMU_PAGE_ZERO, 0, 0, 256, 0, 0 }, NULL },
    { { 0, PAGES_KIND_RUN, 0, 0, 2, 2 * PAGE, 0 }, NULL },
    { { 0, PAGES_KIND_RUN, 0, 0, 16, 16 * PAGE, 0 }, NULL },
    { { 0, QEMU_PAGE_RAW, 0, 0, 0, 0, 1 }, "record head" },
    { { 0, QEMU_PAGE_RAW, 0, 0, 0, 0, 11 }, "record head" },
    { { 0, QEMU_PAGE_RAW, 0, 0, 0, PAGE, 1 }, "record page needs" },
    { { 0, QEMU_PAGE_RAW, 0, 0, 0, PAGE + 1, 0 }, "record head" },
    { { 0, QEMU_PAGE_RAW, 1, 0, 0, PAGE, 0 }, "record fill is 0x01" },
    { { 0, QEMU_PAGE_COMPRESSED, 1, 0, 1, 1, 0 }, "record fill is 0x01" },
    { { 0, QEMU_PAGE_XBZRLE, 0, 0, 1, 1, 0 }, "record kind 2 was not agreed on" },
    { { 0, PAGES_KIND_RUN + 1, 0, 0, 1, 1, 0 }, "record kind 5 is unknown" },
    { { 0, 255, 0, 0, 1, 1, 0 }, "record kind 255" },
    { { 0, QEMU_PAGE_ZERO, 0, 0, 0, 0, 0 }, "record page count is 0" },
    { { 0, QEMU_PAGE_ZERO, 0, 0, 1, 0, 1 }, "record page count needs" },
    { { 0, PAGES_KIND_RUN, 1, 0, 2, 2 * PAGE, 0 }, "record fill is 0x01" },
    { { 0, PAGES_KIND_RUN, 0, 0, 0, 0, 0 }, "record page count is 0: a run has" },
    { { 0, PAGES_KIND_RUN, 0, 0, 1, PAGE, 0 }, "record page count is 1: a run has" },
    { { 0, PAGES_KIND_RUN, 0, 0, 2, 0, 1 }, "record page count needs" },
    { { 0, PAGES_KIND_RUN, 0, 0, 2, 2 * PAGE, 1 }, "record pages needs" },
    { { 0, PAGES_KIND_RUN, 0, 0, G_MAXUINT32, PAGE, 0 }, "record pages needs" },
    { { 0, PAGES_KIND_RUN, 0, 64 * 1024 * 1024 - PAGE, 2, 2 * PAGE, 0 }, "outside of RAM block 'pc.ram'" },
    { { 0, QEMU_PAGE_COMPRESSED, 0, 0, 0, 0, 0 }, "record length is 0" },
    { { 0, QEMU_PAGE_COMPRESSED, 0, 0, 1, 0, 1 }, "record length needs" },
    { { 0, QEMU_PAGE_COMPRESSED, 0, 0, 2, 1, 0 }, "record data needs" },
    { { 0, QEMU_PAGE_COMPRESSED, 0, 0, G_MAXUINT32, 10, 0 }, "record data needs" },
    /* the block and its range */
    { { 3, QEMU_PAGE_ZERO, 0, 0, 1, 0, 0 }, "no RAM block 3" },
    { { 65535, QEMU_PAGE_RAW, 0, 0, 0, PAGE, 0 }, "no RAM block 65535" },
    { { 0, QEMU_PAGE_ZERO, 0, 1, 1, 0, 0 }, "multiples of 4096" },
    { { 0, QEMU_PAGE_RAW, 0, 64 * 1024 * 1024, 0, PAGE, 0 }, "outside of RAM block 'pc.ram'" },
    { { 1, QEMU_PAGE_ZERO, 0, 0, 257, 0, 0 }, "outside of RAM block 'vga.vram'" },
    { { 1, QEMU_PAGE_ZERO, 0, 255 * PAGE, 2, 0, 0 }, "outside of RAM block 'vga.vram'" },
    { { 0, QEMU_PAGE_ZERO, 0, 0, PAGES_TARGET_MAX + 1, 0, 0 }, "record page count is 16385" },
    { { 0, QEMU_PAGE_ZERO, 0, 0, G_MAXUINT32, 0, 0 }, "record page count is 4294967295" },
    { { 0, QEMU_PAGE_ZERO, 0, G_MAXUINT64 - PAGE + 1, 2, 0, 0 }, "outside of RAM block 'pc.ram'" },
    { { 2, QEMU_PAGE_ZERO, 0, G_MAXUINT64 - PAGE + 1, 2, 0, 0 }, "outside of RAM block '/rom" },
};

static void bad_record_is_refused_by_the_name_of_its_field(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(records); i++) {
        /* Behind a good one: what was read before must not matter. */
        for (guint before = 0; before < 2; before++) {
            g_autoptr(GByteArray) out = g_byte_array_new();
            GBytes *body;

            if (before)
                put_record(out, &(Record){ 0, QEMU_PAGE_ZERO, 0, 0, 3, 0, 0 });
            put_record(out, &records[i].record);
            body = pages_body(PAGES_PLAIN, out->len, out->data, out->len);
            if (records[i].names) {
                assert_pages_refused(body, records[i].names);
            } else {
                assert_true(read_all(body, NULL));
                g_bytes_unref(body);
            }
        }
    }
}

static void run_that_was_not_agreed_on_is_refused(void **state)
{
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) body = NULL;
    g_autoptr(GError) error = NULL;

    put_record(out, &(Record){ 0, PAGES_KIND_RUN, 0, 0, 2, 2 * PAGE, 0 });
    body = pages_body(PAGES_PLAIN, out->len, out->data, out->len);
    pages_reader_set_features(reader, SESSION_FEATURE_RUNS);
    assert_true(read_with(reader, body, NULL));
    pages_reader_set_features(reader, ~SESSION_FEATURE_RUNS);
    assert_false(read_with(reader, body, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
    assert_non_null(strstr(error->message, "record kind 4 was not agreed on"));
}

static void zero_pages_of_one_body_are_limited(void **state)
{
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_auto(PagesBatch) batch;
    g_autoptr(GBytes) body = NULL;
    QemuPage zero;

    pages_batch_init(&batch, RESERVE);
    for (guint i = 0; i < PAGES_TARGET_MAX; i++) {
        zero = zero_page(0, i, 0);
        assert_true(pages_batch_add(&batch, &zero, PAGE));
    }
    zero = zero_page(2, 0, 0);
    assert_false(pages_batch_add(&batch, &zero, PAGE));
    body = finish(&batch);
    assert_true(pages_batch_add(&batch, &zero, PAGE));
    /* Each body anew. */
    assert_true(read_with(reader, body, NULL));
    assert_true(read_with(reader, body, NULL));

    /* In two runs, each within the limit. */
    put_record(out, &(Record){ 0, QEMU_PAGE_ZERO, 0, 0, PAGES_TARGET_MAX - 1, 0, 0 });
    put_record(out, &(Record){ 2, QEMU_PAGE_ZERO, 0, 0, 2, 0, 0 });
    assert_pages_refused(pages_body(PAGES_PLAIN, out->len, out->data, out->len),
                         "record page count is 2");
}

static GBytes *zstd_frame(gconstpointer plain, gsize len, gboolean tell_size)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    gsize bound = ZSTD_compressBound(len);
    guint8 *out = g_malloc(bound);
    size_t n;

    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, tell_size);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    n = ZSTD_compress2(context, out, bound, plain, len);
    assert_false(ZSTD_isError(n));
    ZSTD_freeCCtx(context);
    return g_bytes_new_take(out, n);
}

/* A PAGES body around a zstd frame of `len` zeros, with bytes more or fewer at its end. */
static GBytes *zstd_body(guint32 plain_len, gsize len, gboolean tell_size, int extra)
{
    g_autofree guint8 *plain = g_malloc0(MAX(len, 1));
    g_autoptr(GBytes) frame = zstd_frame(plain, len, tell_size);
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    g_byte_array_append(bytes, g_bytes_get_data(frame, NULL), g_bytes_get_size(frame));
    g_byte_array_set_size(bytes, bytes->len + extra);
    if (extra > 0)
        memset(bytes->data + bytes->len - extra, 0, extra);
    return pages_body(PAGES_ZSTD, plain_len, bytes->data, bytes->len);
}

static void bad_zstd_data_is_refused(void **state)
{
    g_autoptr(GBytes) good = zstd_body(12 + PAGE, 12 + PAGE, TRUE, 0);
    g_autofree guint8 *wrong_sum = g_malloc(g_bytes_get_size(good));
    gsize len = g_bytes_get_size(good);

    assert_true(read_all(good, NULL));
    assert_pages_refused(zstd_body(100, 101, TRUE, 0), "101 plain bytes, plain length is 100");
    assert_pages_refused(zstd_body(101, 100, TRUE, 0), "100 plain bytes, plain length is 101");
    assert_pages_refused(zstd_body(100, 1 << 30, TRUE, 0), "1073741824 plain bytes");
    assert_pages_refused(zstd_body(100, 0, TRUE, 0), "0 plain bytes");
    assert_pages_refused(zstd_body(100, 100, FALSE, 0), "does not tell its plain length");
    assert_pages_refused(zstd_body(100, 100, TRUE, 1), "1 bytes too many");
    assert_pages_refused(zstd_body(100, 100, TRUE, 40), "40 bytes too many");
    assert_pages_refused(zstd_body(100, 100, TRUE, -1), "damaged");
    assert_pages_refused(zstd_body(100, 100, TRUE, -6), "damaged");
    /* A frame that is well-formed and holds no records. */
    assert_pages_refused(zstd_body(10, 10, TRUE, 0), "record head");

    memcpy(wrong_sum, g_bytes_get_data(good, NULL), len);
    wrong_sum[len - 1] ^= 1;
    assert_pages_refused(g_bytes_new(wrong_sum, len), "damaged");
}

/* How a zlib stream is made: what makes it a bad one. */
typedef struct {
    gsize len;      /* of zeros in it */
    int window_bits; /* 0: as it should be */
    gboolean dictionary;
    int extra;      /* bytes more or fewer at its end */
} Zlib;

static GBytes *zlib_stream(const Zlib *how)
{
    g_autofree guint8 *plain = g_malloc0(MAX(how->len, 1));
    z_stream stream = { .next_in = plain, .avail_in = how->len };
    g_autoptr(GByteArray) out = g_byte_array_new();

    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, how->window_bits ? how->window_bits : 15,
                                  8, Z_DEFAULT_STRATEGY), Z_OK);
    if (how->dictionary)
        assert_int_equal(deflateSetDictionary(&stream, (const Bytef *)"postcopy", 8), Z_OK);
    g_byte_array_set_size(out, deflateBound(&stream, how->len));
    stream.next_out = out->data;
    stream.avail_out = out->len;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    g_byte_array_set_size(out, out->len - stream.avail_out + how->extra);
    if (how->extra > 0)
        memset(out->data + out->len - how->extra, 0, how->extra);
    deflateEnd(&stream);
    return g_bytes_new(out->data, out->len);
}

static GBytes *zlib_body(guint32 plain_len, Zlib how)
{
    g_autoptr(GBytes) stream = zlib_stream(&how);

    return pages_body(PAGES_ZLIB, plain_len, g_bytes_get_data(stream, NULL),
                      g_bytes_get_size(stream));
}

static void bad_zlib_data_is_refused(void **state)
{
    g_autoptr(GBytes) good = zlib_body(12 + PAGE, (Zlib){ 12 + PAGE });
    g_autofree guint8 *wrong_sum = g_malloc(g_bytes_get_size(good));
    gsize len = g_bytes_get_size(good);

    assert_true(read_all(good, NULL));
    assert_pages_refused(zlib_body(100, (Zlib){ 101 }), "more plain bytes than plain length, 100");
    assert_pages_refused(zlib_body(101, (Zlib){ 100 }), "100 plain bytes, plain length is 101");
    /* A bomb is not unpacked further than that, and nothing is allocated for it. */
    assert_pages_refused(zlib_body(100, (Zlib){ 16 << 20 }), "more plain bytes");
    assert_pages_refused(zlib_body(PAGES_PLAIN_MAX, (Zlib){ 16 << 20 }), "more plain bytes");
    assert_pages_refused(zlib_body(100, (Zlib){ 0 }), "0 plain bytes, plain length is 100");
    assert_pages_refused(zlib_body(100, (Zlib){ 100, .extra = 1 }), "1 bytes too many");
    assert_pages_refused(zlib_body(100, (Zlib){ 100, .extra = 40 }), "40 bytes too many");
    for (int cut = 1; cut <= 8; cut++)
        assert_pages_refused(zlib_body(100, (Zlib){ 100, .extra = -cut }), "is cut off");
    assert_pages_refused(zlib_body(100, (Zlib){ 100, .window_bits = -15 }), "damaged: ");
    assert_pages_refused(zlib_body(100, (Zlib){ 100, .window_bits = 31 }), "incorrect header");
    assert_pages_refused(zlib_body(100, (Zlib){ 100, .dictionary = TRUE }), "needs a dictionary");
    /* A stream that is well-formed and holds no records. */
    assert_pages_refused(zlib_body(10, (Zlib){ 10 }), "record head");

    memcpy(wrong_sum, g_bytes_get_data(good, NULL), len);
    wrong_sum[len - 1] ^= 1;
    assert_pages_refused(g_bytes_new(wrong_sum, len), "incorrect data check");
}

/* Whatever was wrong with the one before. */
static void unpacker_can_be_used_again_after_bad_data(void **state)
{
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_autoptr(GBytes) zlib = zlib_body(12 + PAGE, (Zlib){ 12 + PAGE });
    g_autoptr(GBytes) zstd = zstd_body(12 + PAGE, 12 + PAGE, TRUE, 0);
    const Zlib bad[] = { { 101 }, { 99 }, { 100, .extra = -3 }, { 100, .extra = 9 },
                         { 100, .dictionary = TRUE } };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GBytes) body = zlib_body(100, bad[i]);

        assert_false(read_with(reader, body, NULL));
        assert_true(read_with(reader, zlib, NULL));
        assert_true(read_with(reader, zstd, NULL));
    }
}

static void assert_nothing_to_read(PagesReader *reader, const RamBlocks *blocks)
{
    gboolean more;
    QemuPage page;

    assert_true(pages_reader_next(reader, blocks, &page, &more, NULL));
    assert_false(more);
}

static void new_body_takes_the_place_of_one_that_was_not_read_to_its_end(void **state)
{
    static const guint8 data[PAGE] = { 9 };
    const QemuPage pages[] = { zero_page(0, 1, 0), zero_page(0, 2, 0), raw_page(0, 3, data) };
    g_autoptr(RamBlocks) blocks = some_blocks(PAGE);
    g_autoptr(PagesReader) reader = pages_reader_new(PAGE);
    g_autoptr(GBytes) bad = pages_body(7, 0, NULL, 0);
    g_autoptr(GBytes) good = NULL;
    g_auto(PagesBatch) batch;
    gboolean more;
    QemuPage got;

    pages_batch_init(&batch, 0);
    for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
        assert_true(pages_batch_add(&batch, &pages[i], PAGE));
    good = finish(&batch);

    assert_nothing_to_read(reader, blocks);
    assert_false(pages_reader_begin(reader, bad, NULL));
    assert_nothing_to_read(reader, blocks);

    /* Left in the middle of a run, with a record behind it. */
    assert_true(pages_reader_begin(reader, good, NULL));
    assert_true(pages_reader_next(reader, blocks, &got, &more, NULL));
    assert_false(pages_reader_begin(reader, bad, NULL));
    assert_nothing_to_read(reader, blocks);

    assert_true(pages_reader_begin(reader, good, NULL));
    assert_true(pages_reader_next(reader, blocks, &got, &more, NULL));
    assert_body_holds(reader, blocks, good, pages, G_N_ELEMENTS(pages));
}

/* ---- BLOCKS ---- */

static void blocks_come_out_in_their_order(void **state)
{
    g_autoptr(RamBlocks) blocks = some_blocks(16384);
    g_autoptr(RamBlocks) back = ram_blocks_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) body = NULL;
    guint32 section;

    assert_true(blocks_body_encode(out, blocks, SECTION, FRAME_PAGES_MAX));
    body = g_bytes_new(out->data, out->len);
    assert_true(blocks_body_decode(body, back, &section, NULL));
    assert_int_equal(section, SECTION);
    assert_int_equal(ram_blocks_target_page(back), 16384);
    assert_int_equal(ram_blocks_count(back), ram_blocks_count(blocks));
    for (guint i = 0; i < ram_blocks_count(blocks); i++) {
        const RamBlock *want = ram_blocks_get(blocks, i);
        const RamBlock *got = ram_blocks_get(back, i);

        assert_string_equal(got->name, want->name);
        assert_true(got->length == want->length && got->page_size == want->page_size);
    }
}

static void blocks_that_do_not_fit_are_not_written(void **state)
{
    g_autoptr(RamBlocks) blocks = some_blocks(PAGE);
    g_autoptr(GByteArray) whole = g_byte_array_new();
    g_autoptr(GByteArray) out = g_byte_array_new();

    assert_true(blocks_body_encode(whole, blocks, SECTION, FRAME_PAGES_MAX));
    assert_false(blocks_body_encode(out, blocks, SECTION, whole->len - 1));
    assert_int_equal(out->len, 0);
    assert_true(blocks_body_encode(out, blocks, SECTION, whole->len));
    assert_int_equal(out->len, whole->len);
}

typedef struct {
    guint64 length, page_size;
    guint8 name_len;
    const char *name;
} BlockRow;

static const struct {
    guint32 target_page;
    guint16 count;
    BlockRow block[2];
    int extra; /* bytes more or fewer */
    const char *names; /* NULL: it is good */
} bad_blocks[] = {
    { PAGE, 1, { { PAGE, PAGE, 1, "a" } }, 0, NULL },
    { PAGE, 0, { { 0 } }, 0, NULL },
    { PAGE, 1, { { 0, 0, 1, "a" } }, 0, NULL },
    { 0, 0, { { 0 } }, 0, "target page" },
    { 512, 0, { { 0 } }, 0, "target page" },
    { 4097, 0, { { 0 } }, 0, "target page" },
    { 2 * RAM_TARGET_PAGE_MAX, 0, { { 0 } }, 0, "target page" },
    { PAGE, 0, { { 0 } }, -1, "number of blocks needs" },
    { PAGE, 0, { { 0 } }, -3, "target page needs" },
    { PAGE, 0, { { 0 } }, -7, "section needs" },
    { PAGE, 0, { { 0 } }, 1, "1 bytes too many" },
    { PAGE, RAM_BLOCKS_MAX + 1, { { 0 } }, 0, "number of blocks 4097" },
    { PAGE, 65535, { { 0 } }, 0, "number of blocks 65535" },
    { PAGE, 2, { { PAGE, PAGE, 1, "a" } }, 0, "block 1: block length needs" },
    { PAGE, 1, { { PAGE, PAGE, 1, "a" } }, -1, "block 0: block name needs" },
    { PAGE, 1, { { PAGE, PAGE, 1, "a" } }, -2, "block 0: block name length needs" },
    { PAGE, 1, { { PAGE, PAGE, 1, "a" } }, -3, "block 0: block host page needs" },
    { PAGE, 1, { { PAGE, PAGE, 1, "a" } }, 1, "1 bytes too many" },
    { PAGE, 1, { { PAGE, PAGE, 0, "" } }, 0, "block 0: RAM block name of 0 bytes" },
    { PAGE, 1, { { PAGE, PAGE, 3, "a\0b" } }, 0, "block 0: RAM block name of 3 bytes" },
    { PAGE, 1, { { PAGE + 1, PAGE, 1, "a" } }, 0, "block 0: RAM block 'a': length 4097" },
    { PAGE, 1, { { PAGE, PAGE + 1, 1, "a" } }, 0, "block 0: RAM block 'a': page size 4097" },
    { PAGE, 1, { { PAGE, 1024, 1, "a" } }, 0, "block 0: RAM block 'a': page size 1024" },
    { PAGE, 1, { { PAGE, G_GUINT64_CONSTANT(1) << 41, 1, "a" } }, 0, "page size 2199023255552" },
    { PAGE, 2, { { PAGE, PAGE, 1, "a" }, { PAGE, PAGE, 1, "a" } }, 0, "block 1 has the name of" },
};

static void bad_blocks_are_refused_by_the_name_of_their_field(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_blocks); i++) {
        g_autoptr(RamBlocks) blocks = ram_blocks_new();
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(GBytes) body = NULL;
        g_autoptr(GError) error = NULL;
        guint32 section;

        bytes_put_u32(out, SECTION);
        bytes_put_u32(out, bad_blocks[i].target_page);
        bytes_put_u16(out, bad_blocks[i].count);
        for (guint k = 0; k < 2 && bad_blocks[i].block[k].name; k++) {
            const BlockRow *row = &bad_blocks[i].block[k];

            bytes_put_u64(out, row->length);
            bytes_put_u64(out, row->page_size);
            bytes_put_u8(out, row->name_len);
            g_byte_array_append(out, (const guint8 *)row->name, row->name_len);
        }
        g_byte_array_set_size(out, out->len + bad_blocks[i].extra);
        body = g_bytes_new(out->data, out->len);

        assert_int_equal(blocks_body_decode(body, blocks, &section, &error),
                         bad_blocks[i].names == NULL);
        if (!bad_blocks[i].names)
            continue;
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
        if (!strstr(error->message, bad_blocks[i].names) ||
            !g_str_has_prefix(error->message, "BLOCKS: "))
            fail_msg("\"%s\" does not name \"%s\"", error->message, bad_blocks[i].names);
    }
}

/* ---- the small ones ---- */

static void small_bodies_come_out_as_they_went_in(void **state)
{
    const RamEnd end = { G_MAXUINT64 - 1, 77, 0, { 0 } };
    const RamEnd bulk_end = { 1, 0, 16, { 5, 0, [15] = G_MAXUINT64 } };
    const PageRequest request = { 65535, G_MAXUINT64 - PAGE, PAGE };
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) end_body = NULL;
    g_autoptr(GBytes) bulk_body = NULL;
    g_autoptr(GBytes) request_body = NULL;
    RamEnd end_back;
    PageRequest request_back;

    ram_end_body_encode(out, &end);
    end_body = g_byte_array_free_to_bytes(out);
    assert_true(ram_end_body_decode(end_body, &end_back, NULL));
    assert_true(end_back.pages == end.pages && end_back.preempt_seq == end.preempt_seq);
    assert_int_equal(end_back.n_bulk, 0);
    assert_int_equal(g_bytes_get_size(end_body), 16);

    out = g_byte_array_new();
    ram_end_body_encode(out, &bulk_end);
    bulk_body = g_byte_array_free_to_bytes(out);
    assert_true(ram_end_body_decode(bulk_body, &end_back, NULL));
    assert_memory_equal(&end_back, &bulk_end, sizeof end_back);

    out = g_byte_array_new();
    request_body_encode(out, &request);
    request_body = g_byte_array_free_to_bytes(out);
    assert_true(request_body_decode(request_body, &request_back, NULL));
    assert_true(request_back.block == request.block && request_back.start == request.start &&
                request_back.length == request.length);
}

static void only_known_phases_and_channel_events_are_accepted(void **state)
{
    for (guint value = 0; value < 256; value++) {
        g_autoptr(GByteArray) phase_out = g_byte_array_new();
        g_autoptr(GByteArray) event_out = g_byte_array_new();
        g_autoptr(GBytes) phase_body = NULL;
        g_autoptr(GBytes) event_body = NULL;
        RamPhase phase;
        QemuChannelEvent event;

        phase_body_encode(phase_out, value);
        phase_body = g_bytes_new(phase_out->data, phase_out->len);
        assert_int_equal(phase_body_decode(phase_body, &phase, NULL),
                         value >= RAM_PHASE_ADVISE && value <= RAM_PHASE_RUNNING);
        if (value >= RAM_PHASE_ADVISE && value <= RAM_PHASE_RUNNING)
            assert_int_equal(phase, value);

        qemu_channel_body_encode(event_out, value);
        event_body = g_bytes_new(event_out->data, event_out->len);
        assert_int_equal(qemu_channel_body_decode(event_body, &event, NULL),
                         value >= QEMU_CHANNEL_OPENED && value <= QEMU_CHANNEL_CLOSED);
        if (value >= QEMU_CHANNEL_OPENED && value <= QEMU_CHANNEL_CLOSED)
            assert_int_equal(event, value);
    }
}

static gboolean decode_phase(GBytes *body, GError **error)
{
    RamPhase phase;

    return phase_body_decode(body, &phase, error);
}

static gboolean decode_event(GBytes *body, GError **error)
{
    QemuChannelEvent event;

    return qemu_channel_body_decode(body, &event, error);
}

static gboolean decode_end(GBytes *body, GError **error)
{
    RamEnd end;

    return ram_end_body_decode(body, &end, error);
}

static gboolean decode_request(GBytes *body, GError **error)
{
    PageRequest request;

    return request_body_decode(body, &request, error);
}

static void bad_small_bodies_are_refused_by_the_name_of_their_field(void **state)
{
    static const struct {
        gboolean (*decode)(GBytes *body, GError **error);
        guint8 bytes[150];
        gsize len;
        const char *says;
    } rows[] = {
        { decode_phase, { 0 }, 0, "PHASE: value needs" },
        { decode_phase, { 1 }, 2, "PHASE: 1 bytes too many" },
        { decode_phase, { 0 }, 1, "PHASE: value 0 is out of range (1 to 3)" },
        { decode_phase, { 4 }, 1, "PHASE: value 4" },
        { decode_event, { 0 }, 0, "QEMU_CHANNEL: value needs" },
        { decode_event, { 1 }, 2, "QEMU_CHANNEL: 1 bytes too many" },
        { decode_event, { 4 }, 1, "QEMU_CHANNEL: value 4" },
        { decode_end, { 0 }, 7, "RAM_END: number of pages needs" },
        { decode_end, { 0 }, 15, "RAM_END: preempt sequence needs" },
        { decode_end, { 0 }, 17, "RAM_END: bulk sequence needs" },
        { decode_end, { 0 }, 16 + 23, "RAM_END: bulk sequence needs" },
        { decode_end, { 0 }, 16 + 129, "RAM_END: 1 bytes too many" },
        { decode_request, { 0 }, 1, "REQUEST: block needs" },
        { decode_request, { 0 }, 3, "REQUEST: reserved field needs" },
        { decode_request, { 0 }, 7, "REQUEST: length needs" },
        { decode_request, { 0 }, 15, "REQUEST: start needs" },
        { decode_request, { 0, 0, 0, 0, 1 }, 17, "REQUEST: 1 bytes too many" },
        { decode_request, { 0, 0, 1, 0, 1 }, 16, "REQUEST: reserved field is 0x0100" },
        { decode_request, { 0 }, 16, "REQUEST: length is 0" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GBytes) body = g_bytes_new(rows[i].bytes, rows[i].len);
        g_autoptr(GError) error = NULL;

        assert_false(rows[i].decode(body, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
        if (!g_str_has_prefix(error->message, rows[i].says))
            fail_msg("\"%s\" does not begin \"%s\"", error->message, rows[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_batches_come_out_as_they_went_in),
        cmocka_unit_test(zero_pages_in_a_row_are_one_record),
        cmocka_unit_test(zero_pages_go_in_and_come_out_in_runs),
        cmocka_unit_test(run_of_zero_pages_is_cut_at_the_limit),
        cmocka_unit_test(another_page_ends_a_run_of_zero_pages),
        cmocka_unit_test(raw_pages_in_a_row_are_one_record_with_runs),
        cmocka_unit_test(pages_of_a_run_lie_one_behind_the_other),
        cmocka_unit_test(run_that_was_not_agreed_on_is_refused),
        cmocka_unit_test(full_batch_takes_no_more_until_it_is_finished),
        cmocka_unit_test(batch_takes_bytes_up_to_the_limit_itself),
        cmocka_unit_test(zero_pages_of_one_body_are_limited),
        cmocka_unit_test(batch_keeps_room_in_front_and_only_the_memory_it_needs),
        cmocka_unit_test(what_does_not_get_smaller_is_not_compressed),
        cmocka_unit_test(methods_have_names_features_and_an_order),
        cmocka_unit_test(encoding_that_was_not_agreed_on_is_refused),
        cmocka_unit_test(bad_head_of_pages_is_refused_by_the_name_of_its_field),
        cmocka_unit_test(bad_record_is_refused_by_the_name_of_its_field),
        cmocka_unit_test(bad_zstd_data_is_refused),
        cmocka_unit_test(bad_zlib_data_is_refused),
        cmocka_unit_test(unpacker_can_be_used_again_after_bad_data),
        cmocka_unit_test(new_body_takes_the_place_of_one_that_was_not_read_to_its_end),
        cmocka_unit_test(blocks_come_out_in_their_order),
        cmocka_unit_test(blocks_that_do_not_fit_are_not_written),
        cmocka_unit_test(bad_blocks_are_refused_by_the_name_of_their_field),
        cmocka_unit_test(small_bodies_come_out_as_they_went_in),
        cmocka_unit_test(only_known_phases_and_channel_events_are_accepted),
        cmocka_unit_test(bad_small_bodies_are_refused_by_the_name_of_their_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
