/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at files as another user would see them, and reading small ones. Paths are looked up
 * below root ("" for the host itself), so that tests can lay out hosts of their own. */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

typedef enum {
    ACCESS_NO,
    ACCESS_MAYBE, /* depends on a group that the user may be in, or on an access list */
    ACCESS_YES,
} PreflightAccess;

/* What the mode bits let that user do; want are bits of "other" (4 read, 2 write, 1 execute). Pure.
 */
PreflightAccess preflight_access(mode_t mode, uid_t owner, gid_t group, uid_t uid, gid_t gid,
                                 guint want);

/* The same for a file there is; ACCESS_NO if there is none. */
PreflightAccess preflight_access_file(const char *root, const char *path, uid_t uid, gid_t gid,
                                      guint want);

/* The whole of a regular file of at most max bytes, with a NUL behind it. ret_mode may be NULL.
 * Does not wait for a FIFO. */
gboolean preflight_read(const char *root, const char *path, gsize max, char **ret_text,
                        gsize *ret_len, mode_t *ret_mode, GError **error);
