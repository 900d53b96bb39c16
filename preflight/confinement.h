/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* AppArmor and SELinux, where libvirt confines QEMU with them: do their rules let QEMU reach this
 * driver's sockets? As far as files show it. */
#pragma once

#include "preflight/access.h"
#include "preflight/problem.h"

typedef struct {
    const char *run_dir; /* borrowed */
    gboolean apparmor;   /* the kernel enforces a profile of libvirt's for QEMU, or would */
    char *rules; /* AppArmor's rules for QEMU, those of sites among them; NULL: not looked at */
    gboolean selinux;    /* enforcing, with a policy */
} ConfinementFacts;

void confinement_facts_clear(ConfinementFacts *facts);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ConfinementFacts, confinement_facts_clear)

void confinement_look(const char *root, const char *run_dir, ConfinementFacts *ret_facts);
/* Pure. */
void confinement_judge(GPtrArray *findings, const ConfinementFacts *facts);
