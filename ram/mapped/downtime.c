/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/downtime.h"

/* Nothing is faster than this. */
#define SHORTEST_US 100
/* A round of this length is a measure even if there is another. */
#define ROUND_MIN_US (10 * 1000)

static guint64 rate_of(guint64 bytes, gint64 us)
{
    return (guint64)((double)bytes * G_USEC_PER_SEC / (double)us);
}

static void measure(Downtime *downtime, guint64 acked, gint64 us)
{
    guint64 rate = rate_of(acked - downtime->acked, us);

    downtime->rate = downtime->rate == 0 ? rate : (downtime->rate + rate) / 2;
}

void downtime_update(Downtime *downtime, guint64 acked, gint64 now_us)
{
    gint64 us = now_us - downtime->began_us;

    if (downtime->began_us == 0) {
        downtime->began_us = now_us;
        downtime->acked = acked;
        return;
    }
    if (us < DOWNTIME_PERIOD_US || acked <= downtime->acked)
        return;
    measure(downtime, acked, us);
    downtime->began_us = now_us;
    downtime->acked = acked;
}

/* A short round is a bad measure, but better than none. */
void downtime_on_drained(Downtime *downtime, guint64 acked, gint64 now_us)
{
    gint64 us = now_us - downtime->began_us;

    if (downtime->began_us != 0 && acked > downtime->acked &&
        (downtime->rate == 0 || us >= ROUND_MIN_US))
        measure(downtime, acked, MAX(us, SHORTEST_US));
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
