/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast QEMU should send: a link, a QEMU and a stage in a few lines of arithmetic. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ram/source_rate.h"

#define MIB (1024.0 * 1024.0)
#define TARGET (64 * 1024 * 1024)
#define STEP_US 10000

typedef struct {
    SourceRate rate;
    gint64 now_us;
    double staged;
    double sent;
    double left; /* with QEMU */
    guint told;
} World;

static void world_init(World *w, double left)
{
    *w = (World){ .now_us = 1000, .left = left };
    source_rate_init(&w->rate);
}

/* QEMU sends at most `qemu` bytes a second, and no more than it was told to. */
static void step(World *w, double qemu, double link)
{
    double from_qemu = (w->rate.told ? MIN(qemu, w->rate.told) : qemu) * STEP_US / 1e6;
    double onward;

    from_qemu = MIN(from_qemu, w->left);
    w->left -= from_qemu;
    w->staged += from_qemu;
    onward = MIN(w->staged, link * STEP_US / 1e6);
    w->staged -= onward;
    w->sent += onward;
    w->now_us += STEP_US;
    if (w->staged < 1)
        source_rate_on_empty(&w->rate);
    w->told += source_rate_update(&w->rate, w->now_us, w->sent, w->staged, TARGET);
}

static void run(World *w, double seconds, double qemu, double link)
{
    for (gint64 end = w->now_us + seconds * 1e6; w->now_us < end;)
        step(w, qemu, link);
}

static void fast_qemu_is_held_to_the_link_and_the_stage_to_its_target(void **state)
{
    World w;

    world_init(&w, 4096 * MIB);
    run(&w, 4, 1000 * MIB, 119 * MIB);
    assert_in_range(w.rate.rate, 100 * MIB, 140 * MIB);
    assert_in_range(w.staged, TARGET / 2, 3 * (guint64)TARGET);
    assert_true(w.sent > 3.9 * 119 * MIB); /* the link was never idle for it */
    assert_true(w.told <= 40);
    run(&w, 10, 1000 * MIB, 119 * MIB);
    assert_in_range(w.staged, TARGET / 2, 2 * (guint64)TARGET);
}

static void slow_qemu_is_left_alone(void **state)
{
    World w;

    world_init(&w, 4096 * MIB);
    run(&w, 3, 50 * MIB, 119 * MIB);
    assert_int_equal(w.rate.rate, 0);
    assert_int_equal(w.told, 0);
}

static void limit_follows_the_link(void **state)
{
    World w;

    world_init(&w, 8192 * MIB);
    run(&w, 4, 1000 * MIB, 119 * MIB);
    run(&w, 4, 1000 * MIB, 30 * MIB);
    assert_in_range(w.rate.rate, 15 * MIB, 40 * MIB);
    run(&w, 4, 1000 * MIB, 500 * MIB);
    assert_true(w.rate.rate == 0 || w.rate.rate > 350 * MIB);
}

static void link_that_stands_still_changes_nothing(void **state)
{
    World w;
    guint64 before;
    guint told;

    world_init(&w, 4096 * MIB);
    run(&w, 4, 1000 * MIB, 119 * MIB);
    before = w.rate.rate;
    told = w.told;
    run(&w, 0.25, 0, 0);
    run(&w, 2, 0, 0);
    assert_true(w.told <= told + 1);
    assert_true(w.rate.rate > 0 && w.rate.rate <= before);
}

static void nothing_is_said_before_a_period_is_over(void **state)
{
    SourceRate rate;

    source_rate_init(&rate);
    assert_false(source_rate_update(&rate, 1000, 0, TARGET * 4, TARGET));
    assert_false(
        source_rate_update(&rate, 1000 + SOURCE_RATE_PERIOD_US - 1, 1 << 20, TARGET * 4, TARGET));
    assert_true(
        source_rate_update(&rate, 1000 + SOURCE_RATE_PERIOD_US, 1 << 20, TARGET * 4, TARGET));
    assert_in_range(rate.rate, 10 << 20, 12 << 20);
    /* A target of nothing is no division by it. */
    source_rate_update(&rate, 1000 + 2 * SOURCE_RATE_PERIOD_US, 2 << 20, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_qemu_is_held_to_the_link_and_the_stage_to_its_target),
        cmocka_unit_test(slow_qemu_is_left_alone),
        cmocka_unit_test(limit_follows_the_link),
        cmocka_unit_test(link_that_stands_still_changes_nothing),
        cmocka_unit_test(nothing_is_said_before_a_period_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
