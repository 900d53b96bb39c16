/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/qemu_process.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/autofd.h"

#define READ_PIECE 16384

struct QemuProcess {
    pid_t pid;
    int dir; /* of /proc */
};

/* ---- its files ---- */

int qemu_process_open_file(const QemuProcess *process, const char *name, int flags, GError **error)
{
    int fd = openat(process->dir, name, flags | O_CLOEXEC);
    int saved = errno;

    if (fd < 0)
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved), _("cannot open %s: %s"), name,
                    g_strerror(saved));
    return fd;
}

/* Its length is not known before. */
static GByteArray *read_bytes(const QemuProcess *process, const char *name, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    autofd fd = qemu_process_open_file(process, name, O_RDONLY, error);
    ssize_t n = 1;

    if (fd < 0)
        return NULL;
    while (n != 0) {
        guint had = bytes->len;

        g_byte_array_set_size(bytes, had + READ_PIECE);
        n = read(fd, bytes->data + had, READ_PIECE);
        if (n < 0 && errno != EINTR) {
            g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), _("cannot read %s: %s"),
                        name, g_strerror(errno));
            return NULL;
        }
        g_byte_array_set_size(bytes, had + (n > 0 ? (guint)n : 0));
    }
    return g_steal_pointer(&bytes);
}

char *qemu_process_read_file(const QemuProcess *process, const char *name, GError **error)
{
    GByteArray *bytes = read_bytes(process, name, error);

    if (!bytes)
        return NULL;
    g_byte_array_append(bytes, (const guint8 *)"", 1);
    return (char *)g_byte_array_free(bytes, FALSE);
}

/* ---- which one ---- */

/* QEMU's -name guest=NAME,...: a comma in it is doubled. */
static gboolean names_domain(const char *value, const char *domain)
{
    if (!g_str_has_prefix(value, "guest="))
        return FALSE;
    value += strlen("guest=");
    for (; *domain; domain++) {
        if (*value++ != *domain)
            return FALSE;
        if (*domain == ',' && *value++ != ',')
            return FALSE;
    }
    return *value == '\0' || (value[0] == ',' && value[1] != ',');
}

static gboolean is_qemu_of(const QemuProcess *process, const char *domain)
{
    g_autoptr(GByteArray) bytes = read_bytes(process, "cmdline", NULL);
    gboolean after_name = FALSE;

    if (!bytes)
        return FALSE;
    g_byte_array_append(bytes, (const guint8 *)"", 1);
    for (guint at = 0; at < bytes->len; at += strlen((char *)bytes->data + at) + 1) {
        const char *arg = (char *)bytes->data + at;

        if (after_name && names_domain(arg, domain))
            return TRUE;
        after_name = g_str_equal(arg, "-name");
    }
    return FALSE;
}

static pid_t read_pid(const char *run_dir, const char *domain, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/%s.pid", run_dir, domain);
    g_autofree char *text = NULL;
    guint64 pid;

    if (strchr(domain, '/')) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_FILENAME,
                    _("domain \"%s\" cannot have a file of its name"), domain);
        return 0;
    }
    if (!g_file_get_contents(path, &text, NULL, error))
        return 0;
    if (g_ascii_string_to_unsigned(g_strchomp(text), 10, 1, G_MAXINT32, &pid, NULL))
        return (pid_t)pid;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, _("%s holds no process id"), path);
    return 0;
}

QemuProcess *qemu_process_open(const char *run_dir, const char *domain, GError **error)
{
    g_autoptr(QemuProcess) process = g_new0(QemuProcess, 1);
    g_autofree char *path = NULL;

    process->dir = -1;
    process->pid = read_pid(run_dir, domain, error);
    if (process->pid == 0)
        return NULL;
    path = g_strdup_printf("/proc/%d", (int)process->pid);
    process->dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (process->dir < 0 || !is_qemu_of(process, domain)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("process %d is not the QEMU of domain \"%s\""), (int)process->pid, domain);
        return NULL;
    }
    return g_steal_pointer(&process);
}

void qemu_process_free(QemuProcess *process)
{
    if (!process)
        return;
    autofd_clear(&process->dir);
    g_free(process);
}

pid_t qemu_process_pid(const QemuProcess *process)
{
    return process->pid;
}

/* ---- its mappings ---- */

/* /dev/shm and the usual place of hugetlbfs are directories of files. */
static gboolean is_device(const char *path)
{
    if (g_str_has_prefix(path, "anon_inode:"))
        return TRUE;
    return g_str_has_prefix(path, "/dev/") && !g_str_has_prefix(path, "/dev/shm/") &&
           !g_str_has_prefix(path, "/dev/hugepages");
}

static gboolean parse_line(const char *line, QemuMapping *ret)
{
    char mode[5] = "";
    int path = 0;

    *ret = (QemuMapping){ 0 };
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n",
               &ret->start,
               &ret->end, mode, &ret->offset, &ret->major, &ret->minor, &ret->inode, &path) != 7 ||
        strlen(mode) != 4 || ret->end <= ret->start)
        return FALSE;
    ret->readable = mode[0] == 'r';
    ret->writable = mode[1] == 'w';
    ret->shared = mode[3] == 's';
    ret->device = is_device(line + path);
    return TRUE;
}

GArray *qemu_process_parse_maps(const char *text, GError **error)
{
    g_autoptr(GArray) mappings = g_array_new(FALSE, FALSE, sizeof(QemuMapping));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        QemuMapping mapping;

        if (**line == '\0')
            continue;
        if (!parse_line(*line, &mapping)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        _("a line of a process's maps cannot be understood: %s"), *line);
            return NULL;
        }
        g_array_append_val(mappings, mapping);
    }
    return g_steal_pointer(&mappings);
}
