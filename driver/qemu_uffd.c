/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/qemu_uffd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/autofd.h"

/* Since Linux 5.3 and 5.6; the numbers are the same everywhere. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

#define UFFD_LINK "anon_inode:[userfaultfd]"

/* ---- the descriptor ---- */

static gboolean is_uffd(int dir, const char *name)
{
    char target[sizeof UFFD_LINK + 1];
    ssize_t len = readlinkat(dir, name, target, sizeof target);

    return len == (ssize_t)strlen(UFFD_LINK) && memcmp(target, UFFD_LINK, (gsize)len) == 0;
}

/* How many it has; *ret_fd is its number of the last one. -1 on error. */
static int find_uffd(const QemuProcess *process, int *ret_fd, GError **error)
{
    int fd = qemu_process_open_file(process, "fd", O_RDONLY | O_DIRECTORY, error);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int n = 0;

    if (!dir)
        return -1;
    while ((entry = readdir(dir))) {
        if (!g_ascii_isdigit(entry->d_name[0]) || !is_uffd(dirfd(dir), entry->d_name))
            continue;
        *ret_fd = atoi(entry->d_name);
        n++;
    }
    closedir(dir);
    return n;
}

static gboolean said(GError **error, const char *what)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s: %s", what,
                g_strerror(errno));
    return FALSE;
}

/* Its number may be another process's by now: that it is this one is asked of its directory, afterwards. */
static int dup_of(const QemuProcess *process, int number, GError **error)
{
    autofd pidfd = (int)syscall(SYS_pidfd_open, qemu_process_pid(process), 0);
    g_autofree char *stat = NULL;
    int fd;

    if (pidfd < 0) {
        said(error, "pidfd_open");
        return -1;
    }
    stat = qemu_process_read_file(process, "stat", error);
    if (!stat)
        return -1;
    fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    if (fd < 0)
        said(error, "pidfd_getfd");
    return fd;
}

int qemu_uffd_dup(const QemuProcess *process, gboolean *ret_several, GError **error)
{
    int number = -1;
    int n = find_uffd(process, &number, error);

    if (ret_several)
        *ret_several = n > 1;
    if (n == 1)
        return dup_of(process, number, error);
    if (n == 0)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                            _("QEMU has opened no userfaultfd"));
    else if (n > 1)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                            _("QEMU has several userfaultfds: other processes share its memory"));
    return -1;
}

/* ---- the memory ---- */

typedef struct {
    guint64 start;
    guint64 end;
    gboolean shared;
    guint64 page_size;
} Mapping;

static gboolean parse_head(const char *line, Mapping *ret)
{
    char mode[5] = "";

    *ret = (Mapping){ 0 };
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s ", &ret->start, &ret->end, mode) != 3 ||
        strlen(mode) != 4 || ret->end <= ret->start)
        return FALSE;
    ret->shared = mode[3] == 's';
    return TRUE;
}

static gboolean has_flag(char *const *flags, const char *flag)
{
    return g_strv_contains((const char *const *)flags, flag);
}

static void add(GArray *all, const Mapping *mapping, const char *backing)
{
    QemuRegistered *last = all->len ? &g_array_index(all, QemuRegistered, all->len - 1) : NULL;
    QemuRegistered next = { mapping->start, mapping->end - mapping->start, mapping->page_size,
                            backing };

    /* QEMU leaves a gap between blocks: without one it is the same block, whose mapping was split. */
    if (last && last->address + last->length == next.address &&
        last->page_size == next.page_size && g_str_equal(last->backing, backing))
        last->length += next.length;
    else
        g_array_append_val(all, next);
}

static void take_flags(GArray *all, const Mapping *mapping, const char *text)
{
    g_auto(GStrv) flags = g_strsplit(text, " ", -1);

    if (!has_flag(flags, "um"))
        return;
    add(all, mapping,
        has_flag(flags, "ht") ? "hugetlb" : mapping->shared ? "shmem" : "anonymous");
}

/* "Name:   4 kB"; FALSE: it is no such line. */
static gboolean is_field(const char *line)
{
    const char *colon = strchr(line, ':');
    const char *space = strchr(line, ' ');

    return colon && g_ascii_isupper(line[0]) && (!space || colon < space);
}

GArray *qemu_uffd_parse_smaps(const char *text, GError **error)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(QemuRegistered));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    Mapping mapping = { 0 };
    guint64 kib;

    for (char **line = lines; *line; line++) {
        if (**line == '\0')
            continue;
        if (sscanf(*line, "KernelPageSize: %" SCNu64 " kB", &kib) == 1)
            mapping.page_size = kib * 1024;
        else if (g_str_has_prefix(*line, "VmFlags:"))
            take_flags(all, &mapping, *line + strlen("VmFlags:"));
        else if (!is_field(*line) && !parse_head(*line, &mapping)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        _("a line of a process's smaps cannot be understood: %s"), *line);
            return NULL;
        }
    }
    return g_steal_pointer(&all);
}

gboolean qemu_uffd_is_same(const GArray *a, const GArray *b)
{
    if (a->len != b->len)
        return FALSE;
    for (guint i = 0; i < a->len; i++) {
        const QemuRegistered *x = &g_array_index(a, QemuRegistered, i);
        const QemuRegistered *y = &g_array_index(b, QemuRegistered, i);

        if (x->address != y->address || x->length != y->length || x->page_size != y->page_size ||
            !g_str_equal(x->backing, y->backing))
            return FALSE;
    }
    return TRUE;
}
