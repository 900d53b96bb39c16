/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the guest has seen, and the line that says so.
 *
 * Each processor has statistics of its own, which it alone writes and the first
 * one reads while it does: the counters only grow, and what is begun anew with each
 * report fits one word. A report is one line of key=number words for all of them (docs in
 * tests/README.md); numbers that begin with "last_" are of the time since the report
 * before, all others of the whole run.
 */
#pragma once

#include <stdint.h>

#include "options.h"
#include "pages.h"
#include "smp.h"

enum {
    /* Four buckets for each power of two, up to 2^40 ticks. */
    STATS_BUCKETS = 160,
    /* A touch that took longer than this is counted as a stall. */
    STATS_STALL_US = 200,
};

typedef struct Stats {
    uint64_t touches;
    uint64_t stalls;
    uint64_t bad;
    uint32_t sweeps;                    /* complete ones */
    uint32_t swept;                     /* pages of the one under way */
    uint32_t histogram[STATS_BUCKETS];
    uint64_t stall_ticks;               /* where a stall begins */
    uint64_t last_end;                  /* of the newest touch */

    volatile uint32_t last_max;         /* longest touch and gap, in STATS_UNITs, since the */
    volatile uint32_t last_gap;         /*   report before, which makes them 0 */

    volatile uint32_t complaint_waits;  /* 1: the next three are of a page that was wrong */
    uint32_t bad_page;
    uint32_t bad_generation;
    Fault bad_fault;
} Stats;

/* The sum of all processors', and what was reported last. */
typedef struct Reporter {
    Stats *stats[SMP_MAX];
    uint32_t count;
    const Pages *pages;
    uint64_t started;
    uint64_t interval;                  /* in ticks */
    uint64_t max_ticks;
    uint32_t reports;
    uint32_t bad_lines;
    uint64_t last_report;
    uint64_t last_touches;
    uint64_t last_stalls;
    uint32_t last_histogram[STATS_BUCKETS];
} Reporter;

void stats_init(Stats *stats, uint64_t now);

/* A touch that began at @begin and was served at @end. */
void stats_touch(Stats *stats, uint64_t begin, uint64_t end);

/* Notes that a page is not as it must be, for reporter_run(). */
void stats_bad(Stats *stats, const Pages *pages, uint32_t page, const Fault *fault);

/* The caller then sets count and stats. */
void reporter_init(Reporter *reporter, const Pages *pages, const Options *options, uint64_t now);

/* How often all processors have verified all of their pages. */
uint32_t reporter_sweeps(const Reporter *reporter);

/* Tells of wrong pages, and writes a report if it is time for one. */
void reporter_run(Reporter *reporter, uint64_t now);
