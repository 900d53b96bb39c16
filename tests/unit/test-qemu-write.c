/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the writer writes is what the readers read, and byte for byte what QEMU writes. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/qemu_write.h"
#include "util/bytes.h"

#define RAM_ID 2
#define PAGE RAM_TARGET_PAGE_DEFAULT
#define LARGE (2 * 1024 * 1024)

static RamBlocks *sample_blocks(void)
{
    RamBlocks *blocks = ram_blocks_new();

    assert_true(ram_blocks_add(blocks, (const guint8 *)"pc.ram", 6, 4 * LARGE, LARGE, NULL, NULL));
    assert_true(ram_blocks_add(blocks, (const guint8 *)"pc.rom", 6, 8 * PAGE, PAGE, NULL, NULL));
    assert_true(ram_blocks_add(blocks, (const guint8 *)"/rom@x", 6, PAGE, 0, NULL, NULL));
    return blocks;
}

static void put_page(GByteArray *out, const RamBlocks *blocks, const QemuPage *page, gboolean named)
{
    qemu_put_page(out, page, named ? ram_blocks_get(blocks, page->block) : NULL);
    if (page->data_len > 0)
        g_byte_array_append(out, page->data, page->data_len);
}

static void put_ping(GByteArray *out, guint8 value)
{
    const guint8 payload[4] = { 0, 0, 0, value };

    qemu_put_command(out, QEMU_CMD_PING, payload, sizeof payload);
}

static void put_advise(GByteArray *out, guint64 page_sizes)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    bytes_put_u64(payload, page_sizes);
    bytes_put_u64(payload, PAGE);
    qemu_put_command(out, QEMU_CMD_POSTCOPY_ADVISE, payload->data, payload->len);
}

static guint8 *page_data(guint seed)
{
    guint8 *data = g_malloc(PAGE);

    for (gsize i = 0; i < PAGE; i++)
        data[i] = seed + i / 7;
    return data;
}

/* -- reading back -------------------------------------------------------------------------- */

static const char *const page_kinds[QEMU_PAGE_KIND_MAX] = {
    [QEMU_PAGE_RAW] = "raw",
    [QEMU_PAGE_ZERO] = "zero",
    [QEMU_PAGE_XBZRLE] = "xbzrle",
    [QEMU_PAGE_COMPRESSED] = "compressed",
};

static void note_page(GString *said, const QemuPage *page)
{
    guint sum = 0;

    for (gsize i = 0; i < page->data_len; i++)
        sum = sum * 31 + page->data[i];
    g_string_append_printf(said, "PAGE %u 0x%" G_GINT64_MODIFIER "x %s", page->block, page->offset,
                           page_kinds[page->kind]);
    if (page->kind == QEMU_PAGE_ZERO)
        g_string_append_printf(said, " %u\n", page->fill);
    else
        g_string_append_printf(said, " %zu %08x\n", page->data_len, sum);
}

static void note_event(GString *said, const RamBlocks *blocks, const QemuEvent *event)
{
    const RamBlock *block;

    if (event->type == QEMU_EV_PAGE) {
        note_page(said, &event->page);
        return;
    }
    g_string_append(said, qemu_event_name(event->type));
    switch (event->type) {
    case QEMU_EV_CONFIGURATION:
        g_string_append_printf(said, " %s", event->name);
        break;
    case QEMU_EV_SECTION:
        g_string_append_printf(said, " %d %u %s", event->section.kind, event->section.id,
                               event->section.is_ram ? "ram" : "other");
        break;
    case QEMU_EV_BLOCK:
        block = ram_blocks_get(blocks, event->block);
        g_string_append_printf(said, " %s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, block->name,
                               block->length, ram_blocks_host_page(blocks, event->block));
        break;
    case QEMU_EV_UNKNOWN:
        g_string_append_printf(said, ": %s", event->text);
        break;
    case QEMU_EV_HEADER:
    case QEMU_EV_MEM_SIZE:
    case QEMU_EV_FOOTER:
    case QEMU_EV_COMMAND:
        g_string_append_printf(said, " %" G_GUINT64_FORMAT, event->value);
        break;
    default: /* has nothing more to say */
        break;
    }
    g_string_append_c(said, '\n');
}

