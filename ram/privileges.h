/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a helper gives up before it touches anything from outside. */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

typedef struct {
    uid_t uid;
    gid_t gid;
} PrivilegesUser;

/* "UID:GID", decimal, neither 0: running a helper as root is never what was meant. */
gboolean privileges_parse_user(const char *text, PrivilegesUser *ret_user, GError **error);

/* For good: groups, gid and uid (real, effective, saved), and verifies that root does not come
 * back. A process that runs as that user already has nothing to do. Before any thread starts. */
gboolean privileges_drop(const PrivilegesUser *user, GError **error);

/* No new privileges by exec, no core dumps (they would hold the guest's memory and the token),
 * no ptrace by the same user, few descriptors. */
gboolean privileges_limit(GError **error);
