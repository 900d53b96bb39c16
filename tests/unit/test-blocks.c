/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The list of RAM blocks: what is added is found, and what cannot be is refused by name. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/blocks.h"

#define MIB G_GUINT64_CONSTANT(0x100000)
#define NAME(text) (const guint8 *)(text), strlen(text)

static guint add(RamBlocks *blocks, const char *name, guint64 length, guint64 page_size)
{
    guint index = G_MAXUINT;

    assert_true(ram_blocks_add(blocks, NAME(name), length, page_size, &index, NULL));
    return index;
}

static void a_block_is_found_by_its_name(void **state)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    const RamBlock *block;
    guint index;

    assert_int_equal(add(blocks, "pc.ram", 128 * MIB, 4096), 0);
    assert_int_equal(add(blocks, "/rom@etc/acpi/tables", 0x20000, 0), 1);
    assert_int_equal(ram_blocks_count(blocks), 2);
    assert_true(ram_blocks_find(blocks, NAME("/rom@etc/acpi/tables"), &index));
    assert_int_equal(index, 1);
    block = ram_blocks_get(blocks, index);
    assert_string_equal(block->name, "/rom@etc/acpi/tables");
    assert_true(block->length == 0x20000 && block->page_size == 0);
    assert_null(ram_blocks_get(blocks, 2));
    assert_false(ram_blocks_find(blocks, NAME("pc.rom"), &index));
    assert_false(ram_blocks_find(blocks, NAME(""), &index));
    assert_false(ram_blocks_find(blocks, (const guint8 *)"pc.ram\0", 7, &index));
    /* It is the length that counts, not where the text ends. */
    assert_true(ram_blocks_find(blocks, (const guint8 *)"pc.ramdisk", 6, &index));
}

static void adding_a_known_block_completes_it(void **state)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    const RamBlock *block;
    guint index = add(blocks, "pc.ram", 0, 0);

    block = ram_blocks_get(blocks, index);
    assert_true(ram_blocks_host_page(blocks, index) == 4096);
    assert_int_equal(add(blocks, "pc.ram", 128 * MIB, 0), index);
    assert_int_equal(add(blocks, "pc.ram", 0, 2 * MIB), index);
    assert_int_equal(add(blocks, "pc.ram", 0, 0), index);
    assert_true(block->length == 128 * MIB && block->page_size == 2 * MIB);
    assert_true(ram_blocks_host_page(blocks, index) == 2 * MIB);
    for (guint i = 1; i < 100; i++) {
        g_autofree char *name = g_strdup_printf("block%u", i);

        assert_int_equal(add(blocks, name, 4096, 0), i);
    }
    assert_ptr_equal(ram_blocks_get(blocks, index), block);
}

static void what_cannot_be_a_block_is_refused(void **state)
{
    static const struct {
        const char *name;
        gsize name_len;
        guint64 length, page_size;
        const char *text;
    } rows[] = {
        { "", 0, 4096, 4096, "name of 0 bytes" },
        { "a\0b", 3, 4096, 4096, "NUL" },
        { NULL, 256, 4096, 4096, "name of 256 bytes" },
        { "pc.ram", 6, 4097, 0, "'pc.ram': length 4097" },
        { "pc.ram", 6, G_MAXUINT64 - 4095, 0, "2^56" },
        { "pc.ram", 6, 4096, 12288, "page size 12288" },
        { "pc.ram", 6, 4096, 2048, "page size 2048" },
        { "pc.ram", 6, 4096, 2 * RAM_HOST_PAGE_MAX, "page size 2199023255552" },
        { "pc\nram", 6, 1, 0, "'pc?ram'" },
    };
    g_autofree char *long_name = g_strnfill(256, 'x');

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(RamBlocks) blocks = ram_blocks_new();
        g_autoptr(GError) error = NULL;
        const char *name = rows[i].name ? rows[i].name : long_name;

        assert_false(ram_blocks_add(blocks, (const guint8 *)name, rows[i].name_len, rows[i].length,
                                    rows[i].page_size, NULL, &error));
        assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
        assert_non_null(strstr(error->message, rows[i].text));
        assert_int_equal(ram_blocks_count(blocks), 0);
    }
}

static void blocks_are_limited_in_number(void **state)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < RAM_BLOCKS_MAX; i++) {
        g_autofree char *name = g_strdup_printf("%u", i);

        add(blocks, name, 4096, 0);
    }
    assert_false(ram_blocks_add(blocks, NAME("more"), 4096, 0, NULL, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
    add(blocks, "4095", 8192, 0);
}

static void target_pages_have_limits_and_come_before_the_blocks(void **state)
{
    static const guint64 bad[] = { 0, 512, 4095, 6144, 2 * RAM_TARGET_PAGE_MAX, G_MAXUINT64 };
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    g_autoptr(GError) error = NULL;

    assert_int_equal(ram_blocks_target_page(blocks), 4096);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) refused = NULL;

        assert_false(ram_blocks_set_target_page(blocks, bad[i], &refused));
        assert_true(g_error_matches(refused, RAM_ERROR, RAM_ERROR_INVALID));
    }
    assert_true(ram_blocks_set_target_page(blocks, 1024, NULL));
    assert_true(ram_blocks_set_target_page(blocks, RAM_TARGET_PAGE_MAX, NULL));
    assert_int_equal(ram_blocks_target_page(blocks), RAM_TARGET_PAGE_MAX);
    add(blocks, "ram", RAM_TARGET_PAGE_MAX, 0);
    assert_true(ram_blocks_set_target_page(blocks, RAM_TARGET_PAGE_MAX, NULL));
    assert_false(ram_blocks_set_target_page(blocks, 4096, &error));
    assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE));
}

static void ranges_are_held_against_the_block(void **state)
{
    const guint64 limit = G_GUINT64_CONSTANT(1) << 56;
    const struct {
        guint block;
        guint64 offset, length;
        gboolean good;
    } rows[] = {
        { 0, 0, 4096, TRUE },
        { 0, 0, MIB, TRUE },
        { 0, MIB - 4096, 4096, TRUE },
        { 0, MIB, 0, TRUE },
        { 0, MIB, 4096, FALSE },
        { 0, MIB - 4096, 8192, FALSE },
        { 0, 1, 4096, FALSE },
        { 0, 0, 100, FALSE },
        { 0, 4096, G_MAXUINT64 - 4095, FALSE },
        { 1, 4 * MIB, MIB, TRUE },
        { 1, limit - 4096, 4096, TRUE },
        { 1, limit, 4096, FALSE },
        { 2, 0, 4096, FALSE },
    };
    g_autoptr(RamBlocks) blocks = ram_blocks_new();

    add(blocks, "known", MIB, 0);
    add(blocks, "of unknown length", 0, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        assert_int_equal(ram_blocks_check_range(blocks, rows[i].block, rows[i].offset,
                                                rows[i].length, &error), rows[i].good);
        assert_int_equal(error == NULL, rows[i].good);
        if (error)
            assert_true(g_error_matches(error, RAM_ERROR, RAM_ERROR_INVALID));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_found_by_its_name),
        cmocka_unit_test(adding_a_known_block_completes_it),
        cmocka_unit_test(what_cannot_be_a_block_is_refused),
        cmocka_unit_test(blocks_are_limited_in_number),
        cmocka_unit_test(target_pages_have_limits_and_come_before_the_blocks),
        cmocka_unit_test(ranges_are_held_against_the_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
