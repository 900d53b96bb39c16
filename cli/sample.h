/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks a host about its migrations. Blocks: one call for the list, one or two for each domain. */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

#include "cli/job.h"

/* A list of Job, by domain; empty is a good answer. completed: also those that have ended, as far as
 * the host still knows them. NULL: the host does not answer; what a single domain cannot tell leaves
 * out that domain alone. */
GPtrArray *sample_jobs(virConnect *connection, gboolean completed, GError **error);
