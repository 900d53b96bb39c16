/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets how fast the source QEMU of a migration may send in post-copy, as its helper wishes.
 *
 * By libvirtd, on a connection of this daemon's own: the client's carries its Perform, and its
 * serials are its own. Opened at the first wish, and then kept. One call at a time; of the wishes
 * that come meanwhile the newest counts. Nothing that fails here harms a migration: it is logged
 * once. Main thread only. */
#pragma once

#include "driver/settings.h"
#include "driver/speed_limit.h"
#include "util/log.h"

typedef struct QemuSpeed QemuSpeed;

/* limit: what the user said, see SpeedLimit. log's strings must outlive it. */
QemuSpeed *qemu_speed_new(const Settings *settings, const char *domain, const SpeedLimit *limit,
                          const LogContext *log);
void qemu_speed_free(QemuSpeed *speed);

/* At most that much from now on; 0: no limit but the user's. */
void qemu_speed_want(QemuSpeed *speed, guint64 bytes_per_second);

/* The switch-over: from here on QEMU's downtime limit only says how much RAM it keeps for its last round,
 * in which QEMU 7.2 cannot pause and recover when the connection breaks. Makes that as little as can be. */
void qemu_speed_shorten_last_round(QemuSpeed *speed);
