/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where memory clients come in: a socket of packets, RUN_DIR/virtpostcopyd-memory-sock. Of each client the
 * first message is read here (docs/handover.md); then it is a job's (driver/memory_job.h). Whoever may connect
 * can move memory to other hosts in this one's name: settings memory_sock_group and memory_sock_perms.
 * Main thread only. */
#pragma once

#include "driver/migration.h"

typedef struct MemoryPort MemoryPort;

/* Listens at once. set must outlive it. */
MemoryPort *memory_port_new(MigrationSet *set, GError **error);
void memory_port_free(MemoryPort *port);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MemoryPort, memory_port_free)
