/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A simulated link with a clock of its own, and a sender on it that obeys a Flow.
 *
 * A discrete-event simulation: a token bucket, a propagation delay, a receiver that is woken late
 * by a random time and acknowledges all that is there then, and, if wanted, hands it on more slowly
 * than the link brings it.
 *
 * With FLOW_TRACE=1 in the environment each measurement prints its results, with FLOW_TRACE=2 also
 * a table of the limit and the queue over time. */
#pragma once

#include "ram/flow.h"

#define KIB 1024
#define MBIT 0.125 /* bytes/us */
#define GBIT (1000 * MBIT)

/* Times are microseconds, rates bytes/us. */
typedef struct {
    const char *name;
    double rate;
    double burst;       /* of the token bucket; 0: none */
    double delay;       /* one way */
    double wakeup;      /* mean of the random part of each wake-up, on either side */
    double receiver;    /* what the receiver hands on; 0: at once */
    guint frame_min;
    guint frame_max;
    double pause_every; /* the sender has nothing to send for pause_us each time; 0: never */
    double pause_us;
} SimLink;

typedef struct {
    const SimLink *link;
    GRand *rand;
    Flow *flow;
    double now;
    double rate;
    double clear;      /* when the link's backlog is sent: in the past, tokens gather since */
    double taken_at;   /* when the receiver is through with what has arrived */
    double next_wake;  /* of the receiver; INFINITY: nothing to wake for */
    double last_ack;
    double next_sample;
    GQueue frames;     /* on the way or not acknowledged by the receiver */
    GQueue acks;       /* on the way */
    guint64 sent;
    GArray *queue;     /* samples */
    guint64 limit_max;
    guint64 limit_min;
} Sim;

/* What a stretch of time looked like; the queue, in bytes, is the one before the bottleneck. */
typedef struct {
    double used; /* of the bottleneck, 0 to 1 */
    double queue_mean;
    double queue_p95;
} SimResult;

/* link must outlive it. The bucket is full. */
void sim_init(Sim *sim, const SimLink *link, guint32 seed, const FlowConfig *config);
void sim_clear(Sim *sim);
/* Lets the sender begin. */
void sim_fill(Sim *sim);
/* The link's rate from now on. Backlog and tokens stay what they are in bytes. */
void sim_set_rate(Sim *sim, double rate);
void sim_run_until(Sim *sim, double until);
/* Runs for that long and looks at it. */
SimResult sim_measure(Sim *sim, double us);
