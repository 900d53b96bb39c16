/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long touches of memory took, of those that were held up: counted exactly to an eighth. Each
 * thread has one of its own; they are added up. */
#pragma once

#include <glib.h>

/* Shorter ones are memory that was there. */
#define STALL_MIN_NS 20000

#define STALL_BUCKETS 512

typedef struct {
    guint64 counts[STALL_BUCKETS];
    guint64 count;
    guint64 sum_ns;
    guint64 max_ns;
} Stalls;

void stalls_add(Stalls *stalls, guint64 ns);
void stalls_merge(Stalls *stalls, const Stalls *other);
/* In ns: what that fraction (0 to 1) of them did not exceed; 0: there were none. */
guint64 stalls_percentile(const Stalls *stalls, double fraction);
