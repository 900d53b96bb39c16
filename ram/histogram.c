/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/histogram.h"

/* The bits that are needed to write the number: 0 for 0, 1 for 1, 2 for 2 and 3, ... */
static guint bucket_of(guint64 us)
{
    guint bits = us == 0 ? 0 : 64 - (guint)__builtin_clzll(us);

    return MIN(bits, HISTOGRAM_BUCKETS - 1);
}

void histogram_add(Histogram *histogram, gint64 us)
{
    guint64 value = us < 0 ? 0 : (guint64)us;

    histogram->buckets[bucket_of(value)]++;
    histogram->count++;
    histogram->sum_us += value;
    histogram->max_us = MAX(histogram->max_us, value);
}

guint64 histogram_percentile(const Histogram *histogram, double fraction)
{
    double wanted = CLAMP(fraction, 0, 1) * (double)histogram->count;
    guint64 seen = 0;

    if (histogram->count == 0)
        return 0;
    for (guint i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted)
            return MIN(G_GUINT64_CONSTANT(1) << i, histogram->max_us);
    }
    return histogram->max_us;
}
