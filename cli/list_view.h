/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `virt-postcopy list` prints: a table for people, JSON for programs. Pure. */
#pragma once

#include <glib.h>

#include "cli/job.h"

/* A line of headings and one for each Job, each ending with a newline. */
char *list_view_table(const GPtrArray *jobs);

/* One object, described in virt-postcopy(1). */
char *list_view_json(const char *uri, const char *host, const GPtrArray *jobs);
