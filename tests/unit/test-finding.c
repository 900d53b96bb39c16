/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lists of findings: the worst one counts, and the first failure has the words. */
#include "config.h"

#include "util/finding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_an_empty_list_passes_and_has_no_error(void **state)
{
    g_autoptr(GPtrArray) findings = findings_new();

    assert_int_equal(findings_verdict(findings), FINDING_PASS);
    assert_null(findings_error(findings));
}

static void test_strings_are_copied(void **state)
{
    g_autoptr(GPtrArray) findings = findings_new();
    char id[] = "id", what[] = "what", detail[] = "detail", remedy[] = "remedy";
    const Finding *finding;

    findings_add(findings, FINDING_WARN, id, what, detail, remedy);
    id[0] = what[0] = detail[0] = remedy[0] = '!';
    finding = g_ptr_array_index(findings, 0);
    assert_string_equal(finding->id, "id");
    assert_string_equal(finding->what, "what");
    assert_string_equal(finding->detail, "detail");
    assert_string_equal(finding->remedy, "remedy");
}

static void test_the_worst_verdict_counts(void **state)
{
    g_autoptr(GPtrArray) findings = findings_new();

    findings_add(findings, FINDING_PASS, "a", "A", NULL, NULL);
    assert_int_equal(findings_verdict(findings), FINDING_PASS);
    findings_add(findings, FINDING_FAIL, "b", "B", NULL, NULL);
    findings_add(findings, FINDING_WARN, "c", "C", NULL, NULL);
    assert_int_equal(findings_verdict(findings), FINDING_FAIL);
}

static void test_warnings_are_no_error(void **state)
{
    g_autoptr(GPtrArray) findings = findings_new();

    findings_add(findings, FINDING_WARN, "a", "A", "so so", "do it");
    assert_int_equal(findings_verdict(findings), FINDING_WARN);
    assert_null(findings_error(findings));
}

static void check_error(const char *detail, const char *remedy, const char *expected)
{
    g_autoptr(GPtrArray) findings = findings_new();
    g_autofree char *error = NULL;

    findings_add(findings, FINDING_WARN, "w", "Warned", "warned", "warned");
    findings_add(findings, FINDING_FAIL, "f", "First", detail, remedy);
    findings_add(findings, FINDING_FAIL, "s", "Second", "second", "second");
    error = findings_error(findings);
    assert_string_equal(error, expected);
}

static void test_the_first_failure_has_the_words(void **state)
{
    check_error("it is gone", "bring it back", "it is gone: bring it back");
    check_error(NULL, "bring it back", "First: bring it back");
    check_error("it is gone", NULL, "it is gone");
    check_error(NULL, NULL, "First");
}

static void test_taking_keeps_the_order(void **state)
{
    static const char *const expected[] = { "a", "b", "c" };
    g_autoptr(GPtrArray) findings = findings_new();
    GPtrArray *more = findings_new();

    findings_add(findings, FINDING_PASS, "a", "A", NULL, NULL);
    findings_add(more, FINDING_PASS, "b", "B", NULL, NULL);
    findings_add(more, FINDING_FAIL, "c", "C", NULL, NULL);
    findings_take(findings, more);
    findings_take(findings, findings_new());
    assert_int_equal(findings->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = g_ptr_array_index(findings, i);

        assert_string_equal(finding->id, expected[i]);
    }
}

static void test_failures_are_taken_as_warnings(void **state)
{
    static const FindingVerdict expected[] = { FINDING_FAIL, FINDING_PASS, FINDING_WARN,
                                               FINDING_WARN };
    g_autoptr(GPtrArray) findings = findings_new();
    GPtrArray *more = findings_new();

    findings_add(findings, FINDING_FAIL, "a", "A", "x", "y");
    findings_add(more, FINDING_PASS, "b", "B", NULL, NULL);
    findings_add(more, FINDING_FAIL, "c", "C", "x", "y");
    findings_add(more, FINDING_WARN, "d", "D", "x", "y");
    findings_take_as_warnings(findings, more);
    assert_int_equal(findings->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < findings->len; i++)
        assert_int_equal(((Finding *)g_ptr_array_index(findings, i))->verdict, expected[i]);
}

static void test_verdicts_have_names(void **state)
{
    assert_string_equal(finding_verdict_name(FINDING_PASS), "pass");
    assert_string_equal(finding_verdict_name(FINDING_WARN), "warn");
    assert_string_equal(finding_verdict_name(FINDING_FAIL), "fail");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_list_passes_and_has_no_error),
        cmocka_unit_test(test_strings_are_copied),
        cmocka_unit_test(test_the_worst_verdict_counts),
        cmocka_unit_test(test_warnings_are_no_error),
        cmocka_unit_test(test_the_first_failure_has_the_words),
        cmocka_unit_test(test_taking_keeps_the_order),
        cmocka_unit_test(test_failures_are_taken_as_warnings),
        cmocka_unit_test(test_verdicts_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
