/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When compressing pays: what is tried, what is kept, and for how long. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ram/compress_policy.h"

#define BEGIN 1000

typedef struct {
    CompressPolicy policy;
    gint64 now;
    guint64 total; /* of pages sent */
} PolicyBench;

/* A period in which so many bytes of pages went out. */
static gboolean period(PolicyBench *bench, guint64 sent)
{
    bench->total += sent;
    assert_int_equal(compress_policy_decide(&bench->policy, bench->total,
                                            bench->now + COMPRESS_PERIOD_US - 1),
                     bench->policy.on);
    bench->now += COMPRESS_PERIOD_US;
    return compress_policy_decide(&bench->policy, bench->total, bench->now);
}

static gboolean compressed_period(PolicyBench *bench, guint64 sent, guint64 encoded)
{
    compress_policy_on_result(&bench->policy, sent, encoded);
    return period(bench, sent);
}

static PolicyBench policy_begin(void)
{
    PolicyBench bench = { .now = BEGIN };

    compress_policy_init(&bench.policy);
    assert_false(compress_policy_decide(&bench.policy, 0, bench.now));
    return bench;
}

static PolicyBench policy_on(void)
{
    PolicyBench bench = policy_begin();

    assert_true(period(&bench, 1000));
    return bench;
}

static void compressing_is_tried_when_the_link_is_always_busy(void **state)
{
    PolicyBench bench = policy_begin();

    for (guint i = 0; i < 100; i++) {
        compress_policy_on_empty(&bench.policy);
        assert_false(period(&bench, 1000));
    }
    assert_true(period(&bench, 1000));
}

static void it_stays_on_while_pages_go_faster(void **state)
{
    PolicyBench bench = policy_on();

    for (guint i = 0; i < 10; i++)
        assert_true(compressed_period(&bench, 1100, 500));
    /* The source has no more: how fast they go says nothing. */
    compress_policy_on_empty(&bench.policy);
    assert_true(compressed_period(&bench, 10, 5));
}

static void assert_rests(PolicyBench *bench, gint64 us)
{
    gint64 off = bench->now;

    while (bench->now < off + us - COMPRESS_PERIOD_US)
        assert_false(period(bench, 1000));
    assert_true(period(bench, 1000));
}

static void it_rests_when_pages_do_not_shrink_longer_each_time(void **state)
{
    PolicyBench bench = policy_on();
    gint64 rest = COMPRESS_RETRY_MIN_US;

    for (guint i = 0; i < 8; i++) {
        assert_false(compressed_period(&bench, 2000, 1950));
        assert_rests(&bench, rest);
        rest = MIN(2 * rest, COMPRESS_RETRY_MAX_US);
    }
    assert_true(compressed_period(&bench, 2000, 1000));
    assert_false(compressed_period(&bench, 2000, 1950));
    assert_rests(&bench, COMPRESS_RETRY_MIN_US);
}

static void it_rests_when_pages_do_not_go_faster(void **state)
{
    PolicyBench bench = policy_on();

    assert_false(compressed_period(&bench, 1040, 100));
    assert_rests(&bench, COMPRESS_RETRY_MIN_US);
}

static void one_slow_period_proves_nothing(void **state)
{
    PolicyBench bench = policy_on();

    assert_true(compressed_period(&bench, 2000, 500));
    assert_true(compressed_period(&bench, 500, 100));
    assert_true(compressed_period(&bench, 2000, 500));
    assert_true(compressed_period(&bench, 500, 100));
    assert_true(compressed_period(&bench, 500, 100));
    assert_false(compressed_period(&bench, 500, 100));
}

static void it_is_compared_once_in_a_while(void **state)
{
    PolicyBench bench = policy_on();
    gint64 on = bench.now;

    while (bench.now < on + COMPRESS_COMPARE_US - COMPRESS_PERIOD_US)
        assert_true(compressed_period(&bench, 2000, 500));
    assert_false(compressed_period(&bench, 2000, 500));
    /* One period without, and the link has become faster: it does not pay any more. */
    assert_true(period(&bench, 4000));
    assert_false(compressed_period(&bench, 2000, 500));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compressing_is_tried_when_the_link_is_always_busy),
        cmocka_unit_test(it_stays_on_while_pages_go_faster),
        cmocka_unit_test(it_rests_when_pages_do_not_shrink_longer_each_time),
        cmocka_unit_test(it_rests_when_pages_do_not_go_faster),
        cmocka_unit_test(one_slow_period_proves_nothing),
        cmocka_unit_test(it_is_compared_once_in_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
