/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stream reader: the events of a stream of each kind, whole, in any pieces, cut and damaged;
 * every byte comes out again. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/qemu-build.h"
#include "tests/support/qemu-reader.h"
#include "util/bytes.h"

#define SETUP_EVENTS \
    "HEADER 3\nCONFIGURATION pc-q35-7.2\nCOMMAND 1 0\nCOMMAND 2 4\nCOMMAND 3 16\n" \
    "SECTION 1 2 'ram'\nMEM_SIZE 120000\nBLOCK 0 pc.ram 100000/1000\n" \
    "BLOCK 1 pc.rom 20000/1000\nEOS\nFOOTER 2\n"

static void a_precopy_is_read_up_to_the_device_states(void **state)
{
    g_autoptr(GByteArray) b = build_precopy_stream();
    g_autoptr(Reader) r = reader_of_whole(b);
    guint32 id;

    reader_assert_events(r, SETUP_EVENTS
                  "SECTION 2 2 ''\nPAGE 0:0\nPAGE 0:1000\nPAGE 0:2000 zero 0\n"
                  "PAGE 0:1000 xbzrle 05 03 61 62 63\nPAGE 1:1f000 compressed 7a 6c 69 62\nPAGE 1:1e000 zero 3\n"
                  "RECORD 200\nEOS\nFOOTER 2\n"
                  "SECTION 3 2 ''\nPAGE 0:3000 zero 7\nEOS\nFOOTER 2\nOPAQUE\n");
    assert_true(qemu_stream_is_opaque(r->stream));
    assert_false(qemu_stream_is_resumed(r->stream));
    assert_true(qemu_stream_ram_section(r->stream, &id));
    assert_int_equal(id, RAM_ID);
    assert_string_equal(r->unknown->str, "");
}

static void a_postcopy_is_read_to_its_end(void **state)
{
    g_autoptr(GByteArray) b = build_postcopy_stream();
    g_autoptr(Reader) r = reader_of_whole(b);

    reader_assert_events(r, SETUP_EVENTS
                  "SECTION 2 2 ''\nPAGE 0:0\nEOS\nFOOTER 2\n"
                  "COMMAND 6 25\nCOMMAND 2 4\nCOMMAND 7 4\nPACKAGE_DATA\ncomplete\nCOMMAND 2 4\n"
                  "SECTION 2 2 ''\nPAGE 0:1000\nEOS\nFOOTER 2\n"
                  "SECTION 3 2 ''\nPAGE 1:2000\nEOS\nFOOTER 2\nEOF\n");
    assert_false(qemu_stream_is_opaque(r->stream));
}

static void a_resumed_stream_names_its_blocks_itself(void **state)
{
    g_autoptr(GByteArray) b = build_resumed_stream();
    g_autoptr(Reader) r = reader_of_whole(b);
    guint32 id;

    reader_assert_events(r, "COMMAND 10 7\nCOMMAND 10 7\nCOMMAND 9 0\n"
                  "SECTION 2 77 ''\nPAGE 1:5000\nEOS\nFOOTER 77\n"
                  "SECTION 3 77 ''\nEOS\nEOF\n");
    assert_true(qemu_stream_is_resumed(r->stream));
    assert_true(qemu_stream_ram_section(r->stream, &id) && id == 77);
    assert_int_equal(ram_blocks_count(r->blocks), 2);
    assert_true(ram_blocks_get(r->blocks, 1)->length == 0);
}

static void a_preempt_channel_is_records_alone(void **state)
{
    g_autoptr(GByteArray) b = build_preempt_stream();
    g_autoptr(Reader) r = reader_of_pieces(b, G_MAXUINT, TRUE);
    guint32 id;

    reader_assert_events(r, "PAGE 0:4000\nPAGE 0:5000\nPAGE 1:1000 zero 0\nEOS\nPAGE 1:2000 zero 0\n");
    assert_false(qemu_stream_ram_section(r->stream, &id));
}

static const struct {
    GByteArray *(*make)(void);
    gboolean preempt;
} streams[] = {
    { build_precopy_stream, FALSE },
    { build_postcopy_stream, FALSE },
    { build_resumed_stream, FALSE },
    { build_preempt_stream, TRUE },
};

static void events_are_the_same_in_whatever_pieces(void **state)
{
    static const gsize pieces[] = { 1, 2, 3, 7, 8, 9, 64, 1000, 4096, 4103, 4104, 4105, 0, 0, 0 };

    for (gsize i = 0; i < G_N_ELEMENTS(streams); i++) {
        g_autoptr(GByteArray) b = streams[i].make();
        g_autoptr(Reader) whole = reader_of_pieces(b, G_MAXUINT, streams[i].preempt);

        for (gsize j = 0; j < G_N_ELEMENTS(pieces); j++) {
            g_autoptr(Reader) r = reader_of_pieces(b, pieces[j], streams[i].preempt);

            assert_string_equal(r->events->str, whole->events->str);
        }
    }
}

