/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The in-flight controller on simulated links (how busy they are, how much stands before the
 * bottleneck), and rows for single calls. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ram/flow.h"
#include "tests/support/link-sim.h"

#define SEEDS 3

/* ---- simulated links ---- */

static const FlowConfig config_large = { .max = 8 * KIB * KIB };

#define NEAR .delay = 30, .wakeup = 40
#define LATE .delay = 30, .wakeup = 120
#define SHAPED .rate = GBIT, .burst = 256 * KIB, NEAR
#define FRAMES(min, max) .frame_min = (min) * KIB, .frame_max = (max) * KIB
/* Lets it run in for that many milliseconds. */
static void sim_start(Sim *sim, const SimLink *link, guint32 seed, double settle_ms)
{
    sim_init(sim, link, seed, &config_large);
    sim_fill(sim);
    sim_run_until(sim, sim->now + settle_ms * 1000);
}

/* The queue: KiB. */
static void assert_good(const SimResult *result, double used_min, double queue_max, double p95_max)
{
    assert_true(result->used >= used_min);
    assert_true(result->queue_mean <= queue_max * KIB);
    assert_true(result->queue_p95 <= p95_max * KIB);
}

static void a_link_is_kept_busy_with_a_short_queue(void **state)
{
    static const struct {
        double used_min;
        double queue_max;
        double p95_max;
        SimLink link;
    } rows[] = {
        { 0.97, 32, 56, { "shaped 1 Gbit/s", SHAPED, FRAMES(15, 17) } },
        { 0.97, 56, 100, { "shaped, frames of all sizes", SHAPED, FRAMES(1, 66) } },
        { 0.97, 96, 132, { "shaped, large frames", SHAPED, FRAMES(66, 66) } },
        { 0.97, 48, 100, { "shaped, late wake-ups", .rate = GBIT, .burst = 256 * KIB, LATE,
                           FRAMES(15, 17) } },
        { 0.97, 64, 96, { "1 Gbit/s", .rate = GBIT, NEAR, FRAMES(15, 17) } },
        { 0.96, 72, 120, { "1 Gbit/s, frames of all sizes", .rate = GBIT, NEAR, FRAMES(1, 66) } },
        { 0.97, 160, 200, { "1 Gbit/s, large frames", .rate = GBIT, NEAR, FRAMES(66, 66) } },
        { 0.88, 64, 112, { "1 Gbit/s, late wake-ups", .rate = GBIT, LATE, FRAMES(15, 17) } },
        { 0.97, 64, 72, { "100 Mbit/s", .rate = 100 * MBIT, NEAR, FRAMES(15, 17) } },
        { 0.97, 320, 450, { "10 Gbit/s", .rate = 10 * GBIT, NEAR, FRAMES(60, 66) } },
        { 0.97, 320, 450, { "receiver at 6 Gbit/s", .rate = 25 * GBIT, .receiver = 6 * GBIT, NEAR,
                            FRAMES(60, 66) } },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (guint32 seed = 0; seed < SEEDS; seed++) {
            SimResult result;
            Sim sim;

            sim_start(&sim, &rows[i].link, seed, 100);
            result = sim_measure(&sim, 3e6);
            assert_good(&result, rows[i].used_min, rows[i].queue_max, rows[i].p95_max);
            assert_true(sim.limit_max <= 1024 * KIB);
            assert_true(sim.limit_min >= FLOW_LIMIT_MIN);
            sim_clear(&sim);
        }
    }
}

static void a_long_way_is_filled(void **state)
{
    static const SimLink link = { "1 Gbit/s, 20 ms", .rate = GBIT, .delay = 10e3, .wakeup = 40,
                               FRAMES(15, 66) };

    for (guint32 seed = 0; seed < SEEDS; seed++) {
        SimResult result;
        Sim sim;

        sim_start(&sim, &link, seed, 400);
        result = sim_measure(&sim, 12e6);
        assert_good(&result, 0.97, 200, 300);
        assert_true(sim.limit_max <= 6 * KIB * KIB); /* the product is 2.5 MB */
        sim_clear(&sim);
    }
}

