/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `virt-postcopy check` prints: a line for each finding, or JSON. Pure. */
#pragma once

#include "util/finding.h"

char *check_view_table(const GPtrArray *findings);

/* One object, described in virt-postcopy(1). */
char *check_view_json(const GPtrArray *findings);
