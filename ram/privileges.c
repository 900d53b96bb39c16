/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/privileges.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ram/blocks.h"

/* A memory client may have a memfd for each region. Beside them two QEMU sockets, the channels,
 * candidates, credentials, other processes' userfaultfds, D-Bus, a message's descriptors under
 * way: twice as many as ever counted. */
#define DESCRIPTORS_MAX (RAM_BLOCKS_MAX + 256)

static gboolean failed(GError **error, const char *what)
{
    int err = errno;

    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(err), _("%s failed: %s"), what,
                g_strerror(err));
    return FALSE;
}

static gboolean parse_id(const char *text, guint64 *ret_id, GError **error)
{
    /* -1 means "leave as it is" to the kernel. */
    return g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT32 - 1, ret_id, error);
}

gboolean privileges_parse_user(const char *text, PrivilegesUser *ret_user, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", -1);
    guint64 uid, gid;

    if (g_strv_length(parts) != 2 || !parse_id(parts[0], &uid, NULL) ||
        !parse_id(parts[1], &gid, NULL)) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    _("user \"%s\" is not UID:GID in decimal, neither of them 0"), text);
        return FALSE;
    }
    *ret_user = (PrivilegesUser){ (uid_t)uid, (gid_t)gid };
    return TRUE;
}

static gboolean is_user(const PrivilegesUser *user)
{
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid;

    return getresuid(&ruid, &euid, &suid) == 0 && getresgid(&rgid, &egid, &sgid) == 0 &&
           ruid == user->uid && euid == user->uid && suid == user->uid && rgid == user->gid &&
           egid == user->gid && sgid == user->gid;
}

gboolean privileges_drop(const PrivilegesUser *user, GError **error)
{
    if (is_user(user) && geteuid() != 0)
        return TRUE;
    if (setgroups(0, NULL) < 0)
        return failed(error, "setgroups");
    if (setresgid(user->gid, user->gid, user->gid) < 0)
        return failed(error, "setresgid");
    if (setresuid(user->uid, user->uid, user->uid) < 0)
        return failed(error, "setresuid");
    if (!is_user(user) || setuid(0) == 0 || setgid(0) == 0) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                            _("root privileges could not be dropped for good"));
        return FALSE;
    }
    return TRUE;
}

/* To that many, which may be more than were usual for whoever started this. */
static gboolean limit(int resource, const char *name, rlim_t most, GError **error)
{
    struct rlimit now;

    if (getrlimit(resource, &now) < 0)
        return failed(error, name);
    now.rlim_max = MIN(now.rlim_max, most);
    now.rlim_cur = now.rlim_max;
    return setrlimit(resource, &now) == 0 || failed(error, name);
}

gboolean privileges_limit(GError **error)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return failed(error, "PR_SET_NO_NEW_PRIVS");
#ifndef SANITIZERS
    /* LeakSanitizer traces its own process. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return failed(error, "PR_SET_DUMPABLE");
#endif
    return limit(RLIMIT_CORE, "RLIMIT_CORE", 0, error) &&
           limit(RLIMIT_NOFILE, "RLIMIT_NOFILE", DESCRIPTORS_MAX, error);
}
