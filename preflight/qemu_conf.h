/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's qemu.conf, as far as it stands in the way of this driver. */
#pragma once

#include "preflight/problem.h"

/* Where libvirt's own packages have it, wherever this driver is installed. */
#define LIBVIRT_QEMU_CONF "/etc/libvirt/qemu.conf"

/* What that file below root says; no file says nothing. */
void qemu_conf_look(GPtrArray *findings, const char *root);

/* Pure. */
void qemu_conf_judge(GPtrArray *findings, const char *text, gsize len, const char *path);

/* Shall libvirt start QEMU without root's capabilities, also as root? Yes, unless the file says
 * otherwise. */
gboolean qemu_conf_clears_capabilities(const char *root);
