/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What daemons say of themselves to a check. */
#include "config.h"

#include "driver/check_answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_what_is_said_is_understood(void **state)
{
    CheckAnswer said = { (char *)"1.2.3", 1795000000123, (char *)"hostb.test", 16515 };
    g_auto(CheckAnswer) heard = { NULL };
    g_autofree char *text = check_answer_encode(&said);

    assert_true(check_answer_decode(text, strlen(text), &heard, NULL));
    assert_string_equal(heard.version, said.version);
    assert_int_equal(heard.time_ms, said.time_ms);
    assert_string_equal(heard.host, said.host);
    assert_int_equal(heard.port, said.port);
}

static void test_what_later_versions_add_is_skipped(void **state)
{
    static const char text[] = "feature x\nversion 2\n\ntime-ms 5\nmore";
    g_auto(CheckAnswer) heard = { NULL };

    assert_true(check_answer_decode(text, strlen(text), &heard, NULL));
    assert_string_equal(heard.version, "2");
    assert_null(heard.host); /* nor did the first version say it */
    assert_int_equal(heard.port, 0);
}

static void test_nonsense_is_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "version 1\n",
        "time-ms 1\n",
        "version \ntime-ms 1\n",
        "version 1 2\ntime-ms 1\n",
        "version \x1b[2J\ntime-ms 1\n",
        "version \xc3\xa4\ntime-ms 1\n",
        "version 1\ntime-ms -1\n",
        "version 1\ntime-ms 1\nhost \n",
        "version 1\ntime-ms 1\nhost a b\n",
        "version 1\ntime-ms 1\nport 0\n",
        "version 1\ntime-ms 1\nport 65536\n",
        "version 1\ntime-ms 99999999999999999999\n",
        "version 1\ntime-ms 1x\n",
        "version 11111111111111111111111111111111111111111111111111111111111111111\ntime-ms 1\n",
    };
    static const char with_nul[] = "version 1\ntime-ms 1\n\0";
    char big[CHECK_ANSWER_MAX + 1];
    CheckAnswer untouched = { NULL };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        assert_false(check_answer_decode(rows[i], strlen(rows[i]), &untouched, &error));
        assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA));
    }
    memset(big, '\n', sizeof big);
    memcpy(big, "version 1\ntime-ms 1\n", 20);
    assert_false(check_answer_decode(big, sizeof big, &untouched, NULL));
    assert_false(check_answer_decode(with_nul, sizeof with_nul, &untouched, NULL));
    assert_null(untouched.version);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_said_is_understood),
        cmocka_unit_test(test_what_later_versions_add_is_skipped),
        cmocka_unit_test(test_nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
