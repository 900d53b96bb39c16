/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the guest has seen, and the line that says so.
 *
 * A report is one line of key=number words (docs in tests/README.md); numbers
 * that begin with "last_" are of the time since the report before, all others of
 * the whole run.
 */
#pragma once

#include <stdint.h>

#include "pages.h"

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
    uint64_t sweeps;                    /* complete ones */
    uint32_t swept;                     /* pages of the one under way */
    uint64_t max_ticks;
    uint32_t histogram[STATS_BUCKETS];

    uint32_t reports;
    uint64_t stall_ticks;               /* where a stall begins */
    uint64_t started;
    uint64_t last_report;
    uint64_t last_end;                  /* of the newest touch */
    uint64_t last_touches;
    uint64_t last_stalls;
    uint64_t last_max_ticks;
    uint64_t last_gap_ticks;
    uint32_t last_histogram[STATS_BUCKETS];
} Stats;

void stats_init(Stats *stats, uint64_t now);

/* A touch that began at @begin and was served at @end. */
void stats_touch(Stats *stats, uint64_t begin, uint64_t end);

/* Says at once that a page is not as it must be. */
void stats_bad(Stats *stats, const Pages *pages, uint32_t page, const Fault *fault);

/* Writes a report if it is time for one. */
void stats_report(Stats *stats, uint64_t now);