/* Reads a stream in pieces of at most `most` bytes, without its last `cut`; says what was in it. */
static char *read_stream(const GByteArray *in, gsize most, gsize cut)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    g_autoptr(QemuStream) stream = qemu_stream_new(blocks);
    g_autoptr(GRand) rand = g_rand_new_with_seed(most);
    g_autoptr(GString) said = g_string_new(NULL);
    g_autoptr(GByteArray) raw = g_byte_array_new();
    gsize len = in->len - cut, at = 0, held_len;
    const guint8 *held;

    while (at < len) {
        gsize piece = g_rand_int_range(rand, 1, most + 1), taken;
        QemuEvent event;

        taken = qemu_stream_read(stream, in->data + at, MIN(piece, len - at), &event);
        at += taken;
        if (event.type == QEMU_EV_MORE)
            continue;
        note_event(said, blocks, &event);
        g_byte_array_append(raw, event.raw, event.raw_len);
    }
    held_len = qemu_stream_held(stream, &held);
    g_byte_array_append(raw, held, held_len);
    assert_int_equal(raw->len, len);
    assert_memory_equal(raw->data, in->data, len);
    return g_string_free(g_steal_pointer(&said), FALSE);
}

static void assert_reads(const GByteArray *in, const char *expected)
{
    static const gsize pieces[] = { 1 << 20, 1, 2, 7, 100, 5000 };

    for (gsize i = 0; i < G_N_ELEMENTS(pieces); i++) {
        g_autofree char *said = read_stream(in, pieces[i], 0);

        assert_string_equal(said, expected);
    }
}

/* -- the stream ---------------------------------------------------------------------------- */

/* All that is read back, of every kind, before post-copy. */
static GByteArray *sample_stream(GString *expected)
{
    static const guint8 delta[] = { 0, 3, 'a', 'b', 'c', 0x80, 1, 1, 'd' };
    g_autoptr(RamBlocks) blocks = sample_blocks();
    g_autofree guint8 *data = page_data(3);
    const QemuPage pages[] = {
        { 0, 0, QEMU_PAGE_RAW, 0, data, PAGE },
        { 0, LARGE + PAGE, QEMU_PAGE_ZERO, 0, NULL, 0 },
        { 1, 7 * PAGE, QEMU_PAGE_ZERO, 0xa5, NULL, 0 },
        { 1, PAGE, QEMU_PAGE_XBZRLE, 0, delta, sizeof delta },
        { 0, 4 * LARGE - PAGE, QEMU_PAGE_COMPRESSED, 0, data, 300 },
        { 2, 0, QEMU_PAGE_RAW, 0, data, PAGE },
    };
    GByteArray *out = g_byte_array_new();

    qemu_put_header(out, "pc-q35-7.2");
    qemu_put_command(out, QEMU_CMD_OPEN_RETURN_PATH, NULL, 0);
    put_ping(out, 1);
    put_advise(out, LARGE | PAGE);
    qemu_put_ram_setup(out, RAM_ID, blocks, TRUE);
    g_string_append(expected, "HEADER 3\nCONFIGURATION pc-q35-7.2\n"
                              "COMMAND 1\nCOMMAND 2\nCOMMAND 3\n"
                              "SECTION 1 2 ram\nMEM_SIZE 8425472\n"
                              "BLOCK pc.ram 8388608 2097152\nBLOCK pc.rom 32768 4096\n"
                              "BLOCK /rom@x 4096 4096\nEOS\nFOOTER 2\n");
    for (guint kind = QEMU_SECTION_PART; kind <= QEMU_SECTION_END; kind++) {
        guint last = G_MAXUINT;

        qemu_put_section(out, kind, RAM_ID);
        g_string_append_printf(expected, "SECTION %u 2 ram\n", kind);
        for (gsize i = 0; i < G_N_ELEMENTS(pages); i++) {
            put_page(out, blocks, &pages[i], pages[i].block != last);
            note_page(expected, &pages[i]);
            last = pages[i].block;
        }
        qemu_put_eos(out);
        qemu_put_footer(out, RAM_ID);
        g_string_append(expected, "EOS\nFOOTER 2\n");
    }
    bytes_put_u8(out, 0);
    g_string_append(expected, "EOF\n");
    return out;
}

static void stream_is_read_back(void **state)
{
    g_autoptr(GString) expected = g_string_new(NULL);
    g_autoptr(GByteArray) in = sample_stream(expected);

    assert_reads(in, expected->str);
}

static void stream_cut_anywhere_gives_what_was_whole(void **state)
{
    g_autoptr(GString) expected = g_string_new(NULL);
    g_autoptr(GByteArray) in = sample_stream(expected);

    for (gsize cut = 0; cut <= in->len; cut += cut < 200 ? 1 : 37) {
        g_autofree char *said = read_stream(in, 997, cut);

        assert_true(g_str_has_prefix(expected->str, said));
        assert_null(strstr(said, "UNKNOWN"));
    }
}

