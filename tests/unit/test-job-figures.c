/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A helper's counters, added up over sessions, and the parameters that they become. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "driver/job_params.h"

static JobCounters counters_of(const char *text)
{
    g_autoptr(GVariant) statistics = g_variant_ref_sink(g_variant_new_parsed(text));
    JobCounters counters;

    job_counters_read(&counters, statistics);
    return counters;
}

static const remote_param *find(const JobParams *params, const char *field)
{
    for (guint i = 0; i < params->n; i++) {
        if (g_str_equal(params->params[i].field, field))
            return &params->params[i];
    }
    return NULL;
}

static guint64 number(const JobParams *params, const char *field)
{
    const remote_param *param = find(params, field);

    if (!param)
        fail_msg("%s is missing", field);
    assert_int_equal(param->value.type, REMOTE_PARAM_ULLONG);
    return param->value.remote_param_value_u.ul;
}

static const char *text(const JobParams *params, const char *field)
{
    const remote_param *param = find(params, field);

    if (!param)
        fail_msg("%s is missing", field);
    assert_int_equal(param->value.type, REMOTE_PARAM_STRING);
    return param->value.remote_param_value_u.s;
}

/* ---- counters ---- */

static void what_is_no_counter_counts_nothing(void **state)
{
    static const char *const texts[] = {
        "@a{sv} {}",
        "{'requests': <'many'>}",
        "{'requests': <int32 7>, 'request-latency-us': <uint64 3>}",
        "{'request-latency-us': <@at []>}",
    };
    const JobCounters none = { 0 };
    JobCounters counters;

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        counters = counters_of(texts[i]);
        assert_memory_equal(&counters, &none, sizeof none);
    }
    job_counters_read(&counters, NULL);
    assert_memory_equal(&counters, &none, sizeof none);
}

static void sessions_are_added_up(void **state)
{
    JobCounters sum =
        counters_of("{'requests': <uint64 5>, 'request-latency-max-us': <uint64 900>, "
                    "'ram-bytes': <uint64 4096>, 'ram-remaining-bytes': <uint64 3000>, "
                    "'rtt-us': <uint64 50>, 'request-latency-us': <[uint64 1, 2]>}");
    JobCounters later =
        counters_of("{'requests': <uint64 7>, 'request-latency-max-us': <uint64 30>, "
                    "'rtt-us': <uint64 20>, 'request-latency-us': <[uint64 1, 0, 4]>}");

    job_counters_add(&sum, &later);
    assert_int_equal(sum.requests, 12);
    assert_int_equal(sum.latency_max_us, 900);
    assert_int_equal(sum.rtt_us, 20);
    assert_int_equal(sum.latency_buckets[0], 2);
    assert_int_equal(sum.latency_buckets[1], 2);
    assert_int_equal(sum.latency_buckets[2], 4);
    /* It does not know the blocks yet. */
    assert_int_equal(sum.ram_bytes, 4096);
    assert_int_equal(sum.ram_remaining_bytes, 3000);
    later = counters_of("{'ram-bytes': <uint64 4096>, 'ram-remaining-bytes': <uint64 10>}");
    job_counters_add(&sum, &later);
    assert_int_equal(sum.ram_remaining_bytes, 10);
}

static void more_buckets_than_known_are_in_the_last(void **state)
{
    GVariantBuilder all;
    g_autoptr(GVariant) statistics = NULL;
    JobCounters counters;
    guint64 many[JOB_LATENCY_BUCKETS + 3];

    for (gsize i = 0; i < G_N_ELEMENTS(many); i++)
        many[i] = 1;
    g_variant_builder_init(&all, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&all, "{sv}", "request-latency-us",
                          g_variant_new_fixed_array(G_VARIANT_TYPE_UINT64, many,
                                                    G_N_ELEMENTS(many), sizeof *many));
    statistics = g_variant_ref_sink(g_variant_builder_end(&all));
    job_counters_read(&counters, statistics);
    assert_int_equal(counters.latency_buckets[JOB_LATENCY_BUCKETS - 1], 4);
}

