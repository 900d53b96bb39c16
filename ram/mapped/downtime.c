/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/downtime.h"

/* Less time than this says nothing at all, even if there is no measure yet. */
#define FIRST_PERIOD_US 1000

static guint64 rate_of(guint64 bytes, gint64 us)
{
    return (guint64)((double)bytes * G_USEC_PER_SEC / (double)us);
}

void downtime_update(Downtime *downtime, guint64 acked, gint64 now_us)
{
    gint64 us = now_us - downtime->began_us;
    guint64 rate;

    if (downtime->began_us == 0) {
        downtime->began_us = now_us;
        downtime->acked = acked;
        return;
    }
    if (us < (downtime->rate == 0 ? FIRST_PERIOD_US : DOWNTIME_PERIOD_US) ||
        acked <= downtime->acked)
        return;
    rate = rate_of(acked - downtime->acked, us);
    downtime->rate = downtime->rate == 0 ? rate : (downtime->rate + rate) / 2;
    downtime->began_us = now_us;
    downtime->acked = acked;
}

void downtime_on_idle(Downtime *downtime)
{
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
