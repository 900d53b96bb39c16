/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Durations counted by eighths of powers of two of microseconds: a percentile is exact to an eighth. Pure. */
#pragma once

#include <glib.h>

/* What is told of it, by powers of two. Bucket 0: below 1 us; bucket i: from 2^(i-1) to below 2^i us; the last one: all
 * longer ones. */
#define HISTOGRAM_BUCKETS 32
/* What is kept: below 8 us one for each, then eight for each power of two up to 2^32; the last one: all
 * longer ones, too. */
#define HISTOGRAM_CELLS 240

typedef struct {
    guint64 cells[HISTOGRAM_CELLS];
    guint64 count;
    guint64 sum_us;
    guint64 max_us;
} Histogram;

void histogram_add(Histogram *histogram, gint64 us); /* negative: as 0 */
void histogram_get_buckets(const Histogram *histogram, guint64 ret_buckets[HISTOGRAM_BUCKETS]);
/* The upper end of the cell that holds that fraction (0 to 1) of all; 0 when empty; never more than
 * max_us. */
guint64 histogram_percentile(const Histogram *histogram, double fraction);
