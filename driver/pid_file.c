/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/autofd.h"

static int fail(GError **error, const char *what, const char *path)
{
    int saved = errno;

    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved), "%s %s: %s", what, path,
                g_strerror(saved));
    return -1;
}

/* flock(), because a lock of fcntl() goes when any descriptor of the file is closed. */
static gboolean lock(int fd, const char *path, GError **error)
{
    char holder[16] = "";

    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return TRUE;
    if (errno == EWOULDBLOCK && pread(fd, holder, sizeof holder - 1, 0) >= 0)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    _("virtpostcopyd is running already: process %1$s holds %2$s"),
                    g_strchomp(holder), path);
    else
        fail(error, _("cannot lock"), path);
    return FALSE;
}

/* The holder before us may have removed the file between our open() and our lock. */
static gboolean still_there(int fd, const char *path)
{
    struct stat ours, named;

    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

int pid_file_acquire(const char *path, GError **error)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());

    for (;;) {
        autofd fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

        if (fd < 0)
            return fail(error, _("cannot open"), path);
        if (!lock(fd, path, error))
            return -1;
        if (!still_there(fd, path))
            continue;
        if (ftruncate(fd, 0) < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
            return fail(error, _("cannot write"), path);
        return autofd_steal(&fd);
    }
}

void pid_file_release(int fd, const char *path)
{
    unlink(path);
    close(fd);
}