static void it_starts_quickly(void **state)
{
    static const struct {
        SimLink link;
        double settle_ms;
    } rows[] = {
        { { "start: 1 Gbit/s", .rate = GBIT, NEAR, FRAMES(15, 17) }, 0 },
        { { "start: 10 Gbit/s", .rate = 10 * GBIT, NEAR, FRAMES(60, 66) }, 10 },
        { { "start: 1 Gbit/s, 20 ms", .rate = GBIT, .delay = 10e3, .wakeup = 40, FRAMES(15, 66) },
          300 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (guint32 seed = 0; seed < SEEDS; seed++) {
            Sim sim;

            sim_start(&sim, &rows[i].link, seed, rows[i].settle_ms);
            assert_true(sim_measure(&sim, 50e3).used >= 0.8);
            sim_clear(&sim);
        }
    }
}

/* A full bucket lets 256 KiB pass at once: whatever that looked like, it may fill the queue for a
 * few milliseconds only. */
static void a_burst_misleads_only_for_a_moment(void **state)
{
    static const SimLink link = { "shaped, after the burst", SHAPED, FRAMES(15, 17) };

    for (guint32 seed = 0; seed < SEEDS; seed++) {
        SimResult result;
        Sim sim;

        sim_start(&sim, &link, seed, 0);
        result = sim_measure(&sim, 10e3);
        assert_true(sim.limit_max <= 512 * KIB);
        assert_true(result.queue_p95 <= 512 * KIB);
        result = sim_measure(&sim, 100e3);
        assert_good(&result, 0.97, 48, 72);
        sim_clear(&sim);
    }
}

static void it_follows_the_rate_down_and_up_again(void **state)
{
    static const SimLink link = { "rate changes", SHAPED, FRAMES(15, 17) };
    static const double rates[] = { GBIT, 100 * MBIT, GBIT };

    for (guint32 seed = 0; seed < SEEDS; seed++) {
        Sim sim;

        sim_start(&sim, &link, seed, 0);
        for (gsize i = 0; i < G_N_ELEMENTS(rates); i++) {
            SimResult result;

            sim_set_rate(&sim, rates[i]);
            sim_run_until(&sim, sim.now + 30e3);
            result = sim_measure(&sim, 3e6);
            assert_good(&result, 0.97, 48, 72);
            assert_true(sim.limit_max <= 160 * KIB);
        }
        sim_clear(&sim);
    }
}

static void a_long_way_that_becomes_wider_is_filled_soon(void **state)
{
    static const SimLink link = { "20 ms, becomes wider", .rate = 100 * MBIT, .delay = 10e3,
                                  .wakeup = 40, FRAMES(15, 17) };

    for (guint32 seed = 0; seed < SEEDS; seed++) {
        Sim sim;

        sim_start(&sim, &link, seed, 1000);
        sim_set_rate(&sim, GBIT);
        sim_run_until(&sim, sim.now + 700e3);
        assert_true(sim_measure(&sim, 200e3).used >= 0.9);
        sim_clear(&sim);
    }
}

static void pauses_of_the_sender_say_nothing_of_the_link(void **state)
{
    static const SimLink link = { "a sender that pauses", SHAPED, FRAMES(15, 17),
                               .pause_every = 20e3, .pause_us = 10e3 };

    for (guint32 seed = 0; seed < SEEDS; seed++) {
        FlowStats stats;
        Sim sim;

        sim_start(&sim, &link, seed, 100);
        sim_measure(&sim, 3e6);
        flow_get_stats(sim.flow, &stats);
        assert_true(stats.rate >= 0.95e6 * GBIT);
        assert_true(sim.limit_max <= 1024 * KIB);
        assert_true(sim.limit_min >= 32 * KIB);
        sim_clear(&sim);
    }
}

/* Three frames at a time: acknowledged after rtt, the next ones sent a while later. */
typedef struct {
    Flow *flow;
    guint64 sent;
    gint64 now;
} Trickle;

static FlowStats trickle(Trickle *t, gint64 rtt, gint64 gap, gboolean idle)
{
    FlowStats stats;

    for (guint i = 0; i < 500; i++) {
        for (guint frame = 0; frame < 3; frame++)
            flow_on_sent(t->flow, 16 * KIB, t->now);
        if (idle)
            flow_on_idle(t->flow);
        t->sent += 3 * 16 * KIB;
        t->now += rtt;
        flow_on_acked(t->flow, t->sent, t->now);
        t->now += gap;
    }
    flow_get_stats(t->flow, &stats);
    return stats;
}

static void a_slow_sender_does_not_move_the_limit(void **state)
{
    g_autoptr(Flow) flow = flow_new(&config_large);
    Trickle t = { .flow = flow, .now = 1000 };
    FlowStats stats;
    guint64 limit;

    flow_get_stats(flow, &stats);
    limit = stats.limit;
    assert_int_equal(trickle(&t, 100, 400, TRUE).limit, limit);
    /* That they take long now is nothing that the limit could help. */
    stats = trickle(&t, 1000, 0, TRUE);
    assert_int_equal(stats.limit, limit);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(stats.rtt_min_us, 100);
}

static void a_slow_sender_does_not_lower_the_rate(void **state)
{
    g_autoptr(Flow) flow = flow_new(&config_large);
    Trickle t = { .flow = flow, .now = 1000 };
    guint64 rate = trickle(&t, 200, 0, FALSE).rate;

    assert_true(rate > 240e6 && rate < 250e6); /* 48 KiB in 200 us */
    assert_int_equal(trickle(&t, 200, 1000, TRUE).rate, rate);
    assert_true(trickle(&t, 100, 0, TRUE).rate > 480e6); /* but it may raise it */
}

static void the_shortest_round_trip_does_not_creep_up(void **state)
{
    static const SimLink link = { "after 20 seconds", SHAPED, FRAMES(15, 17) };

    for (guint32 seed = 0; seed < SEEDS; seed++) {
        FlowStats stats;
        SimResult result;
        Sim sim;

        sim_start(&sim, &link, seed, 20e3);
        result = sim_measure(&sim, 4e6);
        assert_good(&result, 0.97, 32, 56);
        flow_get_stats(sim.flow, &stats);
        assert_true(stats.rtt_min_us <= 250);
        sim_clear(&sim);
    }
}

static void a_way_that_becomes_longer_is_measured_anew(void **state)
{
    for (guint32 seed = 0; seed < SEEDS; seed++) {
        SimLink link = { "a longer way", SHAPED, FRAMES(15, 17) };
        FlowStats stats;
        Sim sim;

        sim_start(&sim, &link, seed, 500);
        link.delay = 1500;
        sim_run_until(&sim, sim.now + 2e6);
        assert_true(sim_measure(&sim, 3e6).used >= 0.95);
        flow_get_stats(sim.flow, &stats);
        assert_true(stats.rtt_min_us >= 3000);
        sim_clear(&sim);
    }
}

static void no_limit_is_beyond_the_window(void **state)
{
    static const SimLink link = { "a small window", .rate = GBIT, .delay = 10e3, .wakeup = 40,
                               FRAMES(15, 17) };
    static const FlowConfig config = { .max = 256 * KIB };
    Sim sim;

    sim_init(&sim, &link, 1, &config);
    sim_fill(&sim);
    sim_measure(&sim, 2e6);
    assert_int_equal(sim.limit_max, 256 * KIB);
    sim_clear(&sim);
}

static void the_queue_aimed_at_can_be_set(void **state)
{
    static const SimLink link = { "a longer queue", SHAPED, FRAMES(15, 17) };
    static const FlowConfig config = { .max = 8 * KIB * KIB, .queue_target = 100 * KIB };
    SimResult result;
    Sim sim;

    sim_init(&sim, &link, 1, &config);
    sim_fill(&sim);
    sim_run_until(&sim, sim.now + 100e3);
    result = sim_measure(&sim, 2e6);
    assert_true(result.queue_mean >= 80 * KIB && result.queue_mean <= 130 * KIB);
    sim_clear(&sim);
}

/* ---- single calls ---- */

static guint64 limit_of(const Flow *flow)
{
    FlowStats stats;

    flow_get_stats(flow, &stats);
    return stats.limit;
}

static void room_is_what_the_limit_leaves(void **state)
{
    g_autoptr(Flow) flow = flow_new(&config_large);
    guint64 limit = limit_of(flow);

    assert_int_equal(flow_room(flow), limit);
    flow_on_sent(flow, limit - 1, 10);
    assert_int_equal(flow_room(flow), 1);
    flow_on_sent(flow, 5000, 20); /* the last frame may go beyond it */
    assert_int_equal(flow_room(flow), 0);
}

static void nothing_is_known_before_the_first_acknowledgement(void **state)
{
    g_autoptr(Flow) flow = flow_new(&config_large);
    FlowStats stats;

    flow_on_sent(flow, 1000, 10);
    flow_get_stats(flow, &stats);
    assert_int_equal(stats.in_flight, 1000);
    assert_int_equal(stats.rate, 0);
    assert_int_equal(stats.rtt_us, 0);
    assert_int_equal(stats.rtt_min_us, 0);
}

static void odd_acknowledgements_do_no_harm(void **state)
{
    static const guint64 rows[][3] = {
        /* acknowledged, and what is in flight and known of the round trip then */
        { 0, 3000, 0 },
        { 500, 2500, 0 },     /* within the first frame */
        { 1000, 2000, 50 },
        { 1000, 2000, 50 },   /* once more */
        { 900, 2000, 50 },    /* and going back */
        { 3000, 0, 40 },
        { G_MAXUINT64, 0, 40 }, /* more than was sent */
    };
    g_autoptr(Flow) flow = flow_new(&config_large);

    flow_on_sent(flow, 0, 90);
    for (guint i = 0; i < 3; i++)
        flow_on_sent(flow, 1000, 100 + 5 * i);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        FlowStats stats;

        flow_on_acked(flow, rows[i][0], 150);
        flow_get_stats(flow, &stats);
        assert_int_equal(stats.in_flight, rows[i][1]);
        assert_int_equal(stats.rtt_min_us, rows[i][2]);
    }
}

