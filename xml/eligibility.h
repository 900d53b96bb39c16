/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a domain can be migrated with post-copy, from its XML: as it runs, as it is defined, or
 * as a destination is to run it. Rules out what QEMU or libvirt refuse for certain, and what would
 * lose the guest at the switch-over; warns of what depends on more than the XML. The table of all
 * ids is docs/eligibility.md. Pure, but for the look outside that facts makes. */
#pragma once

#include "util/finding.h"
#include "xml/host_facts.h"

#include <gio/gio.h>

/* The findings (util/finding.h), never an empty list; g_ptr_array_unref() frees them. facts NULL:
 * nothing is known of the host, so that the verdict on what depends on it is a warning. Fails with
 * an XML_ERROR (xml/capabilities.h) for what is no domain. May block where facts->files does; no
 * state is shared, so any thread may call it. */
GPtrArray *eligibility_check(const char *domain_xml, const HostFacts *facts, GError **error);
