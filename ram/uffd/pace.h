/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long the kernel takes to place a page, of late. A host that has memory at hand takes a microsecond: to hand the page
 * over to a thread takes as long. One that has to find the memory first, because it is short of it or is itself
 * a guest whose own host has taken it back, takes ten: there the thread pays (docs/benchmarks.md). Pure, but for
 * the clocks; one thread, or a lock around it. */
#pragma once

#include <glib.h>
#include <sys/resource.h>
#include <time.h>

/* Nanoseconds of 4 KiB from which on it pays, and below which it does not any more. */
#define PACE_SLOW_NS 3000
#define PACE_QUICK_NS 2000
/* So many say what it is; until then it counts as slow. */
#define PACE_SAMPLES_MIN 256
/* One call in that many is measured, after those. */
#define PACE_EVERY 8

typedef struct {
    guint calls;
    guint samples;
    gint64 page_ns; /* a running mean; 0: not known */
    gboolean quick;
} Pace;

static inline gboolean pace_is_due(Pace *pace)
{
    return ++pace->calls % PACE_EVERY == 0 || pace->samples < PACE_SAMPLES_MIN;
}

/* A call that placed so many bytes took so long. */
static inline void pace_note(Pace *pace, guint64 bytes, gint64 ns)
{
    gint64 page_ns = bytes >= 4096 ? ns / (gint64)(bytes / 4096) : 0;

    if (bytes < 4096)
        return;
    pace->samples += pace->samples < PACE_SAMPLES_MIN;
    pace->page_ns = pace->page_ns ? pace->page_ns + (page_ns - pace->page_ns) / 16 : page_ns;
    if (pace->page_ns > PACE_SLOW_NS)
        pace->quick = FALSE;
    else if (pace->page_ns < PACE_QUICK_NS && pace->samples >= PACE_SAMPLES_MIN)
        pace->quick = TRUE;
}

typedef struct {
    gint64 cpu_ns, wall_ns;
    glong sleeps;
} PaceMark;

static inline gint64 pace_clock(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (gint64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void pace_begin(PaceMark *mark)
{
    struct rusage usage = { 0 };

    getrusage(RUSAGE_THREAD, &usage);
    *mark = (PaceMark){ pace_clock(CLOCK_THREAD_CPUTIME_ID), pace_clock(CLOCK_MONOTONIC),
                        usage.ru_nvcsw };
}

/* Nanoseconds of this thread's processor: what others do meanwhile says nothing of the kernel's memory. But if
 * the kernel went to sleep over it (memory that has to be swapped out first), all the time that it took. */
static inline gint64 pace_took(const PaceMark *mark)
{
    PaceMark now;

    pace_begin(&now);
    return now.sleeps > mark->sleeps ? now.wall_ns - mark->wall_ns : now.cpu_ns - mark->cpu_ns;
}
