/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/link-sim.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    double end;    /* cumulative bytes */
    double done;   /* when the receiver has handed it on */
} Frame;

typedef struct {
    guint64 total;
    double time;
} Ack;

static double sim_wakeup(Sim *sim)
{
    double us = -log(1 - g_rand_double(sim->rand)) * sim->link->wakeup;

    /* One in a hundred takes much longer. */
    return g_rand_int_range(sim->rand, 0, 100) == 0 ? us + sim->link->wakeup * 6 : us;
}

/* What a page on another connection would wait behind, in bytes. */
static double sim_queue(const Sim *sim)
{
    return MAX(0, sim->clear - sim->now) * sim->rate;
}

static double sim_receiver_queue(const Sim *sim)
{
    return MAX(0, sim->taken_at - sim->now) * sim->link->receiver;
}

static double sim_bottleneck_queue(const Sim *sim)
{
    return sim->link->receiver > 0 ? sim_queue(sim) + sim_receiver_queue(sim) : sim_queue(sim);
}

void sim_set_rate(Sim *sim, double rate)
{
    sim->clear = sim->now + (sim->clear - sim->now) * sim->rate / rate;
    sim->rate = rate;
}

static void sim_send(Sim *sim)
{
    Frame *frame = g_new(Frame, 1);
    const SimLink *link = sim->link;
    gsize len = (gsize)g_rand_int_range(sim->rand, (gint32)link->frame_min,
                                        (gint32)link->frame_max + 1);
    double line = len / (25 * GBIT); /* no burst is faster */
    double arrived;

    sim->clear = MAX(sim->clear, sim->now - link->burst / sim->rate) + len / sim->rate;
    arrived = MAX(sim->clear, sim->now + line) + link->delay;
    if (link->receiver > 0) {
        sim->taken_at = MAX(sim->taken_at, arrived) + len / link->receiver;
        arrived = sim->taken_at;
    }
    sim->sent += len;
    *frame = (Frame){ .end = sim->sent, .done = arrived };
    g_queue_push_tail(&sim->frames, frame);
    if (isinf(sim->next_wake))
        sim->next_wake = frame->done + sim_wakeup(sim);
    flow_on_sent(sim->flow, len, (gint64)sim->now);
}

/* The receiver acknowledges all that it has handed on. */
static void sim_wake(Sim *sim)
{
    Ack *ack = g_new0(Ack, 1);
    Frame *frame;

    sim->now = sim->next_wake;
    while ((frame = g_queue_peek_head(&sim->frames)) && frame->done <= sim->now) {
        ack->total = (guint64)frame->end;
        g_free(g_queue_pop_head(&sim->frames));
    }
    sim->last_ack = MAX(sim->last_ack, sim->now + sim->link->delay + sim_wakeup(sim));
    ack->time = sim->last_ack;
    g_queue_push_tail(&sim->acks, ack);
    sim->next_wake = frame ? MAX(sim->now, frame->done) + sim_wakeup(sim) : INFINITY;
}

static gboolean sim_pauses(const Sim *sim)
{
    const SimLink *link = sim->link;

    return link->pause_every > 0 && fmod(sim->now, link->pause_every) < link->pause_us;
}

void sim_fill(Sim *sim)
{
    FlowStats stats;

    if (sim_pauses(sim) && flow_room(sim->flow) > 0)
        flow_on_idle(sim->flow);
    while (!sim_pauses(sim) && flow_room(sim->flow) > 0)
        sim_send(sim);
    flow_get_stats(sim->flow, &stats);
    sim->limit_max = MAX(sim->limit_max, stats.limit);
    sim->limit_min = MIN(sim->limit_min, stats.limit);
}

static void sim_trace(const Sim *sim)
{
    FlowStats stats;

    flow_get_stats(sim->flow, &stats);
    printf("%10.3f ms  limit %8.1f KiB  queue %8.1f KiB  rtt %6" G_GUINT64_FORMAT
           " us  min %6" G_GUINT64_FORMAT " us  rate %7.1f Mbit/s\n",
           sim->now / 1000, stats.limit / 1024., sim_bottleneck_queue(sim) / KIB, stats.rtt_us,
           stats.rtt_min_us, stats.rate / 125e3);
}

