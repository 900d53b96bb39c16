/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's configuration syntax: values with their lines, errors with theirs. */
#include "config.h"

#include "util/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static GPtrArray *parse(const char *text, GError **error)
{
    return conf_parse(text, strlen(text), "f.conf", error);
}

static const ConfEntry *entry_at(const GPtrArray *entries, guint i)
{
    assert_true(i < entries->len);
    return g_ptr_array_index(entries, i);
}

static void texts_without_keys_have_no_entries(void **state)
{
    static const char *const rows[] = {
        "", "\n", "# comment", "#", "  \t\n\n  # a\n#b = 1\n", "\r\n",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) entries = parse(rows[i], NULL);

        assert_non_null(entries);
        assert_int_equal(entries->len, 0);
    }
}

static void integers_are_read(void **state)
{
    static const struct {
        const char *text;
        gint64 value;
    } rows[] = {
        { "k = 0", 0 },
        { "k=42", 42 },
        { "\tk\t=\t42\t", 42 },
        { "k = 42 # comment", 42 },
        { "k = 42#comment\n", 42 },
        { "k = 42\r\n", 42 },
        { "k = -1", -1 },
        { "k = 007", 7 },
        { "k = 9223372036854775807", G_MAXINT64 },
        { "k = -9223372036854775808", G_MININT64 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) entries = parse(rows[i].text, &error);

        if (!entries)
            fail_msg("%s: %s", rows[i].text, error->message);
        assert_int_equal(entries->len, 1);
        assert_string_equal(entry_at(entries, 0)->key, "k");
        assert_int_equal(entry_at(entries, 0)->type, CONF_INTEGER);
        assert_true(entry_at(entries, 0)->integer == rows[i].value);
    }
}

static void strings_are_read_without_escapes(void **state)
{
    static const struct {
        const char *text;
        const char *value;
    } rows[] = {
        { "k = \"\"", "" },
        { "k = ''", "" },
        { "k = \"a b\"", "a b" },
        { "k = 'a \"b\"'", "a \"b\"" },
        { "k = \"it's\"", "it's" },
        { "k = \"back\\slash\\n\"", "back\\slash\\n" },
        { "k = \"# no comment\" # comment", "# no comment" },
        { "k = \"\xc3\xa4\"", "\xc3\xa4" },
        { "k = \"\"\"\"\"\"", "" },
        { "k = \"\"\"a\n\"b\" 'c'\n\"\"\" # comment", "a\n\"b\" 'c'\n" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) entries = parse(rows[i].text, &error);

        if (!entries)
            fail_msg("%s: %s", rows[i].text, error->message);
        assert_int_equal(entry_at(entries, 0)->type, CONF_STRING);
        assert_string_equal(entry_at(entries, 0)->string, rows[i].value);
    }
}

static void lists_are_read(void **state)
{
    static const struct {
        const char *text;
        const char *joined;
        guint n;
    } rows[] = {
        { "k = []", "", 0 },
        { "k = [ ]", "", 0 },
        { "k = [ \"a\" ]", "a", 1 },
        { "k = [\"a\",\"b\"]", "a|b", 2 },
        { "k = [ 'a', \"b\", ] # comment", "a|b", 2 },
        { "k = [\n  \"a\", # first\n\n  # none\n  \"b\"\n  ,\n]\n", "a|b", 2 },
        { "k = [ \"]\", \"a,b\", \"# c\" ]", "]|a,b|# c", 3 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) entries = parse(rows[i].text, &error);
        g_autofree char *joined = NULL;

        if (!entries)
            fail_msg("%s: %s", rows[i].text, error->message);
        assert_int_equal(entry_at(entries, 0)->type, CONF_LIST);
        assert_int_equal(g_strv_length(entry_at(entries, 0)->list), rows[i].n);
        joined = g_strjoinv("|", entry_at(entries, 0)->list);
        assert_string_equal(joined, rows[i].joined);
    }
}

static void entries_keep_their_order_and_lines(void **state)
{
    static const char text[] = "# head\n"
                               "b = 1\n"
                               "\n"
                               "a = [\n"
                               "  'x',\n"
                               "]\n"
                               "c = \"\"\"\n"
                               "\n"
                               "\"\"\"\n"
                               "d_2 = 'last'";
    g_autoptr(GPtrArray) entries = parse(text, NULL);
    static const struct {
        const char *key;
        guint line;
    } rows[] = { { "b", 2 }, { "a", 4 }, { "c", 7 }, { "d_2", 10 } };

    assert_non_null(entries);
    assert_int_equal(entries->len, G_N_ELEMENTS(rows));
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        assert_string_equal(entry_at(entries, i)->key, rows[i].key);
        assert_int_equal(entry_at(entries, i)->line, rows[i].line);
    }
}