static void percentiles_are_the_ends_of_buckets(void **state)
{
    JobCounters c = { .latency_max_us = 700 };

    assert_int_equal(job_latency_percentile(&c, 0.99), 0);
    c.latency_buckets[3] = 98; /* below 8 */
    c.latency_buckets[10] = 2; /* below 1024 */
    assert_int_equal(job_latency_percentile(&c, 0.50), 8);
    assert_int_equal(job_latency_percentile(&c, 0.98), 8);
    assert_int_equal(job_latency_percentile(&c, 0.99), 700); /* no longer than the longest */
    assert_int_equal(job_latency_percentile(&c, 1), 700);
}

/* ---- parameters ---- */

static JobFigures figures_of(MigrationSide side)
{
    JobFigures f = { .side = side,
                     .elapsed_us = 12345678,
                     .channels = 2,
                     .recoveries = 1,
                     .link_lost = TRUE,
                     .lost_us = 2500000 };

    f.state = g_strdup("active");
    f.phase = g_strdup("running");
    f.session = g_strdup("01020304");
    f.peer = g_strdup("CN=b");
    f.tls = g_strdup("TLS1.3 AES-256-GCM");
    f.features = g_strdup("ram,zstd");
    f.counters = (JobCounters){ .stream_bytes = 1000,
                                .disks_received = 50,
                                .requests = 3,
                                .pages_normal = 4,
                                .blocked_us = 7999,
                                .ram_bytes = 8192,
                                .ram_remaining_bytes = 4096,
                                .plain_bytes = 300,
                                .encoded_bytes = 200,
                                .latency_count = 3,
                                .latency_sum_us = 31,
                                .latency_max_us = 20 };
    f.counters.latency_buckets[2] = 2;
    f.counters.latency_buckets[5] = 1;
    return f;
}

static void every_field_is_told_at_the_destination(void **state)
{
    g_auto(JobFigures) f = figures_of(MIGRATION_SIDE_DESTINATION);
    g_auto(JobParams) params = { 0 };
    const remote_param *ratio;
    guint n;

    job_params_add_postcopy(&params, &f);
    for (n = 0; job_field_name(n); n++)
        assert_non_null(find(&params, job_field_name(n)));
    assert_int_equal(n, 31);
    assert_int_equal(params.n, n);
    assert_string_equal(text(&params, "postcopy.tls"), "TLS1.3 AES-256-GCM");
    assert_string_equal(text(&params, "postcopy.link"), "lost");
    assert_string_equal(text(&params, "postcopy.latency_histogram"), "4:2,32:1");
    assert_int_equal(number(&params, "postcopy.link_lost_time"), 2500);
    assert_int_equal(number(&params, "postcopy.block_time"), 7);
    assert_int_equal(number(&params, "postcopy.latency_avg"), 10);
    assert_int_equal(number(&params, "postcopy.latency_p50"), 4);
    assert_int_equal(number(&params, "postcopy.latency_p99"), 20);
    assert_int_equal(find(&params, "postcopy.recoveries")->value.type, REMOTE_PARAM_UINT);
    ratio = find(&params, "postcopy.compression_ratio");
    assert_true(fabs(ratio->value.remote_param_value_u.d - 1.5) < 0.001);
}

static void the_source_leaves_out_what_it_cannot_know(void **state)
{
    g_auto(JobFigures) f = figures_of(MIGRATION_SIDE_SOURCE);
    g_auto(JobParams) params = { 0 };

    f.counters.encoded_bytes = 0;
    g_clear_pointer(&f.features, g_free);
    job_params_add_postcopy(&params, &f);
    assert_non_null(find(&params, "postcopy.requests"));
    assert_null(find(&params, "postcopy.latency_avg"));
    assert_null(find(&params, "postcopy.latency_histogram"));
    assert_null(find(&params, "postcopy.block_time"));
    assert_null(find(&params, "postcopy.requests_outstanding"));
    assert_null(find(&params, "postcopy.compression_ratio"));
    assert_null(find(&params, "postcopy.features"));
}

