/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The screen of `virt-postcopy top`. */
#include "config.h"

#include "cli/top_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/text.h"
#include "tests/support/job-build.h"

typedef struct {
    GPtrArray *jobs;
    TopFrame frame;
} Screen;

static int setup(void **state)
{
    Screen *screen = g_new0(Screen, 1);

    screen->jobs = g_ptr_array_new_with_free_func((GDestroyNotify)job_free);
    screen->frame = (TopFrame){
        .uri = "postcopy:///system", .host = "hosta.example.com", .clock = "12:34:56",
        .jobs = screen->jobs,
    };
    *state = screen;
    return 0;
}

static int teardown(void **state)
{
    Screen *screen = *state;

    g_ptr_array_unref(screen->jobs);
    g_free(screen);
    return 0;
}

static char *text_of(const Screen *screen, gsize columns, gsize rows)
{
    g_autoptr(GPtrArray) lines = top_view(&screen->frame, columns, rows);
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < lines->len; i++) {
        const TopLine *line = lines->pdata[i];

        assert_true(text_width(line->text) <= columns);
        g_string_append_printf(text, "%s\n", line->text);
    }
    return g_string_free(text, FALSE);
}

static void a_migration_is_told_in_five_lines(void **state)
{
    Screen *screen = *state;
    g_autofree char *text = NULL;

    g_ptr_array_add(screen->jobs, job_destination("web01"));
    text = text_of(screen, 100, 0);
    assert_string_equal(
        text,
        "hosta.example.com   postcopy:///system   12:34:56   1 migration\n"
        "\n"
        "web01   destination   from hosta.example.com   TLS1.3 AES-256-GCM\n"
        "  running   [##############################..................]   62%   ETA 0:12\n"
        "  transferred 1.3 GiB   remaining 768 MiB   total 2.0 GiB   rate 64 MiB/s\n"
        "  requests 150 (3 waiting)   avg 1.0 ms   p50 1.0 ms   p99 3.9 ms   max 4.0 ms"
        "   blocked 4.2 s\n"
        "  link up, lost for 1.2 s   resumes 2   recoveries 1\n");
}

static void the_source_shows_what_it_knows(void **state)
{
    Screen *screen = *state;
    g_autofree char *text = NULL;

    g_ptr_array_add(screen->jobs, job_source("web01"));
    text = text_of(screen, 100, 0);
    assert_non_null(strstr(text, "web01   source   to hostb.example.com"));
    assert_non_null(strstr(text, "compression 2.50"));
    assert_non_null(strstr(text, "rate 64 MiB/s   round trip 830 us\n"));
    assert_non_null(strstr(text, "  requests 150\n"));
    assert_null(strstr(text, "p99"));
    assert_null(strstr(text, "blocked"));
}

static void no_line_is_wider_than_the_screen(void **state)
{
    static const char *const names[] = { "vm", "仮想機械仮想機械仮想機械仮想機械仮想機械", "größe-größe",
                                         "a\033[2J\nb" };
    Screen *screen = *state;

    screen->frame.trouble = "the host has gone away";
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_ptr_array_add(screen->jobs, job_source(names[i]));
        g_ptr_array_add(screen->jobs, job_destination(names[i]));
    }
    for (gsize columns = 1; columns <= 200; columns++) {
        for (gsize rows = 0; rows <= 50; rows += 7) {
            g_autofree char *text = text_of(screen, columns, rows); /* which compares */

            assert_null(strchr(text, '\033'));
        }
    }
}