static void a_stream_cut_anywhere_gives_its_first_events(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(streams); i++) {
        g_autoptr(GByteArray) b = streams[i].make();
        g_autoptr(Reader) whole = reader_of_pieces(b, G_MAXUINT, streams[i].preempt);

        for (gsize cut = 0; cut < b->len; cut += cut % PAGE < 300 ? 1 : 97) {
            g_autoptr(Reader) r = reader_new(streams[i].preempt);

            reader_feed(r, b->data, cut);
            reader_assert_complete(r, b->data, cut);
            assert_true(g_str_has_prefix(whole->events->str, r->events->str));
            /* The rest completes it. */
            reader_feed(r, b->data + cut, b->len - cut);
            reader_assert_complete(r, b->data, b->len);
            assert_string_equal(r->events->str, whole->events->str);
        }
    }
}

static void damaged_streams_come_out_as_they_went_in(void **state)
{
    guint unknown = 0;

    for (guint round = 0; round < 400; round++) {
        gsize i = round % G_N_ELEMENTS(streams);
        g_autoptr(GByteArray) b = streams[i].make();
        g_autoptr(Reader) whole = NULL;
        g_autoptr(Reader) r = NULL;

        for (guint flips = 0; flips < 1 + round % 5; flips++) {
            /* Most of a stream is pages: rather hit what stands before and after them. */
            gsize at = rand() % 2 ? (guint)rand() % MIN(b->len, 400) : (guint)rand() % b->len;

            b->data[at] ^= 1U << rand() % 8;
        }
        whole = reader_of_pieces(b, G_MAXUINT, streams[i].preempt);
        r = reader_of_pieces(b, 0, streams[i].preempt);
        assert_string_equal(r->events->str, whole->events->str);
        unknown += whole->unknown->len > 0;
    }
    assert_true(unknown > 50);
}

static void a_page_in_one_piece_is_not_copied(void **state)
{
    g_autoptr(GByteArray) b = build_preempt_stream();
    g_autoptr(Reader) r = reader_new(TRUE);
    QemuEvent ev;
    gsize at = 0;

    for (guint i = 0; i < 3; i++) {
        gsize n = qemu_stream_read(r->stream, b->data + at, b->len - at, &ev);

        assert_int_equal(ev.type, QEMU_EV_PAGE);
        assert_ptr_equal(ev.raw, b->data + at);
        assert_int_equal(ev.raw_len, n);
        if (ev.page.kind == QEMU_PAGE_RAW)
            assert_ptr_equal(ev.page.data + PAGE, ev.raw + n);
        at += n;
    }
}

/* Lists of blocks, which do not say how they are written. */

#define LIST_HEAD_EVENTS "SECTION 1 2 'ram'\nMEM_SIZE 420000\n"

/* Reads it whole and byte by byte, and looks at what follows on the section's head. */
static void assert_list(GByteArray *b, const char *expected)
{
    g_autoptr(Reader) whole = reader_of_whole(b);
    g_autoptr(Reader) bytewise = reader_of_pieces(b, 1, FALSE);
    const char *from = strstr(whole->events->str, "SECTION");

    assert_non_null(from);
    assert_string_equal(from, expected);
    assert_string_equal(bytewise->events->str, whole->events->str);
}

static void page_sizes_are_unknown_without_postcopy(void **state)
{
    g_autoptr(GByteArray) b = g_byte_array_new();

    build_list_head(b, 0, FALSE);
    build_block(b, "a", 4 * MIB);
    build_block(b, "b", 0x20000);
    build_end_of_section(b);
    assert_list(b, LIST_HEAD_EVENTS
                "BLOCK 0 a 400000/0\nBLOCK 1 b 20000/0\nEOS\nFOOTER 2\n");
}

static void large_pages_are_told_where_postcopy_is_advised(void **state)
{
    /* Either may be the last, where a record follows instead of a name. */
    for (guint large_first = 0; large_first < 2; large_first++) {
        g_autoptr(GByteArray) b = g_byte_array_new();

        build_list_head(b, MIXED_PAGES, FALSE);
        if (!large_first)
            build_block(b, "rom", 0x20000);
        build_block(b, "ram", 4 * MIB);
        bytes_put_u64(b, 2 * MIB);
        if (large_first)
            build_block(b, "rom", 0x20000);
        build_end_of_section(b);
        assert_list(b, large_first ? LIST_HEAD_EVENTS "BLOCK 0 ram 400000/200000\n"
                                     "BLOCK 1 rom 20000/1000\nEOS\nFOOTER 2\n"
                                   : LIST_HEAD_EVENTS "BLOCK 0 rom 20000/1000\n"
                                     "BLOCK 1 ram 400000/200000\nEOS\nFOOTER 2\n");
    }
}

