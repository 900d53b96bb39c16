/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast the source QEMU should send in post-copy: as fast as its pages cross the network, with a
 * little more or less to keep so much staged as is wanted.
 *
 * A QEMU that is not limited fills its socket, which then stands before a page that is waited for, and
 * has written everything long before the pages have crossed the network: after that it can neither
 * pause nor recover. Pure; time is an argument. */
#pragma once

#include <glib.h>

#define SOURCE_RATE_PERIOD_US (100 * 1000) /* QEMU's own unit of limiting */

typedef struct {
    gint64 began_us; /* of the period; 0: none yet */
    guint64 plain_bytes; /* sent when it began */
    gboolean ran_empty;  /* nothing was staged at some time in the period */
    guint64 rate;        /* bytes/s; 0: no limit */
    guint64 told;        /* the last one that was told */
} SourceRate;

void source_rate_init(SourceRate *rate);
/* There was room on the link and nothing staged: QEMU is what limits. */
void source_rate_on_empty(SourceRate *rate);
/* At any time in post-copy. plain_bytes: of pages sent since the beginning. staged, target: bytes that are
 * staged, and should be. TRUE: rate->rate has changed by a tenth or more since the last TRUE. */
gboolean source_rate_update(SourceRate *rate, gint64 now_us, guint64 plain_bytes, guint64 staged,
                            guint64 target);
