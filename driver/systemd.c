/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/autofd.h"
#include "util/log.h"

static gboolean parse_number(const char *variable, const char *text, guint64 min, guint64 max,
                             guint64 *ret, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (g_ascii_string_to_unsigned(text, 10, min, max, ret, &cause))
        return TRUE;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                _("environment variable %1$s is \"%2$s\": %3$s"), variable, text, cause->message);
    return FALSE;
}

static gboolean take_fd(GArray *fds, int fd, GError **error)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("environment variable LISTEN_FDS promises descriptor %1$d: %2$s"), fd,
                    g_strerror(errno));
        return FALSE;
    }
    g_array_append_val(fds, fd);
    return TRUE;
}

GArray *systemd_take_fds(int first, GError **error)
{
    g_autofree char *pid_text = g_strdup(g_getenv("LISTEN_PID"));
    g_autofree char *fds_text = g_strdup(g_getenv("LISTEN_FDS"));
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    guint64 pid, n;

    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    if (!pid_text || !fds_text)
        return g_steal_pointer(&fds);
    if (!parse_number("LISTEN_PID", pid_text, 1, G_MAXINT, &pid, error))
        return NULL;
    if ((pid_t)pid != getpid()) /* meant for an ancestor */
        return g_steal_pointer(&fds);
    if (!parse_number("LISTEN_FDS", fds_text, 0, SYSTEMD_FDS_MAX, &n, error))
        return NULL;
    for (guint64 i = 0; i < n; i++) {
        if (!take_fd(fds, first + (int)i, error))
            return NULL;
    }
    return g_steal_pointer(&fds);
}

/* A path, or an abstract name written with @ in front. */
static gboolean notify_address(const char *name, struct sockaddr_un *ret, socklen_t *ret_len)
{
    gsize len = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof ret->sun_path)
        return FALSE;
    memset(ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    memcpy(ret->sun_path, name, len);
    if (name[0] == '@')
        ret->sun_path[0] = '\0';
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
    return TRUE;
}

void systemd_notify(const char *state)
{
    const char *name = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address;
    socklen_t len;
    autofd fd = -1;

    if (!name)
        return;
    if (!notify_address(name, &address, &len)) {
        log_warning(NULL, _("environment variable NOTIFY_SOCKET is \"%1$s\": not a socket's name"),
                    name);
        return;
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                         len) < 0)
        log_warning(NULL, _("cannot notify %1$s: %2$s"), name, g_strerror(errno));
}