static void the_end_of_a_list_does_not_wait_for_more(void **state)
{
    g_autoptr(GByteArray) b = g_byte_array_new();
    g_autoptr(Reader) r = NULL;

    build_list_head(b, MIXED_PAGES, FALSE);
    build_block(b, "a", 4 * MIB);
    build_block(b, "b", 0x20000);
    build_eos(b);
    r = reader_of_pieces(b, 1, FALSE);
    assert_true(g_str_has_suffix(r->events->str, "BLOCK 1 b 20000/1000\nEOS\n"));
}

static void hosts_with_larger_pages_write_no_size_for_them(void **state)
{
    g_autoptr(GByteArray) b = g_byte_array_new();

    build_list_head(b, 0x10000, FALSE);
    build_block(b, "a", 4 * MIB);
    build_block(b, "b", 0x20000);
    build_end_of_section(b);
    assert_list(b, LIST_HEAD_EVENTS
                "BLOCK 0 a 400000/10000\nBLOCK 1 b 20000/10000\nEOS\nFOOTER 2\n");
}

static void addresses_are_in_the_list_with_ignore_shared(void **state)
{
    g_autoptr(GByteArray) b = g_byte_array_new();

    build_list_head(b, 0, TRUE);
    build_block(b, "a", 4 * MIB);
    bytes_put_u64(b, 2 * MIB);
    build_block(b, "b", 0x20000);
    bytes_put_u64(b, 0);
    build_end_of_section(b);
    assert_list(b, LIST_HEAD_EVENTS
                "BLOCK 0 a 400000/0\nBLOCK 1 b 20000/0\nEOS\nFOOTER 2\n");
}

/* Configurations, and other target pages. */

static void other_target_pages_change_the_records(void **state)
{
    static const guint bits[] = { 10, 14, 16 };

    for (gsize i = 0; i < G_N_ELEMENTS(bits); i++) {
        const guint32 page = 1U << bits[i];
        g_autoptr(GByteArray) b = g_byte_array_new();
        g_autoptr(Reader) r = NULL;
        g_autofree char *end = NULL;

        build_header(b);
        build_configuration(b);
        build_page_bits(b, bits[i]);
        build_subsection(b, "configuration/uuid");
        build_data(b, 0, 16);
        build_ram_start(b, MIB);
        build_block(b, "ram", MIB);
        build_head(b, page, QEMU_RAM_PAGE, "ram");
        build_data(b, 0, page);
        build_end_of_section(b);
        r = reader_of_pieces(b, i == 0 ? 1 : 0, FALSE);
        assert_int_equal(ram_blocks_target_page(r->blocks), page);
        end = g_strdup_printf("PAGE 0:%x raw %u=", page, page);
        assert_non_null(strstr(r->events->str, end));
        assert_true(g_str_has_suffix(r->events->str, "EOS\nFOOTER 2\n"));
    }
}

static void advise_tells_the_target_page_as_well(void **state)
{
    g_autoptr(GByteArray) b = g_byte_array_new();
    g_autoptr(Reader) r = NULL;

    build_header(b);
    build_configuration(b);
    build_advise(b, 8192, 8192);
    r = reader_of_whole(b);
    assert_int_equal(ram_blocks_target_page(r->blocks), 8192);
}

static void the_largest_element_can_be_held_back(void **state)
{
    g_autofree char *name = g_strnfill(255, 'n');
    g_autofree guint8 *payload = g_malloc0(0xffff);
    g_autoptr(GByteArray) b = g_byte_array_new();
    g_autoptr(Reader) r = NULL;

    build_header(b);
    build_configuration(b);
    build_page_bits(b, 16);
    build_ram_start(b, MIB);
    build_block(b, name, MIB);
    build_head(b, 0, QEMU_RAM_COMPRESS_PAGE, name);
    bytes_put_u32(b, 65536 + 16 + 4 + 13);
    build_data(b, 0, 65536 + 16 + 4 + 13);
    build_eos(b);
    build_command(b, 999, payload, 0xffff);
    r = reader_of_pieces(b, 1, FALSE);
    assert_true(g_str_has_suffix(r->events->str, "EOS\nCOMMAND 999 65535\n"));
}

static void a_description_may_follow_the_end(void **state)
{
    for (guint32 len = 0; len < 2; len++) {
        g_autoptr(GByteArray) b = g_byte_array_new();
        g_autoptr(Reader) r = NULL;

        build_setup(b);
        bytes_put_u8(b, 0);
        bytes_put_u8(b, 6);
        bytes_put_u32(b, len * 100);
        build_data(b, 0, len * 100);
        r = reader_of_pieces(b, 7, FALSE);
        reader_assert_events(r, SETUP_EVENTS "EOF\nDESCRIPTION\n");
        assert_false(qemu_stream_is_opaque(r->stream));
    }
}

