/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counts, a histogram of how long touches took, and the report of both.
 */
#include "stats.h"

#include "clock.h"
#include "cpu.h"
#include "serial.h"

enum {
    BAD_LINES = 100,                    /* then counted only: the line must not fill the disk */
    UNIT_BITS = 6,                      /* a word holds a minute of units of 64 ticks */
};

void
stats_init(Stats *stats, uint64_t now)
{
    *stats = (Stats) {
        .stall_ticks = clock_khz() / 1000 * STATS_STALL_US,
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

static void
note_maximum(volatile uint32_t *maximum, uint64_t ticks)
{
    uint64_t units = ticks >> UNIT_BITS;
    uint32_t value = units > UINT32_MAX ? UINT32_MAX : (uint32_t) units;

    if (value > *maximum)
        *maximum = value;
}

static uint64_t
take_maximum(volatile uint32_t *maximum)
{
    return (uint64_t) __atomic_exchange_n(maximum, 0, __ATOMIC_RELAXED) << UNIT_BITS;
}

void
stats_touch(Stats *stats, uint64_t begin, uint64_t end)
{
    uint64_t ticks = end - begin;

    stats->touches++;
    stats->histogram[bucket_of(ticks)]++;
    if (ticks >= stats->stall_ticks)
        stats->stalls++;
    note_maximum(&stats->last_max, ticks);
    note_maximum(&stats->last_gap, end - stats->last_end);
    stats->last_end = end;
}

void
stats_bad(Stats *stats, const Pages *pages, uint32_t page, const Fault *fault)
{
    stats->bad++;
    if (stats->complaint_waits)
        return;
    stats->bad_page = page;
    stats->bad_generation = pages->generation[page];
    stats->bad_fault = *fault;
    __atomic_store_n(&stats->complaint_waits, 1, __ATOMIC_RELEASE);
}

void
reporter_init(Reporter *reporter, const Pages *pages, const Options *options, uint64_t now)
{
    *reporter = (Reporter) {
        .pages = pages,
        .started = now,
        .interval = (uint64_t) clock_khz() * options->report_ms,
        .last_report = now,
    };
}

uint32_t
reporter_sweeps(const Reporter *reporter)
{
    uint32_t sweeps = UINT32_MAX;

    for (uint32_t i = 0; i < reporter->count; i++) {
        uint32_t own = *(volatile uint32_t *) &reporter->stats[i]->sweeps;

        if (own < sweeps)
            sweeps = own;
    }
    return sweeps;
}

static void
complain(const Stats *stats, const Pages *pages)
{
    const Fault *fault = &stats->bad_fault;

    line_begin("PCG BAD");
    line_field("page", stats->bad_page);
    line_text(" address=");
    line_address(pages_address(pages, stats->bad_page));
    line_field("generation", stats->bad_generation);
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

static void
pass_complaints_on(Reporter *reporter)
{
    for (uint32_t i = 0; i < reporter->count; i++) {
        Stats *stats = reporter->stats[i];

        if (!__atomic_load_n(&stats->complaint_waits, __ATOMIC_ACQUIRE))
            continue;
        if (reporter->bad_lines++ < BAD_LINES)
            complain(stats, reporter->pages);
        cpu_forget(&stats->complaint_waits);
        __atomic_store_n(&stats->complaint_waits, 0, __ATOMIC_RELEASE);
    }
}

/* All processors' numbers in one. */
static void
merge(const Reporter *reporter, Stats *sum, uint64_t *max_ticks, uint64_t *gap_ticks)
{
    *sum = (Stats) { .sweeps = reporter_sweeps(reporter) };
    *max_ticks = *gap_ticks = 0;
    for (uint32_t i = 0; i < reporter->count; i++) {
        Stats *stats = reporter->stats[i];
        uint64_t longest, gap;

        sum->touches += stats->touches;
        sum->stalls += stats->stalls;
        sum->bad += stats->bad;
        sum->swept += stats->swept;
        for (uint32_t b = 0; b < STATS_BUCKETS; b++)
            sum->histogram[b] += stats->histogram[b];
        cpu_forget(&stats->last_max);
        longest = take_maximum(&stats->last_max);
        gap = take_maximum(&stats->last_gap);
        if (longest > *max_ticks)
            *max_ticks = longest;
        if (gap > *gap_ticks)
            *gap_ticks = gap;
    }
}

/* How long a touch since the last report took, for the given share of them. */
static uint32_t
last_percentile_us(const Reporter *reporter, const Stats *sum, uint32_t percent)
{
    uint64_t count = 0;
    uint64_t rank;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < STATS_BUCKETS; i++)
        count += sum->histogram[i] - reporter->last_histogram[i];
    rank = divide(count * percent, 100);
    for (uint32_t i = 0; i < STATS_BUCKETS; i++) {
        seen += sum->histogram[i] - reporter->last_histogram[i];
        if (seen > rank)
            return clock_us(bucket_ticks(i));
    }
    return 0;
}

static void
report_histogram(const Stats *sum)
{
    const char *before = " hist=";

    for (uint32_t i = 0; i < STATS_BUCKETS; i++) {
        if (!sum->histogram[i])
            continue;
        line_text(before);
        line_number(i);
        line_text(":");
        line_number(sum->histogram[i]);
        before = ",";
    }
}

static void
start_interval(Reporter *reporter, const Stats *sum, uint64_t now)
{
    reporter->last_report = now;
    reporter->last_touches = sum->touches;
    reporter->last_stalls = sum->stalls;
    for (uint32_t i = 0; i < STATS_BUCKETS; i++)
        reporter->last_histogram[i] = sum->histogram[i];
}

static void
report(Reporter *reporter, uint64_t now)
{
    Stats sum;
    uint64_t last_max, last_gap;

    merge(reporter, &sum, &last_max, &last_gap);
    if (last_max > reporter->max_ticks)
        reporter->max_ticks = last_max;
    line_begin("PCG");
    line_field("report", ++reporter->reports);
    line_field("ms", divide(now - reporter->started, clock_khz()));
    line_field("khz", clock_khz());
    line_field("touches", sum.touches);
    line_field("sweeps", sum.sweeps);
    line_field("swept", sum.swept);
    line_field("bad", sum.bad);
    line_field("stalls", sum.stalls);
    line_field("max_us", clock_us(reporter->max_ticks));
    line_field("last_touches", sum.touches - reporter->last_touches);
    line_field("last_stalls", sum.stalls - reporter->last_stalls);
    line_field("last_max_us", clock_us(last_max));
    line_field("last_gap_us", clock_us(last_gap));
    line_field("last_p50_us", last_percentile_us(reporter, &sum, 50));
    line_field("last_p99_us", last_percentile_us(reporter, &sum, 99));
    report_histogram(&sum);
    line_end();
    start_interval(reporter, &sum, now);
}

void
reporter_run(Reporter *reporter, uint64_t now)
{
    pass_complaints_on(reporter);
    if (now - reporter->last_report >= reporter->interval)
        report(reporter, now);
}
