/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the stream reader cannot read: it says where and why, and passes it on with all that
 * follows. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/qemu-build.h"
#include "tests/support/qemu-reader.h"
#include "util/bytes.h"

/* Each of these makes a stream whose last element is bad. */

static void bad_magic(GByteArray *b)
{
    build_bytes(b, "GET / HTTP", 10);
}

static void bad_version(GByteArray *b)
{
    bytes_put_u32(b, 0x5145564d);
    bytes_put_u32(b, 2);
}

static void bad_machine(GByteArray *b)
{
    build_header(b);
    bytes_put_u8(b, 7);
    bytes_put_u32(b, 256);
}

static void bad_subsection(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_subsection(b, "configuration/colour");
}

static void bad_subsection_version(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    bytes_put_u8(b, 5);
    build_name(b, "configuration/uuid");
    bytes_put_u32(b, 2);
}

static void bad_subsection_twice(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_page_bits(b, 12);
    build_page_bits(b, 12);
}

static void bad_capability(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_capability(b, "mapped-ram");
}

static void bad_capability_count(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_subsection(b, "configuration/capabilities");
    bytes_put_u32(b, 65);
}

static void bad_page_bits(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_page_bits(b, 17);
    bytes_put_u8(b, 8);
}

static void bad_page_bits_shift(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_page_bits(b, 64);
}

static void bad_late_configuration(GByteArray *b)
{
    build_setup(b);
    build_configuration(b);
}

static void bad_element(GByteArray *b)
{
    build_setup(b);
    bytes_put_u8(b, 0x55);
}

static void bad_early_description(GByteArray *b)
{
    build_setup(b);
    bytes_put_u8(b, 6);
}

static void bad_footer_id(GByteArray *b)
{
    build_setup(b);
    g_byte_array_set_size(b, b->len - 5);
    build_footer(b, 3);
}

static void bad_footer_place(GByteArray *b)
{
    build_setup(b);
    build_footer(b, RAM_ID);
}

static void bad_footer_after_command(GByteArray *b)
{
    build_setup(b);
    g_byte_array_set_size(b, b->len - 5);
    build_ping(b, 2);
    build_footer(b, RAM_ID);
}

static void bad_after_eof(GByteArray *b)
{
    build_setup(b);
    bytes_put_u8(b, 0);
    bytes_put_u8(b, 8);
}

static void bad_early_device(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_named_section(b, QEMU_SECTION_FULL, 1, "virtio-mem\n", 1);
}

static void bad_iterable(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, 3);
}

static void bad_device_in_postcopy(GByteArray *b)
{
    g_autoptr(GByteArray) all = build_postcopy_stream();

    build_bytes(b, all->data, all->len - 1);
    build_named_section(b, QEMU_SECTION_FULL, 9, "timer", 1);
}

static void bad_part_before_resume(GByteArray *b)
{
    build_recv_bitmap(b, "pc.ram");
    build_section(b, QEMU_SECTION_PART, 2);
}

static void bad_second_start(GByteArray *b)
{
    build_setup(b);
    build_named_section(b, QEMU_SECTION_START, 3, "ram", 4);
}

static void bad_ram_version(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_named_section(b, QEMU_SECTION_START, 2, "ram", 5);
}

static void bad_ram_instance(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    bytes_put_u8(b, QEMU_SECTION_START);
    bytes_put_u32(b, 2);
    build_name(b, "ram");
    bytes_put_u32(b, 1);
    bytes_put_u32(b, 4);
}

static void bad_command_length(GByteArray *b)
{
    build_setup(b);
    build_command(b, QEMU_CMD_PING, NULL, 0);
}

static void bad_listen_length(GByteArray *b)
{
    build_setup(b);
    build_command(b, QEMU_CMD_POSTCOPY_LISTEN, "x", 1);
}

static void bad_advise_length(GByteArray *b)
{
    build_setup(b);
    build_command(b, QEMU_CMD_POSTCOPY_ADVISE, "12345678", 8);
}

static void bad_advise_page(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_advise(b, NORMAL_PAGES, 5000);
}

static void bad_discard_length(GByteArray *b)
{
    build_setup(b);
    build_command(b, QEMU_CMD_POSTCOPY_RAM_DISCARD, "\0\6pc.ram\0", 9);
}

static void bad_discard_empty(GByteArray *b)
{
    build_setup(b);
    build_command(b, QEMU_CMD_POSTCOPY_RAM_DISCARD, NULL, 0);
}

static void bad_discard_version(GByteArray *b)
{
    build_setup(b);
    build_command(b, QEMU_CMD_POSTCOPY_RAM_DISCARD, "\1\6pc.ram\0aaaaaaaabbbbbbbb", 25);
}

static void bad_discard_block(GByteArray *b)
{
    build_setup(b);
    build_discard(b, "pc.rum", 0, 4096);
}

static void bad_recv_bitmap_length(GByteArray *b)
{
    build_command(b, QEMU_CMD_RECV_BITMAP, "\7pc.ram", 7);
}

