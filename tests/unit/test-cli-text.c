/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers and names as people read them. */
#include "config.h"

#include "cli/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void numbers_have_units(void **state)
{
    static const struct {
        char *(*format)(guint64 number);
        guint64 number;
        const char *text;
    } rows[] = {
        { text_bytes, 0, "0 B" },
        { text_bytes, 1023, "1023 B" },
        { text_bytes, 1024, "1.0 KiB" },
        { text_bytes, 1536, "1.5 KiB" },
        { text_bytes, 10 * 1024, "10 KiB" },
        { text_bytes, (1 << 20) - 1, "1.0 MiB" },
        { text_bytes, (guint64)1300 << 20, "1.3 GiB" },
        { text_bytes, G_MAXUINT64, "16 EiB" },
        { text_rate, 64 << 20, "64 MiB/s" },
        { text_us, 0, "0 us" },
        { text_us, 999, "999 us" },
        { text_us, 1000, "1.0 ms" },
        { text_us, 9960, "10 ms" },
        { text_us, 34400, "34 ms" },
        { text_us, 999499, "999 ms" },
        { text_us, 999500, "1.0 s" },
        { text_us, 2100000, "2.1 s" },
        { text_ms, 1250, "1.2 s" },
        { text_ms, G_MAXUINT64, "18446744073710 s" },
        { text_duration, 0, "0:00" },
        { text_duration, 7, "0:07" },
        { text_duration, 754, "12:34" },
        { text_duration, 3723, "1:02:03" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = rows[i].format(rows[i].number);

        assert_string_equal(text, rows[i].text);
    }
}

static void text_takes_exactly_its_columns(void **state)
{
    static const struct {
        const char *text;
        gsize columns;
        gboolean right;
        const char *fitted;
    } rows[] = {
        { "vm", 4, FALSE, "vm  " },
        { "vm", 4, TRUE, "  vm" },
        { "vm", 2, FALSE, "vm" },
        { "domain", 4, FALSE, "dom…" },
        { "domain", 1, FALSE, "…" },
        { "domain", 0, FALSE, "" },
        { "", 2, FALSE, "  " },
        { "größe", 5, FALSE, "größe" },
        { "größe", 4, FALSE, "grö…" },
        { "仮想機械", 8, FALSE, "仮想機械" },
        { "仮想機械", 7, FALSE, "仮想機…" },
        { "仮想機械", 6, FALSE, "仮想… " },
        { "e\xcc\x81t\xc3\xa9", 3, FALSE, "e\xcc\x81t\xc3\xa9" }, /* a combining accent */
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *fitted = text_fit(rows[i].text, rows[i].columns, rows[i].right);

        assert_string_equal(fitted, rows[i].fitted);
        assert_int_equal(text_width(fitted), rows[i].columns);
    }
}

static void nothing_in_a_name_reaches_the_terminal(void **state)
{
    static const char *const names[] = { "a\033[2Jb", "a\nb", "a\rb", "a\tb", "a\x7f" "b",
                                         "a\xc2\x9b" "b", "a\xe2\x80\xae" "b", "a\xff" "b" };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *fitted = text_fit(names[i], 10, FALSE);

        assert_true(g_utf8_validate(fitted, -1, NULL));
        assert_int_equal(text_width(fitted), 10);
        for (const char *p = fitted; *p; p = g_utf8_next_char(p))
            assert_true(g_unichar_isprint(g_utf8_get_char(p)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_units),
        cmocka_unit_test(text_takes_exactly_its_columns),
        cmocka_unit_test(nothing_in_a_name_reaches_the_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
