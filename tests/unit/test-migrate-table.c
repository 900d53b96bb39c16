/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of flags and parameters has a row for each that the installed libvirt knows, under the
 * name and the number that it has there, and none that cannot be. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libvirt/virterror.h>

#include "xml/migrate_table.h"

/* The text between the parentheses of pattern, each time it is found in libvirt's header. */
static GPtrArray *in_header(const char *pattern)
{
    GPtrArray *found = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    g_autoptr(GRegex) regex = g_regex_new(pattern, 0, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;
    g_autofree char *text = NULL;

    assert_true(g_file_get_contents(LIBVIRT_DOMAIN_HEADER, &text, NULL, NULL));
    g_regex_match(regex, text, 0, &match);
    for (; g_match_info_matches(match); g_match_info_next(match, NULL))
        g_ptr_array_add(found, g_match_info_fetch_all(match));
    return found;
}

static void test_every_flag_of_libvirt_has_its_row(void **state)
{
    g_autoptr(GPtrArray) flags = in_header("(VIR_MIGRATE_[A-Z0-9_]+) *= *\\(1 << ([0-9]+)\\)");

    assert_true(flags->len >= 21); /* those of 8.5 */
    for (guint i = 0; i < flags->len; i++) {
        char **words = g_ptr_array_index(flags, i);
        const MigrateRow *row =
            migrate_table_flag((guint)g_ascii_strtoull(words[2], NULL, 10));

        if (!row)
            fail_msg("%s (bit %s) has no row", words[1], words[2]);
        assert_string_equal(row->name, words[1]);
    }
}

static void test_every_parameter_of_libvirt_has_its_row(void **state)
{
    g_autoptr(GPtrArray) params =
        in_header("define (VIR_MIGRATE_PARAM_[A-Z0-9_]+) +\"([^\"]+)\"");

    assert_true(params->len >= 20);
    for (guint i = 0; i < params->len; i++) {
        char **words = g_ptr_array_index(params, i);

        if (!migrate_table_param(words[2]))
            fail_msg("%s (%s) has no row", words[1], words[2]);
    }
}

/* Newer than the libvirt that this is built with may be. */
static void test_parameters_of_later_libvirts_have_their_rows(void **state)
{
    static const char *const later[] = { "compression.zlib.level", "compression.zstd.level",
                                         "migrate_disks_detect_zeroes",
                                         "bandwidth.avail.switchover" };

    for (gsize i = 0; i < G_N_ELEMENTS(later); i++)
        assert_non_null(migrate_table_param(later[i]));
}

static void test_rows_are_unlike_each_other(void **state)
{
    for (gsize i = 0; i < migrate_rows_len; i++) {
        const MigrateRow *row = &migrate_rows[i];

        if (row->bit == MIGRATE_NO_BIT)
            assert_ptr_equal(migrate_table_param(row->name), row);
        else
            assert_ptr_equal(migrate_table_flag((guint)row->bit), row);
    }
}

/* What is refused says why, with a code; what is forwarded is kept; the others are not. */
static void test_rows_are_of_a_piece(void **state)
{
    for (gsize i = 0; i < migrate_rows_len; i++) {
        const MigrateRow *row = &migrate_rows[i];
        gboolean refused = row->disposition == MIGRATE_REFUSED;
        gboolean kept = refused || row->disposition == MIGRATE_FORWARDED;

        if (!row->option || (row->code != 0) != refused || (!row->words && !kept) ||
            (refused && !row->words) || (row->taking == MIGRATE_KEPT) != kept)
            fail_msg("the row of %s contradicts itself", row->name);
    }
}

static void test_what_has_no_row_is_told(void **state)
{
    const guint64 later = (G_GUINT64_CONSTANT(1) << 40) | (1u << 21);

    assert_true(migrate_table_unknown(later | 0x1fffff) == later);
    assert_true(migrate_table_unknown(0x1fffff) == 0);
    assert_null(migrate_table_flag(21));
    assert_null(migrate_table_param("nobody.has.this"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_flag_of_libvirt_has_its_row),
        cmocka_unit_test(test_every_parameter_of_libvirt_has_its_row),
        cmocka_unit_test(test_parameters_of_later_libvirts_have_their_rows),
        cmocka_unit_test(test_rows_are_unlike_each_other),
        cmocka_unit_test(test_rows_are_of_a_piece),
        cmocka_unit_test(test_what_has_no_row_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