#define SAMPLE_US 50

static void sim_sample(Sim *sim)
{
    double queue;

    sim->now = sim->next_sample;
    sim->next_sample += SAMPLE_US;
    queue = sim_bottleneck_queue(sim);
    g_array_append_val(sim->queue, queue);
    if (g_strcmp0(g_getenv("FLOW_TRACE"), "2") == 0 &&
        (sim->queue->len % 20000 == 0 || sim->queue->len < 200))
        sim_trace(sim);
}

/* The next of what happens, in order of time. */
static void sim_step(Sim *sim)
{
    const Ack *ack = g_queue_peek_head(&sim->acks);
    double ack_time = ack ? ack->time : INFINITY;

    if (sim->next_sample <= MIN(ack_time, sim->next_wake)) {
        sim_sample(sim);
        if (!ack && isinf(sim->next_wake))
            sim_fill(sim); /* after a pause */
    } else if (sim->next_wake <= ack_time) {
        sim_wake(sim);
    } else {
        sim->now = ack->time;
        flow_on_acked(sim->flow, ack->total, (gint64)sim->now);
        g_free(g_queue_pop_head(&sim->acks));
        sim_fill(sim);
    }
}

void sim_init(Sim *sim, const SimLink *link, guint32 seed, const FlowConfig *config)
{
    *sim = (Sim){ .link = link, .rate = link->rate, .next_wake = INFINITY };
    sim->rand = g_rand_new_with_seed(seed);
    sim->flow = flow_new(config);
    sim->queue = g_array_new(FALSE, FALSE, sizeof(double));
    sim->limit_min = G_MAXUINT64;
    sim->now = 1e6; /* the clock of a machine that has been up for a while */
    sim->next_sample = sim->now;
    sim->clear = 0; /* the bucket is full */
}

void sim_clear(Sim *sim)
{
    g_queue_clear_full(&sim->frames, g_free);
    g_queue_clear_full(&sim->acks, g_free);
    g_array_unref(sim->queue);
    g_rand_free(sim->rand);
    flow_free(sim->flow);
}

void sim_run_until(Sim *sim, double until)
{
    while (sim->now < until)
        sim_step(sim);
}

/* ---- what a stretch of time looked like ---- */

static int compare_doubles(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double sim_bottleneck(const Sim *sim)
{
    return sim->link->receiver > 0 ? MIN(sim->link->receiver, sim->rate) : sim->rate;
}

/* Sent and not waiting any more. */
static double sim_passed(const Sim *sim)
{
    return (double)sim->sent - sim_bottleneck_queue(sim);
}

SimResult sim_measure(Sim *sim, double us)
{
    double from = sim->now;
    double passed = sim_passed(sim);
    double sum = 0;
    SimResult result;

    g_array_set_size(sim->queue, 0);
    sim->limit_max = 0;
    sim->limit_min = G_MAXUINT64;
    sim_run_until(sim, from + us);
    result.used = (sim_passed(sim) - passed) / ((sim->now - from) * sim_bottleneck(sim));
    for (guint i = 0; i < sim->queue->len; i++)
        sum += g_array_index(sim->queue, double, i);
    result.queue_mean = sum / sim->queue->len;
    g_array_sort(sim->queue, compare_doubles);
    result.queue_p95 = g_array_index(sim->queue, double, sim->queue->len * 95 / 100);
    if (g_getenv("FLOW_TRACE"))
        printf("%-32s used %5.1f %%  queue %6.1f KiB mean %6.1f KiB p95, %5.0f us"
               "  limit %6.1f to %6.1f KiB\n",
               sim->link->name, result.used * 100, result.queue_mean / KIB, result.queue_p95 / KIB,
               result.queue_mean / sim_bottleneck(sim), sim->limit_min / 1024.,
               sim->limit_max / 1024.);
    return result;
}
