/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long it is worth staying awake for a page that was asked for: for twice as long as pages usually take, if that
 * is little. Pure. */
#pragma once

#include <glib.h>

/* Where pages take longer than that, a thread that is woken is not what they wait for. */
#define VIGIL_MAX_US 500

typedef struct {
    gint64 asked_us; /* the last time */
    gint64 usual_us; /* a running mean; 0: not known yet */
} Vigil;

static inline void vigil_asked(Vigil *vigil, gint64 now_us)
{
    vigil->asked_us = now_us;
}

static inline void vigil_came(Vigil *vigil, gint64 took_us)
{
    vigil->usual_us = vigil->usual_us ? vigil->usual_us + (took_us - vigil->usual_us) / 8 : took_us;
}

/* 0: it is not worth it. outstanding: how many pages are waited for. */
static inline gint64 vigil_until(const Vigil *vigil, guint outstanding)
{
    if (outstanding == 0 || vigil->usual_us > VIGIL_MAX_US)
        return 0;
    return vigil->asked_us + (vigil->usual_us ? 2 * vigil->usual_us : VIGIL_MAX_US);
}
