/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a memory client wants: a migration, a helper for it, and then the client's socket is the helper's.
 *
 *     destination   helper → WELCOME with the URI → AttachMemory
 *     source        helper, dialled, agreed, every channel up → WELCOME → AttachMemory
 *
 * Whatever fails before WELCOME is told by REFUSED; a client that leaves before cancels its migration. Main
 * thread only. */
#pragma once

#include "client/handover.h"
#include "driver/migration.h"

/* Takes fd; hello: the message, lent. uid: the client's; who: for log lines. */
void memory_job_begin(MigrationSet *set, int fd, uid_t uid, const char *who,
                      const HandoverMessage *hello);

/* Sends REFUSED, if it can be sent; fd stays the caller's. */
void memory_job_refuse(int fd, const char *text);
