/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/rate_limit.h"

#define PERIODS_PER_SECOND (G_USEC_PER_SEC / RATE_LIMIT_PERIOD_US)

static guint64 bytes_per_period(const RateLimit *limit)
{
    return MAX(limit->rate / PERIODS_PER_SECOND, 1);
}

void rate_limit_set(RateLimit *limit, guint64 rate)
{
    limit->rate = rate;
}

guint64 rate_limit_room(RateLimit *limit, gint64 now_us)
{
    guint64 each;
    guint64 periods;

    if (limit->rate == 0)
        return G_MAXUINT64;
    each = bytes_per_period(limit);
    if (limit->began_us == 0)
        limit->began_us = now_us;
    periods = (guint64)MAX(now_us - limit->began_us, 0) / RATE_LIMIT_PERIOD_US;
    if (periods > 0) {
        limit->began_us += (gint64)(periods * RATE_LIMIT_PERIOD_US);
        limit->sent -= periods > limit->sent / each ? limit->sent : periods * each;
    }
    return limit->sent < each ? each - limit->sent : 0;
}

void rate_limit_on_sent(RateLimit *limit, guint64 bytes)
{
    if (limit->rate > 0)
        limit->sent += bytes;
}

gint64 rate_limit_wake_us(const RateLimit *limit)
{
    guint64 over;

    if (limit->rate == 0)
        return 0;
    over = limit->sent / bytes_per_period(limit);
    return limit->began_us + (gint64)(MAX(over, 1) * RATE_LIMIT_PERIOD_US);
}