static void bad_recv_bitmap_name(GByteArray *b)
{
    build_command(b, QEMU_CMD_RECV_BITMAP, "\0", 1);
}

static void bad_package(GByteArray *b)
{
    build_setup(b);
    build_package(b, NULL, 0);
}

static void bad_flags(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    bytes_put_u64(b, 0x400);
}

static void bad_flags_combined(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    bytes_put_u64(b, QEMU_RAM_PAGE | QEMU_RAM_ZERO);
}

static void bad_eos(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    bytes_put_u64(b, 0x1000 | QEMU_RAM_EOS);
}

static void bad_block(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_head(b, 0, QEMU_RAM_PAGE, "vga.vram");
}

static void bad_offset(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_head(b, 0x20000, QEMU_RAM_PAGE, "pc.rom");
}

static void bad_offset_of_unknown_length(GByteArray *b)
{
    build_recv_bitmap(b, "pc.ram");
    build_command(b, QEMU_CMD_POSTCOPY_RESUME, NULL, 0);
    build_section(b, QEMU_SECTION_PART, 2);
    build_head(b, G_GUINT64_CONSTANT(1) << 56, QEMU_RAM_PAGE, "pc.ram");
}

static void bad_continue(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_head(b, 0, QEMU_RAM_PAGE, NULL);
}

static void bad_xbzrle_encoding(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_head(b, 0, QEMU_RAM_XBZRLE, "pc.ram");
    build_bytes(b, "\2\0\1", 3);
}

static void bad_xbzrle_length(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_head(b, 0, QEMU_RAM_XBZRLE, "pc.ram");
    build_bytes(b, "\1\x10\1", 3);
}

static void bad_xbzrle_in_postcopy(GByteArray *b)
{
    build_setup(b);
    build_package(b, "p", 1);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_head(b, 0, QEMU_RAM_XBZRLE, "pc.ram");
}

static void bad_compressed_length(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_head(b, 0, QEMU_RAM_COMPRESS_PAGE, "pc.ram");
    bytes_put_u32(b, 4096 + 1 + 13 + 1);
}

static void bad_late_list(GByteArray *b)
{
    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    bytes_put_u64(b, MIB | QEMU_RAM_MEM_SIZE);
}

static void bad_list_sum(GByteArray *b)
{
    build_list_head(b, 0, FALSE);
    build_block(b, "a", 5 * MIB);
}

static void bad_list_zero(GByteArray *b)
{
    build_list_head(b, 0, FALSE);
    build_block(b, "a", 0);
}

static void bad_list_alignment(GByteArray *b)
{
    build_list_head(b, 0, FALSE);
    build_block(b, "a", 4095);
}

static void bad_list_name(GByteArray *b)
{
    build_list_head(b, 0, FALSE);
    build_block(b, "", MIB);
}

/* 4 MiB pages are none of those that were told. */
static void bad_list_page_size(GByteArray *b)
{
    build_list_head(b, MIXED_PAGES, FALSE);
    build_block(b, "a", 4 * MIB);
    bytes_put_u64(b, 4 * MIB);
}

static void bad_list_two_page_sizes(GByteArray *b)
{
    build_list_head(b, 0x600000 | NORMAL_PAGES, FALSE);
    build_block(b, "a", 4 * MIB);
    bytes_put_u64(b, 0x600000);
}

static void bad_list_both(GByteArray *b)
{
    build_list_head(b, MIXED_PAGES, TRUE);
    build_block(b, "a", 4 * MIB);
    bytes_put_u64(b, 2 * MIB);
}

