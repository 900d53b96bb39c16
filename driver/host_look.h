/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What eligibility (xml/eligibility.h) wants to know of this host: libvirt's qemu.conf, and the
 * file systems that guests' memory is on. Looks at files, and may block where a file system
 * does. */
#pragma once

#include "preflight/qemu_conf.h"
#include "xml/host_facts.h"

#include <gio/gio.h>

typedef struct HostLook HostLook;

/* Of the host as it is now. qemu_conf is libvirt's file, HOST_LOOK_QEMU_CONF but for tests; one
 * that is not there or cannot be understood leaves libvirt's default, and *ret_warning says why in
 * the second case (NULL otherwise). */
#define HOST_LOOK_QEMU_CONF LIBVIRT_QEMU_CONF
HostLook *host_look_new(const char *qemu_conf, char **ret_warning);
void host_look_free(HostLook *look);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostLook, host_look_free)

/* Valid as long as look is. */
const HostFacts *host_look_facts(const HostLook *look);