static void nothing_is_lost_on_a_narrow_screen(void **state)
{
    static const char *const words[] = { "web01", "destination", "from hosta.example.com",
                                         "TLS1.3 AES-256-GCM", "running", "62%", "ETA 0:12",
                                         "transferred 1.3 GiB", "remaining 768 MiB",
                                         "rate 64 MiB/s", "p99 3.9 ms", "blocked 4.2 s", "link up, lost for 1.2 s",
                                         "resumes 2", "recoveries 1" };
    Screen *screen = *state;
    g_autofree char *text = NULL;

    g_ptr_array_add(screen->jobs, job_destination("web01"));
    text = text_of(screen, 40, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        assert_non_null(strstr(text, words[i]));
    assert_non_null(strstr(text, "[#"));
}

static void nothing_running_is_said(void **state)
{
    Screen *screen = *state;
    g_autofree char *text = text_of(screen, 80, 0);

    assert_string_equal(text, "hosta.example.com   postcopy:///system   12:34:56   0 migrations\n"
                              "No migration is running.\n");
}

static void what_has_ended_is_shown_and_not_counted(void **state)
{
    Screen *screen = *state;
    g_autofree char *text = NULL;

    g_ptr_array_add(screen->jobs,
                    job_build_end(job_build_source(), "web01", VIR_DOMAIN_JOB_COMPLETED));
    text = text_of(screen, 100, 0);
    assert_non_null(
        strstr(text, "   0 migrations\nNo migration is running.\n\nweb01   source   to"));
    assert_non_null(strstr(text, "  completed   [####"));
    assert_non_null(strstr(text, "]   100%\n"));
    assert_null(strstr(text, "ETA"));
}

static void before_the_first_answer_nothing_is_claimed(void **state)
{
    Screen *screen = *state;
    g_autofree char *text = NULL;

    screen->frame.jobs = NULL;
    screen->frame.host = NULL;
    text = text_of(screen, 80, 0);
    assert_string_equal(text, "postcopy:///system   12:34:56\n");
}

static void a_lost_connection_is_said_above_what_was_seen_last(void **state)
{
    Screen *screen = *state;
    g_autoptr(GPtrArray) lines = NULL;
    const TopLine *second;

    g_ptr_array_add(screen->jobs, job_source("web01"));
    screen->frame.trouble = "no route to host";
    lines = top_view(&screen->frame, 80, 0);
    second = lines->pdata[1];
    assert_int_equal(second->kind, TOP_LINE_TROUBLE);
    assert_string_equal(second->text,
                        "The connection is lost, trying again: no route to host");
    assert_int_equal(lines->len, 9); /* the amounts take two */
}

static void a_long_reason_is_told_to_its_end(void **state)
{
    Screen *screen = *state;
    g_autofree char *text = NULL;

    screen->frame.trouble = "cannot connect to postcopy+tls://hostb.example.com/system: no such file";
    text = text_of(screen, 40, 0);
    assert_non_null(strstr(text, "\nThe connection is lost, trying again:\ncannot connect to\n"
                                 "postcopy+tls://hostb.example.com/system:\nno such file\n"));
}

static void a_slow_answer_is_said(void **state)
{
    Screen *screen = *state;
    g_autofree char *text = NULL;

    screen->frame.silent = 7;
    text = text_of(screen, 80, 0);
    assert_non_null(strstr(text, "No answer for 7 seconds\n"));
}

static void a_lost_link_stands_out_while_it_matters(void **state)
{
    Screen *screen = *state;
    JobBuild *build = job_build_new();
    g_autoptr(GPtrArray) lines = NULL;
    const TopLine *last;

    job_build_int(build, "operation", VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN);
    job_build_text(build, "postcopy.link", "lost");
    g_ptr_array_add(screen->jobs, job_build_end(build, "vm", VIR_DOMAIN_JOB_UNBOUNDED));
    lines = top_view(&screen->frame, 80, 0);
    last = lines->pdata[lines->len - 1];
    assert_int_equal(last->kind, TOP_LINE_TROUBLE);
    assert_string_equal(last->text, "  link lost   resumes 0   recoveries 0");
}

static void migrations_are_shown_whole_and_the_others_counted(void **state)
{
    Screen *screen = *state;
    g_autofree char *two = NULL, *none = NULL;

    for (int i = 0; i < 4; i++)
        g_ptr_array_add(screen->jobs, job_source("vm"));
    two = text_of(screen, 100, 15); /* a header, and two of six lines each */
    assert_true(g_str_has_suffix(two, "compression 2.50\n2 more migrations do not fit here\n"));
    none = text_of(screen, 100, 3);
    assert_true(g_str_has_suffix(none, "\n4 more migrations do not fit here\n"));
    for (gsize rows = 1; rows < 60; rows++) {
        g_autoptr(GPtrArray) lines = top_view(&screen->frame, 100, rows);

        assert_true(lines->len <= rows);
    }
}

static void a_bar_is_as_long_as_it_may(void **state)
{
    static const struct {
        double fraction;
        gsize columns;
        const char *bar;
    } rows[] = {
        { 0, 12, "[..........]" }, { 0.5, 12, "[#####.....]" },  { 0.999, 12, "[#########.]" },
        { 1, 12, "[##########]" }, { 7, 12, "[##########]" },    { -1, 4, "[..]" },
        { 0.5, 3, "[.]" },         { 0.5, 2, "" },               { 0.5, 0, "" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *bar = top_view_bar(rows[i].fraction, rows[i].columns);

        assert_string_equal(bar, rows[i].bar);
    }
}

#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_migration_is_told_in_five_lines),
        WITH(the_source_shows_what_it_knows),
        WITH(no_line_is_wider_than_the_screen),
        WITH(nothing_is_lost_on_a_narrow_screen),
        WITH(nothing_running_is_said),
        WITH(what_has_ended_is_shown_and_not_counted),
        WITH(before_the_first_answer_nothing_is_claimed),
        WITH(a_lost_connection_is_said_above_what_was_seen_last),
        WITH(a_long_reason_is_told_to_its_end),
        WITH(a_slow_answer_is_said),
        WITH(a_lost_link_stands_out_while_it_matters),
        WITH(migrations_are_shown_whole_and_the_others_counted),
        cmocka_unit_test(a_bar_is_as_long_as_it_may),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