static void a_clock_that_stands_still_does_no_harm(void **state)
{
    g_autoptr(Flow) flow = flow_new(&config_large);
    guint64 sent = 0;

    for (guint i = 0; i < 10000; i++) {
        assert_true(flow_room(flow) > 0);
        while (flow_room(flow) > 0) {
            flow_on_sent(flow, 60000, 0);
            sent += 60000;
        }
        flow_on_acked(flow, sent, 0);
        assert_true(limit_of(flow) <= config_large.max);
    }
}

static void a_window_below_the_smallest_limit_counts(void **state)
{
    static const guint64 windows[] = { 0, 1, 4096, FLOW_LIMIT_MIN - 1, FLOW_LIMIT_MIN };

    for (gsize i = 0; i < G_N_ELEMENTS(windows); i++) {
        FlowConfig config = { .max = windows[i] };
        g_autoptr(Flow) flow = flow_new(&config);
        guint64 sent = 0;

        for (gint64 now = 0; now < 3 * G_USEC_PER_SEC; now += 500) {
            assert_true(flow_room(flow) > 0); /* or it would stand still for ever */
            assert_true(flow_room(flow) <= MAX(windows[i], 1));
            flow_on_sent(flow, 1000, now);
            flow_on_acked(flow, sent += 1000, now + 400);
        }
    }
}

