/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a domain's XML asks of its host's memory. Pure. */
#pragma once

#include "preflight/memory.h"

/* Bytes of memory that QEMU would lock (<memoryBacking><locked/>); 0: none. XML_ERROR. */
gboolean domain_memory_locked(const char *domain_xml, guint64 *ret_bytes, GError **error);

/* HugepageNeed elements, one for each size, and one more for what has no size in the XML:
 * default_kib. Of a virtio-mem only what is taken at once. */
GArray *domain_memory_hugepages(const char *domain_xml, guint64 default_kib, GError **error);
