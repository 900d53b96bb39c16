/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* No more than so many bytes in each period of a tenth of a second. Pure; time is an argument. */
#pragma once

#include <glib.h>

#define RATE_LIMIT_PERIOD_US (100 * 1000)

typedef struct {
    guint64 rate;    /* bytes a second; 0: no limit */
    gint64 began_us; /* of the period; 0: none yet */
    guint64 sent;    /* in it */
} RateLimit;

/* It holds for the period that is under way, too. */
void rate_limit_set(RateLimit *limit, guint64 rate);
/* What may still be sent in this period; G_MAXUINT64: no limit. */
guint64 rate_limit_room(RateLimit *limit, gint64 now_us);
/* More than there was room for is taken off the periods that follow. */
void rate_limit_on_sent(RateLimit *limit, guint64 bytes);
/* When there is room again, after rate_limit_room() has said 0. */
gint64 rate_limit_wake_us(const RateLimit *limit);
