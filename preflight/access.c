/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "preflight/access.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "util/autofd.h"

PreflightAccess preflight_access(mode_t mode, uid_t owner, gid_t group, uid_t uid, gid_t gid,
                                 guint want)
{
    if (uid == 0)
        return ACCESS_YES;
    if (uid == owner)
        return (mode >> 6 & want) == want ? ACCESS_YES : ACCESS_NO;
    if (gid == group)
        return (mode >> 3 & want) == want ? ACCESS_YES : ACCESS_NO;
    if ((mode & want) == want)
        return ACCESS_YES;
    /* Which other groups the user is in would have to be asked of a directory service. */
    return (mode >> 3 & want) == want ? ACCESS_MAYBE : ACCESS_NO;
}

PreflightAccess preflight_access_file(const char *root, const char *path, uid_t uid, gid_t gid,
                                      guint want)
{
    g_autofree char *full = g_strconcat(root, path, NULL);
    PreflightAccess access;
    struct stat st;

    if (stat(full, &st) < 0)
        return ACCESS_NO;
    access = preflight_access(st.st_mode, st.st_uid, st.st_gid, uid, gid, want);
    if (access == ACCESS_NO && getxattr(full, "system.posix_acl_access", NULL, 0) > 0)
        return ACCESS_MAYBE;
    return access;
}

static gboolean fail(GError **error, const char *path, int err)
{
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(err), "%s: %s", path,
                g_strerror(err));
    return FALSE;
}

/* Fills at most room bytes; -1 with errno. */
static gssize read_all(int fd, char *buffer, gsize room)
{
    gsize done = 0;

    while (done < room) {
        ssize_t n = read(fd, buffer + done, room - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (gsize)n;
    }
    return (gssize)done;
}

gboolean preflight_read(const char *root, const char *path, gsize max, char **ret_text,
                        gsize *ret_len, mode_t *ret_mode, GError **error)
{
    g_autofree char *full = g_strconcat(root, path, NULL);
    g_autofree char *text = NULL;
    struct stat st;
    autofd fd = -1;
    gssize n;

    fd = open(full, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return fail(error, path, errno);
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE, _("%s is not a regular file"),
                    path);
        return FALSE;
    }
    text = g_malloc0(max + 2);
    n = read_all(fd, text, max + 1);
    if (n < 0)
        return fail(error, path, errno);
    if ((gsize)n > max) {
        explicit_bzero(text, max + 2); /* it may be a key */
        return fail(error, path, EFBIG);
    }
    *ret_text = g_steal_pointer(&text);
    *ret_len = (gsize)n;
    if (ret_mode)
        *ret_mode = st.st_mode & 07777;
    return TRUE;
}