static void flipped_bits_lose_no_byte(void **state)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    guint unknown = 0;

    for (guint i = 0; i < 300; i++) {
        g_autoptr(GString) expected = g_string_new(NULL);
        g_autoptr(GByteArray) in = sample_stream(expected);
        g_autofree char *whole = NULL, *pieces = NULL;

        for (gint n = g_rand_int_range(rand, 1, 4); n > 0; n--)
            in->data[g_rand_int_range(rand, 0, 300)] ^= 1 << g_rand_int_range(rand, 0, 8);
        whole = read_stream(in, 1 << 20, 0);
        pieces = read_stream(in, 50, 0);
        /* Where it stops being understood does not depend on the pieces it came in. */
        unknown += strstr(whole, "UNKNOWN") != NULL;
        assert_int_equal(!strstr(whole, "UNKNOWN"), !strstr(pieces, "UNKNOWN"));
        if (!strstr(whole, "OPAQUE"))
            assert_string_equal(whole, pieces);
    }
    assert_true(unknown > 50);
}

static void setup_without_postcopy_has_no_page_sizes(void **state)
{
    g_autoptr(RamBlocks) blocks = sample_blocks();
    g_autoptr(GByteArray) in = g_byte_array_new();

    qemu_put_header(in, "pc");
    qemu_put_ram_setup(in, RAM_ID, blocks, FALSE);
    qemu_put_section(in, QEMU_SECTION_PART, RAM_ID);
    qemu_put_eos(in);
    qemu_put_footer(in, RAM_ID);
    assert_reads(in, "HEADER 3\nCONFIGURATION pc\nSECTION 1 2 ram\nMEM_SIZE 8425472\n"
                     "BLOCK pc.ram 8388608 4096\nBLOCK pc.rom 32768 4096\nBLOCK /rom@x 4096 4096\n"
                     "EOS\nFOOTER 2\nSECTION 2 2 ram\nEOS\nFOOTER 2\n");
}

static void assert_bytes(const GByteArray *out, const char *expected, gsize len)
{
    assert_int_equal(out->len, len);
    assert_memory_equal(out->data, expected, len);
}
#define ASSERT_BYTES(out, literal) assert_bytes(out, literal, sizeof literal - 1)

static void elements_are_as_qemu_writes_them(void **state)
{
    const RamBlock block = { (char *)"pc.ram", 16 * PAGE, PAGE };
    const QemuPage raw = { 0, 0x7f01000, QEMU_PAGE_RAW, 0, NULL, PAGE };
    const QemuPage zero = { 0, 0x2000, QEMU_PAGE_ZERO, 0, NULL, 0 };
    const QemuPage delta = { 0, 0x3000, QEMU_PAGE_XBZRLE, 0, NULL, 0x123 };
    const QemuPage small = { 0, 0x4000, QEMU_PAGE_COMPRESSED, 0, NULL, 0x123 };
    g_autoptr(GByteArray) out = g_byte_array_new();

    qemu_put_section(out, QEMU_SECTION_PART, 2);
    ASSERT_BYTES(out, "\2\0\0\0\2");
    g_byte_array_set_size(out, 0);
    qemu_put_page(out, &raw, &block);
    ASSERT_BYTES(out, "\0\0\0\0\7\xf0\x10\10\6pc.ram");
    g_byte_array_set_size(out, 0);
    qemu_put_page(out, &raw, NULL);
    ASSERT_BYTES(out, "\0\0\0\0\7\xf0\x10\x28");
    g_byte_array_set_size(out, 0);
    qemu_put_page(out, &zero, NULL);
    ASSERT_BYTES(out, "\0\0\0\0\0\0\x20\x22\0");
    g_byte_array_set_size(out, 0);
    qemu_put_page(out, &delta, &block);
    ASSERT_BYTES(out, "\0\0\0\0\0\0\x30\x40\6pc.ram\1\1\x23");
    g_byte_array_set_size(out, 0);
    qemu_put_page(out, &small, NULL);
    ASSERT_BYTES(out, "\0\0\0\0\0\0\x41\x20\0\0\1\x23");
    g_byte_array_set_size(out, 0);
    qemu_put_eos(out);
    qemu_put_footer(out, 2);
    ASSERT_BYTES(out, "\0\0\0\0\0\0\0\x10\x7e\0\0\0\2");
    g_byte_array_set_size(out, 0);
    put_ping(out, 4);
    ASSERT_BYTES(out, "\10\0\2\0\4\0\0\0\4");
}

