/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/upstream.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/autofd.h"

/* A unix socket whose backlog is full refuses at once with EAGAIN; there is nothing to poll for. */
#define RETRY_MS 50u

typedef struct {
    char **paths;
    gint64 deadline;
    guint timeout;
} Attempt;

static void attempt_free(gpointer data)
{
    Attempt *attempt = data;

    g_strfreev(attempt->paths);
    g_free(attempt);
}

char **upstream_candidates(const Settings *settings, gboolean read_only)
{
    static const char *const names[] = { "virtqemud-sock", "libvirt-sock" };
    const char *suffix = read_only ? "-ro" : "";
    char **paths = g_new0(char *, G_N_ELEMENTS(names) + 1);

    if (settings->upstream_socket) {
        paths[0] = g_strconcat(settings->upstream_socket, suffix, NULL);
        return paths;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        paths[i] = g_strconcat(settings->unix_sock_dir, "/", names[i], suffix, NULL);
    return paths;
}

/* A connected socket, or -1 with errno. */
static int connect_path(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    autofd fd = -1;

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return autofd_steal(&fd);
}

/* Tries each path once. -1 and *ret_busy: one of them had no room just now. */
static int try_paths(char **paths, gboolean *ret_busy, GString *reasons)
{
    *ret_busy = FALSE;
    for (char **path = paths; *path; path++) {
        int fd = connect_path(*path);

        if (fd >= 0)
            return fd;
        g_string_append_printf(reasons, "%s%s: %s", reasons->len > 0 ? "; " : "", *path,
                               g_strerror(errno));
        if (errno == EAGAIN) {
            *ret_busy = TRUE;
            return -1;
        }
    }
    return -1;
}

/* TRUE: the task is done. */
static gboolean attempt_step(GTask *task)
{
    Attempt *attempt = g_task_get_task_data(task);
    g_autoptr(GString) reasons = g_string_new(NULL);
    gboolean busy;
    int fd;

    if (g_task_return_error_if_cancelled(task))
        return TRUE;
    fd = try_paths(attempt->paths, &busy, reasons);
    if (fd >= 0)
        g_task_return_int(task, fd);
    else if (!busy)
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                                _("cannot connect to libvirtd or virtqemud: %1$s"), reasons->str);
    else if (g_get_monotonic_time() >= attempt->deadline)
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                                _("%1$s did not accept a connection in %2$u seconds"),
                                attempt->paths[0], attempt->timeout);
    else
        return FALSE;
    return TRUE;
}

static gboolean attempt_again(gpointer data)
{
    return attempt_step(data) ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

void upstream_connect(const char *const *paths, guint timeout, GCancellable *cancellable,
                      GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, cancellable, callback, data);
    Attempt *attempt = g_new0(Attempt, 1);

    attempt->paths = g_strdupv((char **)paths);
    attempt->timeout = timeout;
    attempt->deadline = g_get_monotonic_time() + (gint64)timeout * G_USEC_PER_SEC;
    g_task_set_task_data(task, attempt, attempt_free);
    g_task_set_check_cancellable(task, FALSE); /* a descriptor that is there must not get lost */
    if (!attempt_step(task))
        g_timeout_add_full(G_PRIORITY_DEFAULT, RETRY_MS, attempt_again, g_object_ref(task),
                           g_object_unref);
}

int upstream_connect_finish(GAsyncResult *result, GError **error)
{
    return (int)g_task_propagate_int(G_TASK(result), error);
}
