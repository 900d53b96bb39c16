/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a source QEMU may send at most in post-copy: the lesser of what its helper wants and what
 * the user allows. libvirt counts it in MiB per second, and keeps one number for both: what stands
 * there and was not set by this daemon is the user's (--postcopy-bandwidth, migrate-setspeed
 * --postcopy, before the migration or while it runs). 0 is no limit, everywhere. Pure. */
#pragma once

#include <glib.h>

typedef struct {
    guint64 user;   /* MiB/s; what Perform says, to begin with */
    gboolean again; /* a recovery: what stands there first may be left from the try before */
    gboolean known; /* set holds what libvirt has */
    guint64 set;    /* MiB/s */
} SpeedLimit;

/* Rounded up: a link is not to be left idle for less than a MiB. At most what libvirt takes. */
guint64 speed_limit_mib(guint64 bytes_per_second);

/* libvirt has that number, which may be the user's. */
void speed_limit_seen(SpeedLimit *limit, guint64 mib);

/* libvirt has taken that number from this daemon. */
void speed_limit_was_set(SpeedLimit *limit, guint64 mib);

/* What to set for that wish, in MiB/s. */
guint64 speed_limit_for(const SpeedLimit *limit, guint64 bytes_per_second);
