/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a libvirt client asks for the migrations of memory clients, which are of no domain: with
 * virConnectListAllDomains() and this flag alone. What it gets are "domains" named memory/NAME, with
 * the session as UUID, that know virDomainGetJobStats() and nothing else. libvirt has no such flag,
 * and refuses it; no client gets to see them that does not ask so. */
#pragma once

#define MEMORY_LIST_FLAG (1u << 30)

/* No domain of libvirt's has a '/' in its name. */
#define MEMORY_PREFIX "memory/"
