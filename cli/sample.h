/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks a host about its migrations, of domains and of memory clients. Blocks: two calls for the lists,
 * one or two for each domain or client. */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

#include "cli/job.h"

/* Migrations that were seen running, so that their end can be told even of a domain that has left.
 * Its domains hold the connection they came from: free it before that is closed. */
typedef struct SampleMemory SampleMemory;

SampleMemory *sample_memory_new(void);
void sample_memory_free(SampleMemory *memory);

/* A list of Job, by domain; empty is a good answer. completed: also those that have ended, as far
 * as the host still knows them. memory, or NULL: those that were there in an earlier call with it,
 * too, for a minute after their end. NULL: the host does not answer; what a single domain cannot
 * tell leaves out that domain alone. */
GPtrArray *sample_jobs(virConnect *connection, gboolean completed, SampleMemory *memory,
                       GError **error);

/* A failure with that code (VIR_ERR_*) says something of the domain that was asked about: it has
 * gone, it does not run, its QEMU is silent, or this user may not ask. Otherwise it is the
 * connection's. Pure. */
gboolean sample_is_domains_own(int code, gboolean alive);
