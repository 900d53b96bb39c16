/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long the guest would have to stand still if what is left were sent now, from how fast the
 * link has been of late. Pure; time is an argument. */
#pragma once

#include <glib.h>

#define DOWNTIME_PERIOD_US (100 * 1000)

typedef struct {
    gint64 began_us; /* of the period; 0: none yet */
    guint64 acked;   /* bytes, when it began */
    guint64 rate;    /* bytes a second; 0: not measured yet */
} Downtime;

/* While there is something to send. acked: bytes that the peer has acknowledged since the
 * beginning. */
void downtime_update(Downtime *downtime, guint64 acked, gint64 now_us);
/* Everything is acknowledged, and nothing is sent for a while: that time says nothing of the
 * link. */
void downtime_on_drained(Downtime *downtime, guint64 acked, gint64 now_us);
/* What can be sent in the limit: no more than this may be left at the switch-over. max_rate:
 * what the rate is held to; 0: nothing. */
guint64 downtime_threshold(const Downtime *downtime, guint64 limit_ms, guint64 max_rate);
/* G_MAXUINT64: it is not known. */
guint64 downtime_expected_us(const Downtime *downtime, guint64 remaining_bytes);