static void footers_may_be_missing(void **state)
{
    g_autoptr(GByteArray) b = g_byte_array_new();
    g_autoptr(Reader) r = NULL;

    build_setup(b);
    g_byte_array_set_size(b, b->len - 5);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_eos(b);
    build_section(b, QEMU_SECTION_END, RAM_ID);
    build_eos(b);
    build_section(b, QEMU_SECTION_END, 9);
    build_bytes(b, "anything", 8);
    r = reader_of_pieces(b, 0, FALSE);
    assert_true(g_str_has_suffix(r->events->str, "EOS\nSECTION 2 2 ''\nEOS\n"
                                 "SECTION 3 2 ''\nEOS\nOPAQUE\n"));
}

static void an_unknown_command_is_passed_by_its_length(void **state)
{
    g_autoptr(GByteArray) b = g_byte_array_new();
    g_autoptr(Reader) r = NULL;

    build_setup(b);
    build_command(b, 12, "abc", 3);
    build_command(b, 0, NULL, 0);
    r = reader_of_pieces(b, 0, FALSE);
    reader_assert_events(r, SETUP_EVENTS "COMMAND 12 3\nCOMMAND 0 0\n");
}

/* Figures, with QEMU_STREAM_BENCH=1: page records of a running post-copy in inputs as large as a
 * relay reads them; their ends cut records. */

static guint64 read_pages(QemuStream *stream, const guint8 *bytes, gsize len)
{
    guint64 pages = 0;
    QemuEvent ev;

    do {
        gsize n = qemu_stream_read(stream, bytes, len, &ev);

        bytes += n;
        len -= n;
        pages += ev.type == QEMU_EV_PAGE;
    } while (ev.type != QEMU_EV_MORE);
    return pages;
}

static void speed_of_page_records_is_printed(void **state)
{
    static const gsize inputs[] = { 4096, 65536, 262144, 64 * MIB };
    const guint rounds = g_getenv("QEMU_STREAM_BENCH") ? 64 : 1;
    g_autoptr(GByteArray) b = g_byte_array_new();

    build_page(b, 0, "pc.ram");
    for (guint i = 0; i < (rounds > 1 ? 16000 : 100); i++)
        build_page(b, i % 256 * PAGE, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(inputs); i++) {
        g_autoptr(Reader) r = reader_new(TRUE);
        gint64 begin = g_get_monotonic_time();
        guint64 pages = 0;
        gint64 took;

        for (guint round = 0; round < rounds; round++)
            for (gsize at = 0; at < b->len; at += inputs[i])
                pages += read_pages(r->stream, b->data + at, MIN(inputs[i], b->len - at));
        took = MAX(g_get_monotonic_time() - begin, 1);
        print_message("inputs of %zu bytes: %.1f GB/s, %.0f ns a page\n", inputs[i],
                      (double)b->len * rounds / took / 1000, 1000.0 * took / pages);
        assert_true(pages == (guint64)rounds * (b->len / (PAGE + 8)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_precopy_is_read_up_to_the_device_states),
        cmocka_unit_test(a_postcopy_is_read_to_its_end),
        cmocka_unit_test(a_resumed_stream_names_its_blocks_itself),
        cmocka_unit_test(a_preempt_channel_is_records_alone),
        cmocka_unit_test(events_are_the_same_in_whatever_pieces),
        cmocka_unit_test(a_stream_cut_anywhere_gives_its_first_events),
        cmocka_unit_test(damaged_streams_come_out_as_they_went_in),
        cmocka_unit_test(a_page_in_one_piece_is_not_copied),
        cmocka_unit_test(page_sizes_are_unknown_without_postcopy),
        cmocka_unit_test(large_pages_are_told_where_postcopy_is_advised),
        cmocka_unit_test(the_end_of_a_list_does_not_wait_for_more),
        cmocka_unit_test(hosts_with_larger_pages_write_no_size_for_them),
        cmocka_unit_test(addresses_are_in_the_list_with_ignore_shared),
        cmocka_unit_test(other_target_pages_change_the_records),
        cmocka_unit_test(advise_tells_the_target_page_as_well),
        cmocka_unit_test(the_largest_element_can_be_held_back),
        cmocka_unit_test(a_description_may_follow_the_end),
        cmocka_unit_test(footers_may_be_missing),
        cmocka_unit_test(an_unknown_command_is_passed_by_its_length),
    };
    const struct CMUnitTest figures[] = {
        cmocka_unit_test(speed_of_page_records_is_printed),
    };

    srand(1);
    if (g_getenv("QEMU_STREAM_BENCH"))
        return cmocka_run_group_tests(figures, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
