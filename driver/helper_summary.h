/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a helper has counted, as fields of a log line. Pure. */
#pragma once

#include <glib.h>

/* " name=value" for each counter of the Statistics property (ram/org.libvirt.Postcopy1.xml), in its
 * order, and " compression=" (the ratio, 1.00 without any). Arrays are left out. */
void helper_summary_add_statistics(GString *line, GVariant *statistics);
