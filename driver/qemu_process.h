/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QEMU of a domain of this host, as /proc shows it: found by the file in which libvirt keeps
 * its process id, and held by its directory in /proc, so that it is never another process that has
 * got its number. */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

/* Where libvirt's privileged daemons have those files. */
#define QEMU_PROCESS_RUN_DIR RUNSTATEDIR "/libvirt/qemu"

typedef struct QemuProcess QemuProcess;

/* run_dir: QEMU_PROCESS_RUN_DIR but for tests. Fails if there is no such process, or it is not a
 * QEMU that was started under that name. */
QemuProcess *qemu_process_open(const char *run_dir, const char *domain, GError **error);
void qemu_process_free(QemuProcess *process);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuProcess, qemu_process_free)

pid_t qemu_process_pid(const QemuProcess *process);
/* A file of its directory, as openat(); -1 with an error that names it. */
int qemu_process_open_file(const QemuProcess *process, const char *name, int flags, GError **error);
/* All of such a file. */
char *qemu_process_read_file(const QemuProcess *process, const char *name, GError **error);

/* A line of its maps. */
typedef struct {
    guint64 start;
    guint64 end;
    gboolean readable, writable, shared;
    gboolean device; /* of a device: to read it may do something */
    guint64 offset;
    guint64 inode; /* 0: anonymous */
    guint major, minor;
} QemuMapping;

/* Of QemuMapping, by address. A line that cannot be understood is an error. Pure. */
GArray *qemu_process_parse_maps(const char *text, GError **error);
