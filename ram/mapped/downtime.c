/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/downtime.h"

/* Nothing is faster than this. */
#define SHORTEST_US 100

static guint64 rate_of(guint64 bytes, gint64 us)
{
    return (guint64)((double)bytes * G_USEC_PER_SEC / (double)us);
}

static void measure(Downtime *downtime, guint64 sent, gint64 us)
{
    guint64 rate = rate_of(sent - downtime->sent, us);

    downtime->rate = downtime->rate == 0 ? rate : (downtime->rate + rate) / 2;
}

void downtime_update(Downtime *downtime, guint64 sent, gint64 now_us)
{
    gint64 us = now_us - downtime->began_us;

    if (downtime->began_us == 0) {
        downtime->began_us = now_us;
        downtime->sent = sent;
        return;
    }
    if (us < DOWNTIME_PERIOD_US || sent <= downtime->sent)
        return;
    measure(downtime, sent, us);
    downtime->began_us = now_us;
    downtime->sent = sent;
}

/* A round too short to be measured well is a measure if there is none. */
void downtime_on_drained(Downtime *downtime, guint64 sent, gint64 now_us)
{
    if (downtime->began_us != 0 && downtime->rate == 0 && sent > downtime->sent)
        measure(downtime, sent, MAX(now_us - downtime->began_us, SHORTEST_US));
    downtime->began_us = 0;
}

guint64 downtime_threshold(const Downtime *downtime, guint64 limit_ms, guint64 max_rate)
{
    guint64 rate = max_rate ? MIN(downtime->rate, max_rate) : downtime->rate;

    return (guint64)((double)rate * (double)limit_ms / 1000);
}

guint64 downtime_expected_us(const Downtime *downtime, guint64 remaining_bytes)
{
    if (remaining_bytes == 0)
        return 0;
    if (downtime->rate == 0)
        return G_MAXUINT64;
    return (guint64)((double)remaining_bytes * G_USEC_PER_SEC / (double)downtime->rate);
}
