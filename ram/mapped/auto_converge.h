/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When the guest writes faster than it can be copied: it is slowed down, a step at a time. Pure. */
#pragma once

#include <glib.h>

#define THROTTLE_INITIAL_DEFAULT 20
#define THROTTLE_INCREMENT_DEFAULT 10
#define THROTTLE_MAX_DEFAULT 99

typedef struct {
    guint initial; /* percent; 0 in any of the three: the default */
    guint increment;
    guint max;
    guint percent; /* what it is slowed down by now */
    guint high;    /* periods in a row with too much written */
} AutoConverge;

void auto_converge_init(AutoConverge *converge, guint initial, guint increment, guint max);
/* A period (from one sync of the bitmaps to the next) is over. TRUE: converge->percent has
 * changed. It does when more than half of what was sent was written anew, twice in a row. */
gboolean auto_converge_on_period(AutoConverge *converge, guint64 dirtied_bytes, guint64 sent_bytes);
/* Back to full speed; TRUE: it was slowed down. */
gboolean auto_converge_stop(AutoConverge *converge);