static void no_page_head_is_longer_than_promised(void **state)
{
    g_autofree char *name = g_strnfill(RAM_BLOCK_NAME_MAX, 'n');
    const RamBlock block = { name, 16 * PAGE, PAGE };

    for (guint kind = 0; kind < QEMU_PAGE_KIND_MAX; kind++) {
        const QemuPage page = { 0, 0x1000, kind, 0, NULL, PAGE };
        g_autoptr(GByteArray) out = g_byte_array_new();

        qemu_put_page(out, &page, &block);
        assert_true(out->len <= QEMU_PAGE_HEAD_MAX);
    }
}

/* -- the return path ----------------------------------------------------------------------- */

static void return_path_is_as_qemu_writes_it(void **state)
{
    const RamBlock block = { (char *)"pc.ram", 16 * PAGE, PAGE };
    g_autoptr(GByteArray) out = g_byte_array_new();

    qemu_put_pong(out, 1);
    ASSERT_BYTES(out, "\0\2\0\4\0\0\0\1");
    g_byte_array_set_size(out, 0);
    qemu_put_req_pages(out, &block, 0x7f01000, 0x1000);
    ASSERT_BYTES(out, "\0\3\0\23\0\0\0\0\7\xf0\x10\0\0\0\x10\0\6pc.ram");
    g_byte_array_set_size(out, 0);
    qemu_put_req_pages(out, NULL, 0x200000, 0x200000);
    ASSERT_BYTES(out, "\0\4\0\14\0\0\0\0\0\x20\0\0\0\x20\0\0");
    g_byte_array_set_size(out, 0);
    qemu_put_resume_ack(out, 1);
    ASSERT_BYTES(out, "\0\6\0\4\0\0\0\1");
    g_byte_array_set_size(out, 0);
    qemu_put_shut(out, 0);
    ASSERT_BYTES(out, "\0\1\0\4\0\0\0\0");
    g_byte_array_set_size(out, 0);
    qemu_put_recv_bitmap(out, &block, (const guint8 *)"\xff\xff", 12);
    ASSERT_BYTES(out, "\0\5\0\7\6pc.ram\0\0\0\0\0\0\0\10\xff\x0f\0\0\0\0\0\0"
                      "\1\x23\x45\x67\x89\xab\xcd\xef");
}

/* The bitmap in a return path that holds nothing else. */
static GByteArray *read_bitmap(const GByteArray *in)
{
    g_autoptr(QemuReturn) reader = qemu_return_new();
    GByteArray *bits = g_byte_array_new();
    QemuReturnEvent event;
    gsize at = qemu_return_read(reader, in->data, in->len, &event);
    guint64 length = event.length;

    assert_int_equal(event.type, QEMU_RETURN_BITMAP);
    do {
        at += qemu_return_read(reader, in->data + at, in->len - at, &event);
        if (event.type == QEMU_RETURN_BITMAP_DATA)
            g_byte_array_append(bits, event.raw, event.raw_len);
    } while (event.type == QEMU_RETURN_BITMAP_DATA);
    assert_int_equal(event.type, QEMU_RETURN_BITMAP_END);
    assert_int_equal(at, in->len);
    assert_int_equal(bits->len, length);
    return bits;
}

static void bitmap_of_any_number_of_pages_is_read_back(void **state)
{
    for (gsize pages = 1; pages < 300; pages++) {
        const RamBlock block = { (char *)"pc.ram", pages * PAGE, PAGE };
        g_autofree guint8 *bits = g_malloc((pages + 7) / 8);
        g_autoptr(GByteArray) out = g_byte_array_new(), back = NULL;

        memset(bits, 0xdb, (pages + 7) / 8);
        qemu_put_recv_bitmap(out, &block, bits, pages);
        back = read_bitmap(out);
        assert_int_equal(back->len, (pages + 63) / 64 * 8);
        for (gsize i = 0; i < back->len * (gsize)8; i++)
            assert_int_equal(back->data[i / 8] >> i % 8 & 1, i < pages && (0xdb >> i % 8 & 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_is_read_back),
        cmocka_unit_test(stream_cut_anywhere_gives_what_was_whole),
        cmocka_unit_test(flipped_bits_lose_no_byte),
        cmocka_unit_test(setup_without_postcopy_has_no_page_sizes),
        cmocka_unit_test(elements_are_as_qemu_writes_them),
        cmocka_unit_test(no_page_head_is_longer_than_promised),
        cmocka_unit_test(return_path_is_as_qemu_writes_it),
        cmocka_unit_test(bitmap_of_any_number_of_pages_is_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