static void base_fields_are_libvirts_names(void **state)
{
    g_auto(JobFigures) f = figures_of(MIGRATION_SIDE_DESTINATION);
    g_auto(JobParams) params = { 0 };

    job_params_add_base(&params, &f);
    assert_int_equal(find(&params, "operation")->value.remote_param_value_u.i, 4);
    assert_int_equal(number(&params, "time_elapsed"), 12345);
    assert_int_equal(number(&params, "memory_total"), 8192);
    assert_int_equal(number(&params, "memory_processed"), 1000);
    assert_int_equal(number(&params, "memory_remaining"), 4096);
    assert_int_equal(number(&params, "data_remaining"), 4096);
    assert_int_equal(number(&params, "data_processed"), 1050);
    assert_int_equal(number(&params, "disk_processed"), 50);
}

static void what_remains_before_the_switch_is_a_guess(void **state)
{
    g_auto(JobFigures) f = figures_of(MIGRATION_SIDE_DESTINATION);

    f.counters.pages_normal = f.counters.ram_remaining_bytes = 0;
    assert_int_equal(job_figures_amounts(&f).remaining, 7192);
    f.counters.ram_bytes = 0; /* only the XML is known */
    f.expected_ram = 5000;
    assert_int_equal(job_figures_amounts(&f).total, 5000);
    assert_int_equal(job_figures_amounts(&f).remaining, 4000);
    f.counters.ram_bytes = 8192;
    f.counters.stream_bytes = 9000; /* dirty pages came again */
    assert_int_equal(job_figures_amounts(&f).remaining, 0);
    f.counters.stream_bytes = 100;
    f.outcome = JOB_OUTCOME_COMPLETED;
    assert_int_equal(job_figures_amounts(&f).remaining, 0);
}

static void without_a_stream_what_has_come_is_what_does_not_remain(void **state)
{
    g_auto(JobFigures) f = figures_of(MIGRATION_SIDE_DESTINATION);

    f.counters.ram_bytes = 8192;
    f.counters.ram_remaining_bytes = 2000;
    f.counters.stream_bytes = 0;
    assert_int_equal(job_figures_amounts(&f).processed, 6192);
    f.counters.ram_remaining_bytes = 9000; /* of a memory that is not known yet */
    assert_int_equal(job_figures_amounts(&f).processed, 0);
}

static void never_more_than_64_and_libvirts_own_stay(void **state)
{
    g_auto(JobFigures) f = figures_of(MIGRATION_SIDE_DESTINATION);
    remote_param their[60];
    const remote_params theirs = { .remote_params_len = 60, .remote_params_val = their };
    g_auto(JobParams) params = { 0 };

    for (guint i = 0; i < G_N_ELEMENTS(their); i++) {
        their[i] = (remote_param){ .field = (char *)"memory_total" };
        their[i].value.type = REMOTE_PARAM_ULLONG;
        their[i].value.remote_param_value_u.ul = i;
    }
    job_params_add_theirs(&params, &theirs);
    job_params_add_postcopy(&params, &f);
    assert_int_equal(params.n, REMOTE_PARAMS_MAX);
    for (guint i = 0; i < G_N_ELEMENTS(their); i++)
        assert_int_equal(params.params[i].value.remote_param_value_u.ul, i);
    for (guint i = 0; i < 4; i++)
        assert_string_equal(params.params[60 + i].field, job_field_name(i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_counter_counts_nothing),
        cmocka_unit_test(sessions_are_added_up),
        cmocka_unit_test(more_buckets_than_known_are_in_the_last),
        cmocka_unit_test(percentiles_are_the_ends_of_buckets),
        cmocka_unit_test(every_field_is_told_at_the_destination),
        cmocka_unit_test(the_source_leaves_out_what_it_cannot_know),
        cmocka_unit_test(base_fields_are_libvirts_names),
        cmocka_unit_test(what_remains_before_the_switch_is_a_guess),
        cmocka_unit_test(without_a_stream_what_has_come_is_what_does_not_remain),
        cmocka_unit_test(never_more_than_64_and_libvirts_own_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
