/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `virt-postcopy list` prints. */
#include "config.h"

#include "cli/list_view.h"

#include <json-glib/json-glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/text.h"
#include "tests/support/job-build.h"

static GPtrArray *both_sides(void)
{
    GPtrArray *jobs = g_ptr_array_new_with_free_func((GDestroyNotify)job_free);

    g_ptr_array_add(jobs, job_source("web01"));
    g_ptr_array_add(jobs, job_destination("größer"));
    return jobs;
}

static void the_table_has_a_line_for_each_migration(void **state)
{
    g_autoptr(GPtrArray) jobs = both_sides();
    g_autofree char *table = list_view_table(jobs);

    assert_string_equal(
        table,
        "Domain  Side         Phase            Progress  Remaining      Rate  Link  Requests     "
        "p50     p99  Peer\n"
        "web01   source       postcopy-active       62%    768 MiB  64 MiB/s  up         150       "
        "-       -  hostb.example.com\n"
        "größer  destination  running               62%    768 MiB  64 MiB/s  up         150  "
        "1.0 ms  3.9 ms  hosta.example.com\n");
}

static void an_empty_table_has_its_headings(void **state)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_new();
    g_autofree char *table = list_view_table(jobs);

    assert_true(g_str_has_prefix(table, "Domain  Side  Phase"));
    assert_true(g_str_has_suffix(table, "  Peer\n"));
}

static JsonObject *parse(JsonParser *parser, const char *text)
{
    g_autoptr(GError) error = NULL;

    assert_true(json_parser_load_from_data(parser, text, -1, &error));
    return json_node_get_object(json_parser_get_root(parser));
}

static void json_has_every_field_with_its_type(void **state)
{
    g_autoptr(GPtrArray) jobs = both_sides();
    g_autofree char *text = list_view_json("postcopy:///system", "hosta", jobs);
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *root = parse(parser, text), *first, *second, *stats;
    JsonArray *migrations = json_object_get_array_member(root, "migrations");
    const Job *source = jobs->pdata[0];

    assert_string_equal(json_object_get_string_member(root, "uri"), "postcopy:///system");
    assert_string_equal(json_object_get_string_member(root, "host"), "hosta");
    assert_int_equal(json_array_get_length(migrations), 2);
    first = json_array_get_object_element(migrations, 0);
    second = json_array_get_object_element(migrations, 1);
    assert_string_equal(json_object_get_string_member(first, "domain"), "web01");
    assert_string_equal(json_object_get_string_member(first, "side"), "source");
    assert_string_equal(json_object_get_string_member(first, "job"), "running");
    assert_int_equal(json_object_get_int_member(first, "eta_seconds"), 12);
    assert_true(json_object_get_double_member(first, "progress") == 0.625);
    assert_string_equal(json_object_get_string_member(second, "domain"), "größer");
    assert_int_equal(json_array_get_length(json_object_get_array_member(second, "latencies")), 3);

    stats = json_object_get_object_member(first, "stats");
    assert_int_equal(json_object_get_size(stats), (guint)source->n_params);
    for (int i = 0; i < source->n_params; i++) {
        JsonNode *node = json_object_get_member(stats, source->params[i].field);

        switch (source->params[i].type) {
        case VIR_TYPED_PARAM_STRING:
            assert_true(json_node_get_value_type(node) == G_TYPE_STRING);
            break;
        case VIR_TYPED_PARAM_DOUBLE:
            assert_true(json_node_get_value_type(node) == G_TYPE_DOUBLE);
            break;
        default:
            assert_true(json_node_get_value_type(node) == G_TYPE_INT64);
        }
    }
    assert_int_equal(json_object_get_int_member(stats, "postcopy.preempt.bytes_sent"), 700000);
}

static void json_of_nothing_is_an_empty_list(void **state)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_new();
    g_autofree char *text = list_view_json("postcopy:///system", NULL, jobs);
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *root = parse(parser, text);

    assert_int_equal(json_array_get_length(json_object_get_array_member(root, "migrations")), 0);
    assert_true(json_object_get_null_member(root, "host"));
}

static void json_stays_whole_with_any_name_and_number(void **state)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func((GDestroyNotify)job_free);
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autofree char *text = NULL;
    JobBuild *build = job_build_source();
    JsonObject *migration;

    job_build_number(build, "huge", G_MAXUINT64);
    job_build_text(build, "odd", "\"\\\n\001\xff");
    g_ptr_array_add(jobs, job_build_end(build, "a\"b\\c\n\xff", VIR_DOMAIN_JOB_FAILED));
    text = list_view_json("postcopy:///system", "h", jobs);
    migration = json_array_get_object_element(
        json_object_get_array_member(parse(parser, text), "migrations"), 0);
    assert_string_equal(json_object_get_string_member(migration, "domain"),
                        "a\"b\\c\n\xef\xbf\xbd");
    assert_string_equal(json_object_get_string_member(migration, "job"), "failed");
    assert_true(json_object_get_null_member(migration, "eta_seconds"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_has_a_line_for_each_migration),
        cmocka_unit_test(an_empty_table_has_its_headings),
        cmocka_unit_test(json_has_every_field_with_its_type),
        cmocka_unit_test(json_of_nothing_is_an_empty_list),
        cmocka_unit_test(json_stays_whole_with_any_name_and_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
