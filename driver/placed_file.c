/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/placed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/autofd.h"
#include "util/log.h"

#define PREFIX "placed-"
/* See SetPlacing in ram/org.libvirt.Postcopy1.xml. */
#define RECORD_HEAD 24
#define RECORD_RANGE 304
#define RECORD_PAGE 4096
/* The helper takes no larger one (ram/placed_record.c), and no more ranges than a session has blocks. */
#define RECORD_MAX (G_GUINT64_CONSTANT(1) << 30)
#define RANGES_MAX 4096
/* Of the fields of /proc/PID/stat behind the name of the program. */
#define START_TIME_FIELD 19

static gboolean parse_start(const char *stat, guint64 *ret_start)
{
    const char *behind = strrchr(stat, ')');
    g_auto(GStrv) fields = behind ? g_strsplit(g_strchug((char *)behind + 1), " ", -1) : NULL;

    return fields && g_strv_length(fields) > START_TIME_FIELD &&
           g_ascii_string_to_unsigned(fields[START_TIME_FIELD], 10, 0, G_MAXUINT64, ret_start,
                                      NULL);
}

static char *path_of(const char *run_dir, const QemuProcess *qemu, GError **error)
{
    g_autofree char *stat = qemu_process_read_file(qemu, "stat", error);
    guint64 start;

    if (!stat)
        return NULL;
    if (!parse_start(stat, &start)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("it is not known when process %d was started"),
                    (int)qemu_process_pid(qemu));
        return NULL;
    }
    return g_strdup_printf("%s/" PREFIX "%d-%" PRIu64, run_dir, (int)qemu_process_pid(qemu),
                           start);
}

static gboolean failed(GError **error, const char *path)
{
    int saved = errno;

    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(saved), "%s: %s", path,
                g_strerror(saved));
    return FALSE;
}

/* Only what a daemon has made. */
static gboolean is_ours(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & 077) == 0;
}

static int open_path(const char *path, GError **error)
{
    autofd fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0) {
        failed(error, path);
        return -1;
    }
    if (is_ours(fd))
        return autofd_steal(&fd);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, _("%s is not of this daemon"), path);
    return -1;
}

int placed_file_open(const char *run_dir, const QemuProcess *qemu, GError **error)
{
    g_autofree char *path = path_of(run_dir, qemu, error);

    return path ? open_path(path, error) : -1;
}

gboolean placed_file_size(const GArray *ranges, guint64 *ret_size, GError **error)
{
    guint64 size = RECORD_HEAD;

    for (guint i = 0; i < ranges->len && i < RANGES_MAX && size <= RECORD_MAX; i++) {
        guint64 pages = g_array_index(ranges, QemuRegistered, i).length / RECORD_PAGE;

        size += RECORD_RANGE + pages / 8 + 1;
    }
    if (ranges->len <= RANGES_MAX && size <= RECORD_MAX) {
        *ret_size = size;
        return TRUE;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                _("QEMU has registered more memory than can be recorded (%u ranges)"), ranges->len);
    return FALSE;
}

/* Nothing is in it before its head is (ram/placed_record.h). */
static gboolean is_empty(int fd)
{
    guint8 head[RECORD_HEAD] = { 0 };
    ssize_t n = pread(fd, head, sizeof head, 0);

    for (ssize_t i = 0; i < n; i++) {
        if (head[i] != 0)
            return FALSE;
    }
    return n >= 0;
}

static gboolean grow(int fd, const char *path, guint64 size, GError **error)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return failed(error, path);
    if ((guint64)st.st_size >= size || !is_empty(fd))
        return TRUE;
    errno = posix_fallocate(fd, 0, (off_t)size);
    return errno == 0 || failed(error, path);
}

static int make_path(const char *path, guint64 size, GError **error)
{
    autofd fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        failed(error, path);
        return -1;
    }
    errno = posix_fallocate(fd, 0, (off_t)size);
    if (errno == 0)
        return autofd_steal(&fd);
    failed(error, path);
    unlink(path);
    return -1;
}

int placed_file_make(const char *run_dir, const QemuProcess *qemu, guint64 size, GError **error)
{
    g_autofree char *path = path_of(run_dir, qemu, error);
    g_autoptr(GError) missing = NULL;
    autofd fd = -1;

    if (!path)
        return -1;
    fd = open_path(path, &missing);
    if (fd >= 0)
        return grow(fd, path, size, error) ? autofd_steal(&fd) : -1;
    if (g_error_matches(missing, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
        return make_path(path, size, error);
    g_propagate_error(error, g_steal_pointer(&missing));
    return -1;
}

void placed_file_remove(const char *run_dir, const QemuProcess *qemu)
{
    g_autofree char *path = path_of(run_dir, qemu, NULL);

    if (path && unlink(path) < 0 && errno != ENOENT)
        log_warning(NULL, "cannot remove %s: %m", path);
}

static gboolean is_there(gint pid, guint64 start)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *stat = NULL;
    guint64 now;

    return g_file_get_contents(path, &stat, NULL, NULL) && parse_start(stat, &now) && now == start;
}

void placed_file_sweep(const char *run_dir)
{
    g_autoptr(GDir) dir = g_dir_open(run_dir, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(run_dir, name, NULL);
        guint64 start;
        gint pid;

        if (sscanf(name, PREFIX "%d-%" SCNu64, &pid, &start) != 2 || is_there(pid, start))
            continue;
        if (unlink(path) < 0)
            log_warning(NULL, "cannot remove %s: %m", path);
    }
}
