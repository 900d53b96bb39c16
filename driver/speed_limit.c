/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/speed_limit.h"

#define MIB_SHIFT 20
#define MIB ((guint64)1 << MIB_SHIFT)

/* QEMU has it in bytes, and counts them with a sign. */
#define MIB_MAX ((guint64)G_MAXINT64 >> MIB_SHIFT)

guint64 speed_limit_mib(guint64 bytes_per_second)
{
    guint64 mib = (bytes_per_second >> MIB_SHIFT) + (bytes_per_second % MIB != 0);

    return MIN(mib, MIB_MAX);
}

void speed_limit_seen(SpeedLimit *limit, guint64 mib)
{
    if (limit->known ? mib != limit->set : !limit->again)
        limit->user = mib;
    speed_limit_was_set(limit, mib);
}

void speed_limit_was_set(SpeedLimit *limit, guint64 mib)
{
    limit->set = mib;
    limit->known = TRUE;
}

guint64 speed_limit_for(const SpeedLimit *limit, guint64 bytes_per_second)
{
    guint64 wanted = speed_limit_mib(bytes_per_second);

    if (wanted == 0 || limit->user == 0)
        return MAX(wanted, limit->user);
    return MIN(wanted, limit->user);
}