static const struct {
    const char *text;
    ConfError code;
    const char *message;
} bad_rows[] = {
    { "= 1", CONF_ERROR_SYNTAX, "f.conf:1: a line must begin with the name of a key" },
    { "\n\n_k = 1", CONF_ERROR_SYNTAX, "f.conf:3: a line must begin" },
    { "1k = 1", CONF_ERROR_SYNTAX, "f.conf:1: a line must begin" },
    { "; comment", CONF_ERROR_SYNTAX, "f.conf:1: a line must begin" },
    { "[section]", CONF_ERROR_SYNTAX, "f.conf:1: a line must begin" },
    { "k", CONF_ERROR_SYNTAX, "f.conf:1: k is not followed by \"=\"" },
    { "k 1", CONF_ERROR_SYNTAX, "f.conf:1: k is not followed by \"=\"" },
    { "k-l = 1", CONF_ERROR_SYNTAX, "f.conf:1: k is not followed by \"=\"" },
    { "k\n= 1", CONF_ERROR_SYNTAX, "f.conf:1: k is not followed by \"=\"" },
    { "k: 1", CONF_ERROR_SYNTAX, "f.conf:1: k is not followed by \"=\"" },
    { "a = 1\nk =", CONF_ERROR_SYNTAX, "f.conf:2: k has no value" },
    { "k =\n1", CONF_ERROR_SYNTAX, "f.conf:1: k has no value" },
    { "k = # 1", CONF_ERROR_SYNTAX, "f.conf:1: k has no value" },
    { "k = yes", CONF_ERROR_SYNTAX, "f.conf:1: the value of k must be" },
    { "k = /path", CONF_ERROR_SYNTAX, "f.conf:1: the value of k must be" },
    { "k = 1 2", CONF_ERROR_SYNTAX, "f.conf:1: something follows the value of k" },
    { "k = 1.5", CONF_ERROR_SYNTAX, "f.conf:1: something follows the value of k" },
    { "k = 0x10", CONF_ERROR_SYNTAX, "f.conf:1: something follows the value of k" },
    { "k = 1;", CONF_ERROR_SYNTAX, "f.conf:1: something follows the value of k" },
    { "k = \"a\" \"b\"", CONF_ERROR_SYNTAX, "f.conf:1: something follows the value of k" },
    { "k = [] x", CONF_ERROR_SYNTAX, "f.conf:1: something follows the value of k" },
    { "k = -", CONF_ERROR_SYNTAX, "f.conf:1: \"-\" is not an integer" },
    { "k = 9223372036854775808", CONF_ERROR_SYNTAX, "is not an integer of 64 bits" },
    { "k = -9223372036854775809", CONF_ERROR_SYNTAX, "is not an integer of 64 bits" },
    { "k = \"a", CONF_ERROR_SYNTAX, "f.conf:1: a string has no closing \"" },
    { "k = 'a\"", CONF_ERROR_SYNTAX, "f.conf:1: a string has no closing '" },
    { "k = \"a\nb\"", CONF_ERROR_SYNTAX, "f.conf:1: a string has no closing \"" },
    { "k = \"", CONF_ERROR_SYNTAX, "f.conf:1: a string has no closing \"" },
    { "\nk = \"\"\"a\n\"\"", CONF_ERROR_SYNTAX, "f.conf:2: a string that begins with \"\"\"" },
    { "k = \"\"\"", CONF_ERROR_SYNTAX, "f.conf:1: a string that begins with \"\"\"" },
    { "k = \"\"\"\"\"", CONF_ERROR_SYNTAX, "f.conf:1: a string that begins with \"\"\"" },
    { "k = [", CONF_ERROR_SYNTAX, "the list that begins in line 1 has no end" },
    { "\nk = [\n'a',\n", CONF_ERROR_SYNTAX, "f.conf:4: the list that begins in line 2 has no end" },
    { "k = [ 'a'", CONF_ERROR_SYNTAX, "the list that begins in line 1 has no end" },
    { "k = [ 'a' 'b' ]", CONF_ERROR_SYNTAX, "f.conf:1: a comma is missing" },
    { "k = [ 'a',, 'b' ]", CONF_ERROR_SYNTAX, "f.conf:1: a list can hold strings only" },
    { "k = [ , ]", CONF_ERROR_SYNTAX, "f.conf:1: a list can hold strings only" },
    { "k = [\n1 ]", CONF_ERROR_SYNTAX, "f.conf:2: a list can hold strings only" },
    { "k = [ [ 'a' ] ]", CONF_ERROR_SYNTAX, "f.conf:1: a list can hold strings only" },
    { "k = [ 'a\n' ]", CONF_ERROR_SYNTAX, "f.conf:1: a string has no closing '" },
    { "k = 1\n\nk = 2", CONF_ERROR_DUPLICATE, "f.conf:3: k was set already in line 1" },
    { "k = 1\nk = [\n'a'\n]", CONF_ERROR_DUPLICATE, "f.conf:2: k was set already in line 1" },
    { "k = 1\nl = '\xff'", CONF_ERROR_SYNTAX, "f.conf:2: a byte that is not UTF-8" },
    { "# \xc3(", CONF_ERROR_SYNTAX, "f.conf:1: a byte that is not UTF-8" },
    { "a1234567890123456789012345678901234567890123456789012345678901234 = 1", CONF_ERROR_LIMIT,
      "f.conf:1: the name of a key is longer than 64 bytes" },
};

