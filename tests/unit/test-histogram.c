/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Buckets and percentiles of the histogram of durations. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ram/histogram.h"

static void each_duration_has_its_bucket(void **state)
{
    static const struct {
        gint64 us;
        guint bucket;
    } rows[] = {
        { G_MININT64, 0 },  { -1, 0 },    { 0, 0 },
        { 1, 1 },           { 2, 2 },     { 3, 2 },
        { 4, 3 },           { 7, 3 },     { 1023, 10 },
        { 1024, 11 },       { (1 << 30) - 1, 30 }, { 1 << 30, 31 },
        { G_MAXINT64, 31 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        guint64 buckets[HISTOGRAM_BUCKETS];
        Histogram histogram = { 0 };

        histogram_add(&histogram, rows[i].us);
        histogram_get_buckets(&histogram, buckets);
        for (guint b = 0; b < HISTOGRAM_BUCKETS; b++)
            assert_int_equal(buckets[b], b == rows[i].bucket);
        assert_int_equal(histogram.count, 1);
        assert_int_equal(histogram.max_us, MAX(rows[i].us, 0));
        assert_int_equal(histogram.sum_us, MAX(rows[i].us, 0));
    }
}

static void an_empty_one_has_no_percentiles(void **state)
{
    Histogram histogram = { 0 };

    assert_int_equal(histogram_percentile(&histogram, 0.5), 0);
    assert_int_equal(histogram_percentile(&histogram, 1), 0);
}

/* 100 durations: 50 of 10 us (up to 11), 40 of 100 us (to 104), 9 of 1000 us (to 1024), 1 of
 * 5000 us. */
static void percentiles_are_upper_ends_of_cells(void **state)
{
    static const struct {
        double fraction;
        guint64 us;
    } rows[] = {
        { -1, 11 },    { 0, 11 },      { 0.01, 11 },  { 0.5, 11 }, { 0.51, 104 }, { 0.9, 104 },
        { 0.91, 1024 }, { 0.99, 1024 }, { 0.995, 5000 }, { 1, 5000 }, { 2, 5000 },
    };
    Histogram histogram = { 0 };

    for (guint i = 0; i < 100; i++)
        histogram_add(&histogram, i < 50 ? 10 : i < 90 ? 100 : i < 99 ? 1000 : 5000);
    assert_int_equal(histogram.sum_us, 50 * 10 + 40 * 100 + 9 * 1000 + 5000);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        assert_int_equal(histogram_percentile(&histogram, rows[i].fraction), rows[i].us);
}

/* Of each duration, alone with a longer one: more than it, by an eighth at most. */
static void a_percentile_is_exact_to_an_eighth(void **state)
{
    for (guint64 us = 0; us < G_GUINT64_CONSTANT(1) << 32; us += 1 + us / 100) {
        Histogram histogram = { 0 };
        guint64 half;

        histogram_add(&histogram, (gint64)us);
        histogram_add(&histogram, G_MAXINT64);
        half = histogram_percentile(&histogram, 0.5);
        if (us >> 29 >= 7) /* the last cell */
            break;
        assert_true(half > us);
        assert_true(half <= us + 1 + us / 8);
    }
}

static void no_percentile_is_beyond_the_longest(void **state)
{
    Histogram histogram = { 0 };

    for (guint i = 0; i < 10; i++)
        histogram_add(&histogram, 9);
    assert_int_equal(histogram_percentile(&histogram, 0.5), 9);
    histogram_add(&histogram, G_GINT64_CONSTANT(1) << 40); /* far within the last bucket */
    assert_int_equal(histogram_percentile(&histogram, 1), G_GINT64_CONSTANT(1) << 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_duration_has_its_bucket),
        cmocka_unit_test(an_empty_one_has_no_percentiles),
        cmocka_unit_test(percentiles_are_upper_ends_of_cells),
        cmocka_unit_test(a_percentile_is_exact_to_an_eighth),
        cmocka_unit_test(no_percentile_is_beyond_the_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
