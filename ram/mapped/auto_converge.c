/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/auto_converge.h"

#define PERIODS_UNTIL_THROTTLED 2

void auto_converge_init(AutoConverge *converge, guint initial, guint increment, guint max)
{
    guint percent = converge->percent;

    *converge = (AutoConverge){
        .initial = initial ? initial : THROTTLE_INITIAL_DEFAULT,
        .increment = increment ? increment : THROTTLE_INCREMENT_DEFAULT,
        .max = MIN(max ? max : THROTTLE_MAX_DEFAULT, THROTTLE_MAX_DEFAULT),
        .percent = percent,
    };
}

gboolean auto_converge_on_period(AutoConverge *converge, guint64 dirtied_bytes, guint64 sent_bytes)
{
    guint before = converge->percent;

    if (dirtied_bytes <= sent_bytes / 2) {
        converge->high = 0;
        return FALSE;
    }
    if (++converge->high < PERIODS_UNTIL_THROTTLED)
        return FALSE;
    converge->high = 0;
    converge->percent = before == 0 ? converge->initial : before + converge->increment;
    converge->percent = MIN(converge->percent, converge->max);
    return converge->percent != before;
}

gboolean auto_converge_stop(AutoConverge *converge)
{
    gboolean was = converge->percent != 0;

    converge->percent = 0;
    converge->high = 0;
    return was;
}
