/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Versions of libvirt and QEMU: which ones can do it, and which have a fault worth knowing. Pure.
 */
#pragma once

#include "preflight/problem.h"

/* libvirt's way: major * 1000000 + minor * 1000 + release. check is CHECK_LIBVIRT or
 * CHECK_PEER_LIBVIRT. */
void versions_judge_libvirt(GPtrArray *findings, PreflightCheck check, gulong version);

/* 0: libvirt knows no QEMU on that host. check is CHECK_QEMU or CHECK_PEER_QEMU. */
void versions_judge_qemu(GPtrArray *findings, PreflightCheck check, gulong version);
