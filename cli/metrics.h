/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migrations in Prometheus' text format. Pure.
 *
 * What libvirt counts has the names that exporters have given it (libvirt_domain_job_info_*); the
 * rest is libvirt_domain_postcopy_*, in seconds and bytes. */
#pragma once

#include <glib.h>

/* Of a list of Job. NULL: the host does not answer, which libvirt_up tells. */
char *metrics_text(const GPtrArray *jobs);
