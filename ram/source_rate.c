/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/source_rate.h"

/* How much the rate departs from the link's while the stage is empty, or as full as twice the target. */
#define GAIN 0.3
/* Above the link's rate to begin with, so that the stage fills. */
#define FIRST 1.1
/* When QEMU is what limits. */
#define RAISE 1.5
/* A limit so far above what is sent limits nothing. */
#define UNLIMITED_FACTOR 4

void source_rate_init(SourceRate *rate)
{
    *rate = (SourceRate){ 0 };
}

void source_rate_on_empty(SourceRate *rate)
{
    rate->ran_empty = TRUE;
}

static void begin_period(SourceRate *rate, gint64 now_us, guint64 plain_bytes)
{
    rate->began_us = now_us;
    rate->plain_bytes = plain_bytes;
    rate->ran_empty = FALSE;
}

static guint64 next_rate(const SourceRate *rate, double sent, guint64 staged, guint64 target)
{
    double missing = ((double)target - (double)staged) / MAX(target, 1);

    /* The first word: what is staged says only that there was no limit before. */
    if (!rate->rate)
        return (guint64)(sent * FIRST);
    if (rate->ran_empty) {
        double raised = MAX((double)rate->rate, sent) * RAISE;

        return raised > sent * UNLIMITED_FACTOR ? 0 : (guint64)raised;
    }
    return (guint64)(sent * (1 + GAIN * CLAMP(missing, -1, 1)));
}

static gboolean is_news(const SourceRate *rate)
{
    guint64 more = MAX(rate->rate, rate->told), less = MIN(rate->rate, rate->told);

    return more - less >= more / 10 && more != less;
}

gboolean source_rate_update(SourceRate *rate, gint64 now_us, guint64 plain_bytes, guint64 staged,
                            guint64 target)
{
    gint64 elapsed = now_us - rate->began_us;
    double sent;

    if (!rate->began_us) {
        begin_period(rate, now_us, plain_bytes);
        return FALSE;
    }
    if (elapsed < SOURCE_RATE_PERIOD_US)
        return FALSE;
    sent = (double)(plain_bytes - rate->plain_bytes) * G_USEC_PER_SEC / elapsed;
    /* A link that stands still says nothing of how fast it is; QEMU stands still with it. */
    if (sent >= 1 && (rate->rate || staged > target))
        rate->rate = next_rate(rate, sent, staged, target);
    begin_period(rate, now_us, plain_bytes);
    if (!is_news(rate))
        return FALSE;
    rate->told = rate->rate;
    return TRUE;
}
