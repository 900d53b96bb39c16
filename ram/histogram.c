/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/histogram.h"

/* Of a power of two: 8 cells. */
#define STEP_BITS 3
#define STEPS (1u << STEP_BITS)

/* The bits that are needed to write the number: 0 for 0, 1 for 1, 2 for 2 and 3, ... */
static guint bits_of(guint64 us)
{
    return us == 0 ? 0 : 64 - (guint)__builtin_clzll(us);
}

/* The highest bit says which power of two, the STEP_BITS below it which part of that. */
static guint cell_of(guint64 us)
{
    guint shift = us < STEPS ? 0 : bits_of(us) - STEP_BITS - 1;

    if (us < STEPS)
        return (guint)us;
    return MIN((shift + 1) * STEPS + (guint)(us >> shift) % STEPS, HISTOGRAM_CELLS - 1);
}

static guint64 cell_begin(guint cell)
{
    guint shift = cell < STEPS ? 0 : cell / STEPS - 1;

    return cell < STEPS ? cell : (guint64)(STEPS + cell % STEPS) << shift;
}

void histogram_add(Histogram *histogram, gint64 us)
{
    guint64 value = us < 0 ? 0 : (guint64)us;

    histogram->cells[cell_of(value)]++;
    histogram->count++;
    histogram->sum_us += value;
    histogram->max_us = MAX(histogram->max_us, value);
}

void histogram_get_buckets(const Histogram *histogram, guint64 ret_buckets[HISTOGRAM_BUCKETS])
{
    for (guint i = 0; i < HISTOGRAM_BUCKETS; i++)
        ret_buckets[i] = 0;
    for (guint i = 0; i < HISTOGRAM_CELLS; i++)
        ret_buckets[MIN(bits_of(cell_begin(i)), HISTOGRAM_BUCKETS - 1)] += histogram->cells[i];
}

guint64 histogram_percentile(const Histogram *histogram, double fraction)
{
    double wanted = CLAMP(fraction, 0, 1) * (double)histogram->count;
    guint64 seen = 0;

    if (histogram->count == 0)
        return 0;
    for (guint i = 0; i < HISTOGRAM_CELLS - 1; i++) {
        seen += histogram->cells[i];
        if (seen > 0 && (double)seen >= wanted)
            return MIN(cell_begin(i + 1), histogram->max_us);
    }
    return histogram->max_us;
}
