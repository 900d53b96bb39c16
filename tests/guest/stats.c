/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counts, a histogram of how long touches took, and the report of both.
 */
#include "stats.h"

#include "clock.h"
#include "cpu.h"
#include "serial.h"

enum {
    REPORT_MS = 500,
    BAD_LINES = 100,                    /* then counted only: the line must not fill the disk */
};

void
stats_init(Stats *stats, uint64_t now)
{
    *stats = (Stats) {
        .stall_ticks = clock_khz() / 1000 * STATS_STALL_US,
        .started = now,
        .last_report = now,
        .last_end = now,
    };
}

/* The power of two, then the two bits after the highest. */
static uint32_t
bucket_of(uint64_t ticks)
{
    uint32_t power = 0;

    if (ticks < 4)
        return (uint32_t) ticks;
    for (uint64_t rest = ticks; rest >>= 1;)
        power++;
    if (power >= STATS_BUCKETS / 4)
        return STATS_BUCKETS - 1;
    return power * 4 + ((uint32_t) (ticks >> (power - 2)) & 3);
}

/* The middle of a bucket. */
static uint64_t
bucket_ticks(uint32_t bucket)
{
    uint32_t power = bucket / 4;

    if (power < 2)
        return bucket;
    return ((uint64_t) (4 + bucket % 4) << (power - 2)) + ((1ull << (power - 2)) >> 1);
}

void
stats_touch(Stats *stats, uint64_t begin, uint64_t end)
{
    uint64_t ticks = end - begin;
    uint64_t gap = end - stats->last_end;

    stats->touches++;
    stats->histogram[bucket_of(ticks)]++;
    if (ticks >= stats->stall_ticks)
        stats->stalls++;
    if (ticks > stats->max_ticks)
        stats->max_ticks = ticks;
    if (ticks > stats->last_max_ticks)
        stats->last_max_ticks = ticks;
    if (gap > stats->last_gap_ticks)
        stats->last_gap_ticks = gap;
    stats->last_end = end;
}

void
stats_bad(Stats *stats, const Pages *pages, uint32_t page, const Fault *fault)
{
    if (stats->bad++ >= BAD_LINES)
        return;
    line_begin("PCG BAD");
    line_field("page", page);
    line_text(" address=");
    line_hex(pages->base + page * PAGE_BYTES);
    line_field("generation", pages->generation[page]);
    line_field("word", fault->word);
    line_text(" want=");
    line_hex(fault->want);
    line_text(" got=");
    line_hex(fault->got);
    line_field("wrong_blocks", fault->wrong_blocks);
    line_field("found_page", fault->found_page);
    line_field("found_generation", fault->found_generation);
    line_end();
    serial_flush();
}

/* How long a touch since the last report took, for the given share of them. */
static uint32_t
last_percentile_us(const Stats *stats, uint32_t percent)
{
    uint64_t count = stats->touches - stats->last_touches;
    uint64_t rank = divide(count * percent, 100);
    uint64_t seen = 0;

    for (uint32_t i = 0; i < STATS_BUCKETS; i++) {
        seen += stats->histogram[i] - stats->last_histogram[i];
        if (seen > rank)
            return clock_us(bucket_ticks(i));
    }
    return 0;
}

static void
report_histogram(const Stats *stats)
{
    const char *before = " hist=";

    for (uint32_t i = 0; i < STATS_BUCKETS; i++) {
        if (!stats->histogram[i])
            continue;
        line_text(before);
        line_number(i);
        line_text(":");
        line_number(stats->histogram[i]);
        before = ",";
    }
}

static void
start_interval(Stats *stats, uint64_t now)
{
    stats->last_report = now;
    stats->last_touches = stats->touches;
    stats->last_stalls = stats->stalls;
    stats->last_max_ticks = 0;
    stats->last_gap_ticks = 0;
    for (uint32_t i = 0; i < STATS_BUCKETS; i++)
        stats->last_histogram[i] = stats->histogram[i];
}

void
stats_report(Stats *stats, uint64_t now)
{
    if (now - stats->last_report < (uint64_t) clock_khz() * REPORT_MS)
        return;
    line_begin("PCG");
    line_field("report", ++stats->reports);
    line_field("ms", divide(now - stats->started, clock_khz()));
    line_field("khz", clock_khz());
    line_field("touches", stats->touches);
    line_field("sweeps", stats->sweeps);
    line_field("swept", stats->swept);
    line_field("bad", stats->bad);
    line_field("stalls", stats->stalls);
    line_field("max_us", clock_us(stats->max_ticks));
    line_field("last_touches", stats->touches - stats->last_touches);
    line_field("last_stalls", stats->stalls - stats->last_stalls);
    line_field("last_max_us", clock_us(stats->last_max_ticks));
    line_field("last_gap_us", clock_us(stats->last_gap_ticks));
    line_field("last_p50_us", last_percentile_us(stats, 50));
    line_field("last_p99_us", last_percentile_us(stats, 99));
    report_histogram(stats);
    line_end();
    start_interval(stats, now);
}