static void bad_texts_are_refused_with_file_and_line(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) entries = parse(bad_rows[i].text, &error);

        if (entries)
            fail_msg("accepted: %s", bad_rows[i].text);
        if (!g_error_matches(error, CONF_ERROR, (gint)bad_rows[i].code) ||
            !strstr(error->message, bad_rows[i].message))
            fail_msg("%s: unexpected error %d: %s", bad_rows[i].text, error->code, error->message);
    }
}

static void a_nul_byte_is_refused(void **state)
{
    static const char text[] = "k = 1\n\0l = 2";
    g_autoptr(GError) error = NULL;

    assert_null(conf_parse(text, sizeof text - 1, "f.conf", &error));
    assert_non_null(strstr(error->message, "f.conf:2: "));
}

/* Nothing beyond len is looked at: under ASan and valgrind this finds reads past the end. */
static void every_truncation_stays_in_bounds(void **state)
{
    static const char whole[] = "a = [ 'x', \"y\", ] # c\nb = \"\"\"z\"\"\"\nc = -12\nd='e'";

    for (gsize len = 0; len < strlen(whole); len++) {
        g_autofree char *cut = g_memdup(whole, (guint)MAX(len, 1));
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) entries = conf_parse(cut, len, "f.conf", &error);

        assert_true((entries != NULL) != (error != NULL));
    }
}

/* TRUE if text is one too much for a limit, FALSE if it is accepted. */
static gboolean is_over_limit(const char *text, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = conf_parse(text, len, "f.conf", &error);

    if (!entries)
        assert_true(g_error_matches(error, CONF_ERROR, CONF_ERROR_LIMIT));
    return entries == NULL;
}

static void the_limit_of_keys_is_exact(void **state)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < CONF_ENTRIES_MAX; i++)
        g_string_append_printf(text, "k%u = 1\n", i);
    assert_false(is_over_limit(text->str, text->len));
    g_string_append(text, "l = 1");
    assert_true(is_over_limit(text->str, text->len));
}

static void the_limit_of_list_items_is_exact(void **state)
{
    g_autoptr(GString) text = g_string_new("k = [");

    for (guint i = 0; i < CONF_LIST_MAX; i++)
        g_string_append(text, "'a',");
    g_string_append(text, "]");
    assert_false(is_over_limit(text->str, text->len));
    g_string_insert(text, 5, "'a',");
    assert_true(is_over_limit(text->str, text->len));
}

static void the_limit_of_size_is_exact(void **state)
{
    g_autofree char *text = g_strnfill(CONF_TEXT_MAX + 1, ' ');

    assert_false(is_over_limit(text, CONF_TEXT_MAX));
    assert_true(is_over_limit(text, CONF_TEXT_MAX + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_without_keys_have_no_entries),
        cmocka_unit_test(integers_are_read),
        cmocka_unit_test(strings_are_read_without_escapes),
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(entries_keep_their_order_and_lines),
        cmocka_unit_test(bad_texts_are_refused_with_file_and_line),
        cmocka_unit_test(a_nul_byte_is_refused),
        cmocka_unit_test(every_truncation_stays_in_bounds),
        cmocka_unit_test(the_limit_of_keys_is_exact),
        cmocka_unit_test(the_limit_of_list_items_is_exact),
        cmocka_unit_test(the_limit_of_size_is_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