static void what_cannot_be_read_says_where_and_why(void **state)
{
    static const struct {
        void (*make)(GByteArray *b);
        const char *text;
    } rows[] = {
        { bad_magic, "byte 0: does not begin as a migration stream, but with 0x47455420" },
        { bad_version, "byte 0: file version 2" },
        { bad_machine, "byte 8: machine type with a name of 256 bytes" },
        { bad_subsection, "byte 8: unknown subsection 'configuration/colour'" },
        { bad_subsection_version, "subsection configuration/uuid: version 2" },
        { bad_subsection_twice, "configuration/target-page-bits: version 1, or it comes twice" },
        { bad_capability, "unknown capability 'mapped-ram'" },
        { bad_capability_count, "configuration with 65 capabilities" },
        { bad_page_bits, "target page of 131072 bytes" },
        { bad_page_bits_shift, "target pages of 2^64 bytes" },
        { bad_late_configuration, "unknown element type 0x07" },
        { bad_element, "byte 126: unknown element type 0x55 between sections" },
        { bad_early_description, "unknown element type 0x06" },
        { bad_footer_id, "footer of section 3 after section 2" },
        { bad_footer_place, "section footer without a section" },
        { bad_footer_after_command, "section footer without a section" },
        { bad_after_eof, "element of type 0x08 after the end" },
        { bad_early_device, "byte 23: section FULL 1 virtio-mem? is not RAM's" },
        { bad_iterable, "section PART 3 is not RAM's" },
        { bad_device_in_postcopy, "section FULL 9 timer is not RAM's" },
        { bad_part_before_resume, "section PART 2 is not RAM's" },
        { bad_second_start, "second START of RAM" },
        { bad_ram_version, "RAM section of version 5" },
        { bad_ram_instance, "section START 2 ram is not RAM's" },
        { bad_command_length, "command PING with a payload of 0 bytes" },
        { bad_listen_length, "command POSTCOPY_LISTEN with a payload of 1 bytes" },
        { bad_advise_length, "command POSTCOPY_ADVISE with a payload of 8 bytes" },
        { bad_advise_page, "target page of 5000 bytes" },
        { bad_discard_length, "command POSTCOPY_RAM_DISCARD with a payload of 9 bytes" },
        { bad_discard_empty, "command POSTCOPY_RAM_DISCARD with a payload of 0 bytes" },
        { bad_discard_version, "POSTCOPY_RAM_DISCARD of an unknown version" },
        { bad_discard_block, "command POSTCOPY_RAM_DISCARD for the unknown RAM block 'pc.rum'" },
        { bad_recv_bitmap_length, "command RECV_BITMAP with a payload of 7 bytes" },
        { bad_recv_bitmap_name, "RAM block name of 0 bytes" },
        { bad_package, "empty package" },
        { bad_flags, "unknown flags 0x400" },
        { bad_flags_combined, "unknown flags 0xa" },
        { bad_eos, "end of RAM's section with the address 0x1000" },
        { bad_block, "unknown RAM block 'vga.vram'" },
        { bad_offset, "offset 0x20000 are outside of RAM block 'pc.rom'" },
        { bad_offset_of_unknown_length, "outside of RAM block 'pc.ram'" },
        { bad_continue, "same RAM block as before, but there is none" },
        { bad_xbzrle_encoding, "XBZRLE page with encoding 2" },
        { bad_xbzrle_length, "XBZRLE page with encoding 1 and 4097 bytes" },
        { bad_xbzrle_in_postcopy, "XBZRLE page in post-copy" },
        { bad_compressed_length, "compressed page of 4111 bytes" },
        { bad_late_list, "list of RAM blocks outside of the START section" },
        { bad_list_sum, "RAM block of 5242880 bytes in a list with 4325376 left" },
        { bad_list_zero, "RAM block of 0 bytes" },
        { bad_list_alignment, "length 4095 must be a multiple of 4096" },
        { bad_list_name, "RAM block name of 0 bytes" },
        { bad_list_page_size, "in a list with 131072 left" },
        { bad_list_two_page_sizes, "in a list with 131072 left" },
        { bad_list_both, "large pages and x-ignore-shared" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        static const gsize pieces[] = { G_MAXUINT, 1, 0 };
        g_autoptr(GByteArray) b = g_byte_array_new();

        rows[i].make(b);
        build_bytes(b, "whatever follows", 16);
        for (gsize j = 0; j < G_N_ELEMENTS(pieces); j++) {
            g_autoptr(Reader) r = reader_of_pieces(b, pieces[j], FALSE);

            if (!strstr(r->unknown->str, rows[i].text))
                print_error("row %zu: '%s', not '%s'\n", i, r->unknown->str, rows[i].text);
            assert_non_null(strstr(r->unknown->str, rows[i].text));
            assert_true(g_str_has_suffix(r->events->str, "UNKNOWN\nOPAQUE\n"));
            assert_true(qemu_stream_is_opaque(r->stream));
        }
    }
}

static void a_preempt_channel_has_no_list_and_no_deltas(void **state)
{
    static const guint flags[] = { QEMU_RAM_MEM_SIZE, QEMU_RAM_XBZRLE };

    for (gsize i = 0; i < G_N_ELEMENTS(flags); i++) {
        g_autoptr(GByteArray) b = g_byte_array_new();
        g_autoptr(Reader) r = NULL;

        bytes_put_u64(b, flags[i]);
        build_name(b, "pc.ram");
        r = reader_of_pieces(b, 1, TRUE);
        assert_true(r->unknown->len > 0);
    }
}

/* One list more than there may be blocks: resumed streams may name as many as they like. */
static void blocks_that_are_too_many_end_the_reading(void **state)
{
    g_autoptr(GByteArray) b = g_byte_array_new();
    g_autoptr(Reader) r = NULL;

    for (guint i = 0; i <= RAM_BLOCKS_MAX; i++) {
        g_autofree char *name = g_strdup_printf("%u", i);

        build_recv_bitmap(b, name);
    }
    r = reader_of_whole(b);
    assert_int_equal(ram_blocks_count(r->blocks), RAM_BLOCKS_MAX);
    assert_non_null(strstr(r->unknown->str, "more than 4096 RAM blocks"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_read_says_where_and_why),
        cmocka_unit_test(a_preempt_channel_has_no_list_and_no_deltas),
        cmocka_unit_test(blocks_that_are_too_many_end_the_reading),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