/* More than are remembered one by one. */
static void very_many_small_frames_can_be_in_flight(void **state)
{
    g_autoptr(Flow) flow = flow_new(&config_large);
    gint64 now = 0;
    guint64 sent = 0;
    FlowStats stats;

    for (guint round = 0; round < 50; round++) {
        while (flow_room(flow) > 0) {
            flow_on_sent(flow, 10, now);
            sent += 10;
        }
        now += 1000;
        flow_on_acked(flow, sent, now);
    }
    flow_get_stats(flow, &stats);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(stats.rtt_min_us, 1000);
    assert_int_equal(flow_room(flow), stats.limit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_is_kept_busy_with_a_short_queue),
        cmocka_unit_test(a_long_way_is_filled),
        cmocka_unit_test(it_starts_quickly),
        cmocka_unit_test(a_burst_misleads_only_for_a_moment),
        cmocka_unit_test(it_follows_the_rate_down_and_up_again),
        cmocka_unit_test(a_long_way_that_becomes_wider_is_filled_soon),
        cmocka_unit_test(pauses_of_the_sender_say_nothing_of_the_link),
        cmocka_unit_test(a_slow_sender_does_not_move_the_limit),
        cmocka_unit_test(a_slow_sender_does_not_lower_the_rate),
        cmocka_unit_test(the_shortest_round_trip_does_not_creep_up),
        cmocka_unit_test(a_way_that_becomes_longer_is_measured_anew),
        cmocka_unit_test(no_limit_is_beyond_the_window),
        cmocka_unit_test(the_queue_aimed_at_can_be_set),
        cmocka_unit_test(room_is_what_the_limit_leaves),
        cmocka_unit_test(nothing_is_known_before_the_first_acknowledgement),
        cmocka_unit_test(odd_acknowledgements_do_no_harm),
        cmocka_unit_test(a_clock_that_stands_still_does_no_harm),
        cmocka_unit_test(a_window_below_the_smallest_limit_counts),
        cmocka_unit_test(very_many_small_frames_can_be_in_flight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
