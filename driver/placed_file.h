/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files in which helpers keep which pages they have placed in a destination QEMU's memory by themselves (SetPlacing in
 * ram/org.libvirt.Postcopy1.xml):
 *
 *     RUN_DIR/placed-PID-START     of the QEMU with that process id that was started at that time
 *
 * QEMU does not know of those pages, so who resumes its migration needs the file, whichever helper or daemon that
 * is. It is worth as much as the process lives. */
#pragma once

#include "driver/qemu_uffd.h"

/* One that is there already; -1 with G_IO_ERROR_NOT_FOUND: there is none. */
int placed_file_open(const char *run_dir, const QemuProcess *qemu, GError **error);
/* What it needs for these (of QemuRegistered). FALSE: more than any guest has, whatever a QEMU may have registered. */
gboolean placed_file_size(const GArray *ranges, guint64 *ret_size, GError **error);
/* The same, or a new one that has all of its bytes on disk, zeros. One that is there and has nothing in it yet gets
 * that size, if it is smaller. */
int placed_file_make(const char *run_dir, const QemuProcess *qemu, guint64 size, GError **error);
void placed_file_remove(const char *run_dir, const QemuProcess *qemu);
/* Removes those of processes that have ended. */
void placed_file_sweep(const char *run_dir);
