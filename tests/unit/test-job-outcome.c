/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text of the outcome file: it is always as long, and says back what was put in. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/job_outcome.h"

/* What a reader finds under "reason". */
static char *reason_of(const char *text)
{
    GKeyFile *file = g_key_file_new();
    char *reason;

    assert_int_equal(strlen(text), JOB_OUTCOME_LEN);
    assert_true(g_key_file_load_from_data(file, text, JOB_OUTCOME_LEN, G_KEY_FILE_NONE, NULL));
    assert_true(g_key_file_get_boolean(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_COMPLETE, NULL));
    reason = g_key_file_get_string(file, JOB_OUTCOME_GROUP, JOB_OUTCOME_REASON, NULL);
    assert_non_null(reason);
    g_key_file_unref(file);
    return reason;
}

static void reasons_come_back_as_they_were(void **state)
{
    static const char *const reasons[] = {
        "", "lost the peer", "two\nlines", "[outcome]\nstate=completed", " a space before",
        "a\\b", "x=y;z", "# no comment", "\xc3\xa4\xe2\x82\xac",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(reasons); i++) {
        g_autofree char *text = job_outcome_text("failed", "failed", "peer", reasons[i]);
        g_autofree char *reason = reason_of(text);

        assert_string_equal(reason, reasons[i]);
    }
}

static void long_reason_is_cut_between_characters(void **state)
{
    static const char *const characters[] = { "a", "\\", "\n", "\xc3\xa4", "\xe2\x82\xac" };

    for (gsize i = 0; i < G_N_ELEMENTS(characters); i++) {
        g_autoptr(GString) all = g_string_new(NULL);
        g_autofree char *text = NULL, *reason = NULL;

        while (all->len < 2 * JOB_OUTCOME_LEN)
            g_string_append(all, characters[i]);
        text = job_outcome_text("failed", "postcopy-active", "channel", all->str);
        reason = reason_of(text);
        assert_true(strlen(reason) > 1024);
        assert_true(g_str_has_prefix(all->str, reason));
        assert_int_equal(strlen(reason) % strlen(characters[i]), 0);
    }
}

static void bytes_that_are_no_text_do_not_make_it_unreadable(void **state)
{
    g_autofree char *text = job_outcome_text("failed", "failed", "peer", "a\xff\xfe z");
    g_autofree char *reason = reason_of(text);

    assert_true(g_utf8_validate(reason, -1, NULL));
    assert_true(g_str_has_prefix(reason, "a"));
    assert_true(g_str_has_suffix(reason, " z"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reasons_come_back_as_they_were),
        cmocka_unit_test(long_reason_is_cut_between_characters),
        cmocka_unit_test(bytes_that_are_no_text_do_not_make_it_unreadable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
