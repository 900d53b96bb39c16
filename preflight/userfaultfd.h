/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* May QEMU handle page faults here? A destination must: libvirt says "Postcopy is not supported"
 * where it may not, and nothing of the cause. */
#pragma once

#include "preflight/access.h"
#include "preflight/problem.h"
#include "xml/capabilities.h"

#define USERFAULTFD_NOT_PROBED (-1)

typedef struct {
    QemuOwner owner;        /* who QEMU runs as */
    gulong qemu_version;    /* libvirt's: major * 1000000 + minor * 1000 + release; 0: not known */
    int sysctl;             /* vm.unprivileged_userfaultfd; -1: this kernel has no such setting */
    PreflightAccess device; /* /dev/userfaultfd, for that user */
    int probe;              /* 0, or errno of a real try by that user, or USERFAULTFD_NOT_PROBED */
    guint64 features;       /* of a probe that went well: UFFD_FEATURE_* */
    gboolean capable;       /* libvirt is told to leave a QEMU of root's its capabilities */
} UserfaultfdFacts;

/* Pure. */
void userfaultfd_judge(GPtrArray *findings, const UserfaultfdFacts *facts);

/* Fills in sysctl, device and capable from files below root; does not wait. */
void userfaultfd_look(const char *root, const QemuOwner *owner, gulong qemu_version,
                      UserfaultfdFacts *ret_facts);

/* Fills in probe and features: a child process that has become that user tries it as QEMU does. For
 * root, and not for the daemon: it waits for the child. */
void userfaultfd_probe(UserfaultfdFacts *facts);
