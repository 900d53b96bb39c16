/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Job statistics as virt-postcopy reads them. */
#include "config.h"

#include "cli/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/job-build.h"

static void a_job_without_our_fields_is_none_of_ours(void **state)
{
    JobBuild *build = job_build_new();

    job_build_int(build, "operation", VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT);
    job_build_number(build, "data_total", 1);
    assert_null(job_build_end(build, "vm", VIR_DOMAIN_JOB_UNBOUNDED));
    assert_null(job_build_end(job_build_source(), "vm", VIR_DOMAIN_JOB_NONE));
    assert_null(job_build_end(job_build_new(), "vm", VIR_DOMAIN_JOB_UNBOUNDED));
}

static void the_side_is_the_operations(void **state)
{
    g_autoptr(Job) source = job_source("vm"), destination = job_destination("vm");
    JobBuild *build = job_build_new();
    g_autoptr(Job) unknown = NULL;

    job_build_text(build, "postcopy.state", "active");
    unknown = job_build_end(build, "vm", VIR_DOMAIN_JOB_UNBOUNDED);
    assert_int_equal(job_side(source), JOB_SIDE_SOURCE);
    assert_int_equal(job_side(destination), JOB_SIDE_DESTINATION);
    assert_int_equal(job_side(unknown), JOB_SIDE_UNKNOWN);
    assert_string_equal(job_side_name(job_side(source)), "source");
    assert_string_equal(job_side_name(job_side(destination)), "destination");
    assert_string_equal(job_side_name(job_side(unknown)), "unknown");
}

static void fields_are_read_whatever_their_type(void **state)
{
    JobBuild *build = job_build_source();
    g_autoptr(Job) job = NULL;

    job_build_int(build, "negative", -5);
    job = job_build_end(build, "vm", VIR_DOMAIN_JOB_UNBOUNDED);
    assert_int_equal(job_number(job, "postcopy.channels"), 2);
    assert_int_equal(job_number(job, "operation"), VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT);
    assert_int_equal(job_number(job, "postcopy.rtt"), 830);
    assert_int_equal(job_number(job, "negative"), 0);
    assert_int_equal(job_number(job, "postcopy.peer"), 0);
    assert_int_equal(job_number(job, "not there"), 0);
    assert_true(job_double(job, "postcopy.compression_ratio") == 2.5);
    assert_true(job_double(job, "postcopy.rtt") == 830);
    assert_string_equal(job_text(job, "postcopy.peer"), "hostb.example.com");
    assert_null(job_text(job, "postcopy.rtt"));
    assert_null(job_text(job, "not there"));
    assert_false(job_has(job, "postcopy.block_time"));
}

static void progress_is_what_is_not_left(void **state)
{
    g_autoptr(Job) job = job_source("vm");
    g_autoptr(Job) done = job_build_end(job_build_source(), "vm", VIR_DOMAIN_JOB_COMPLETED);
    JobBuild *build = job_build_new();
    g_autoptr(Job) memory_alone = NULL;
    guint64 seconds;

    assert_true(job_progress(job) == 0.625);
    assert_true(job_progress(done) == 1);
    assert_true(job_eta(job, &seconds));
    assert_int_equal(seconds, 12);
    assert_false(job_eta(done, &seconds));
    job_build_text(build, "postcopy.state", "active");
    job_build_number(build, "memory_total", 100);
    job_build_number(build, "memory_remaining", 500); /* more than there is: nothing done */
    job_build_number(build, "memory_bps", 10);
    memory_alone = job_build_end(build, "vm", VIR_DOMAIN_JOB_BOUNDED);
    assert_int_equal(job_total(memory_alone), 100);
    assert_true(job_progress(memory_alone) == 0);
    assert_int_equal(job_rate(memory_alone), 10);
    assert_true(job_eta(memory_alone, &seconds));
    assert_int_equal(seconds, 50);
}

static void what_the_helper_holds_is_not_done_yet(void **state)
{
    JobBuild *build = job_build_source();
    g_autoptr(Job) job = NULL;

    job_build_number(build, "disk_remaining", 1024);
    job_build_number(build, "postcopy.remaining", (guint64)1024 << 20);
    job = job_build_end(build, "vm", VIR_DOMAIN_JOB_UNBOUNDED);
    assert_int_equal(job_remaining(job), ((guint64)1024 << 20) + 1024);
    assert_int_equal(job_transferred(job), ((guint64)1300 << 20) + 700000);
}

static void nothing_known_is_nothing_done(void **state)
{
    JobBuild *build = job_build_new();
    g_autoptr(Job) job = NULL;
    guint64 seconds;

    job_build_text(build, "postcopy.state", "setup");
    job = job_build_end(build, "vm", VIR_DOMAIN_JOB_UNBOUNDED);
    assert_true(job_progress(job) == 0);
    assert_false(job_eta(job, &seconds));
    assert_int_equal(job_rate(job), 0);
}

static void the_histogram_is_read_bucket_by_bucket(void **state)
{
    g_autoptr(Job) job = job_destination("vm");
    g_autoptr(GArray) buckets = job_latencies(job);

    assert_int_equal(buckets->len, 3);
    assert_int_equal(g_array_index(buckets, JobBucket, 0).le_us, 2);
    assert_int_equal(g_array_index(buckets, JobBucket, 0).count, 14);
    assert_int_equal(g_array_index(buckets, JobBucket, 2).le_us, 4096);
    assert_int_equal(g_array_index(buckets, JobBucket, 2).count, 46);
}

static void what_is_no_histogram_reads_as_an_empty_one(void **state)
{
    static const char *const bad[] = { "1:2,", ",", "1", ":", "1:", ":1", "2:1,1:1", "1:1,1:1",
                                       "a:1", "1:b", "1:-1", "1:2:3", "1:18446744073709551616" };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        JobBuild *build = job_build_new();
        g_autoptr(Job) job = NULL;
        g_autoptr(GArray) buckets = NULL;

        job_build_text(build, "postcopy.latency_histogram", bad[i]);
        job = job_build_end(build, "vm", VIR_DOMAIN_JOB_UNBOUNDED);
        buckets = job_latencies(job);
        assert_int_equal(buckets->len, 0);
    }
}

static void without_a_histogram_there_are_no_buckets(void **state)
{
    g_autoptr(Job) job = job_source("vm");
    g_autoptr(GArray) buckets = job_latencies(job);

    assert_int_equal(buckets->len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_without_our_fields_is_none_of_ours),
        cmocka_unit_test(the_side_is_the_operations),
        cmocka_unit_test(fields_are_read_whatever_their_type),
        cmocka_unit_test(progress_is_what_is_not_left),
        cmocka_unit_test(what_the_helper_holds_is_not_done_yet),
        cmocka_unit_test(nothing_known_is_nothing_done),
        cmocka_unit_test(the_histogram_is_read_bucket_by_bucket),
        cmocka_unit_test(what_is_no_histogram_reads_as_an_empty_one),
        cmocka_unit_test(without_a_histogram_there_are_no_buckets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
