/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Durations counted by powers of two of microseconds. Pure. */
#pragma once

#include <glib.h>

/* Bucket 0: below 1 us; bucket i: from 2^(i-1) to below 2^i us; the last one: all longer ones. */
#define HISTOGRAM_BUCKETS 32

typedef struct {
    guint64 buckets[HISTOGRAM_BUCKETS];
    guint64 count;
    guint64 sum_us;
    guint64 max_us;
} Histogram;

void histogram_add(Histogram *histogram, gint64 us); /* negative: as 0 */
/* The upper end of the bucket that holds that fraction (0 to 1) of all; 0 when empty; never more than
 * max_us. */
guint64 histogram_percentile(const Histogram *histogram, double fraction);
