/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file with the daemon's process id, locked for as long as it runs. */
#pragma once

#include <glib.h>

/* Creates or takes over path and writes our process id into it. Returns the descriptor that holds
 * the lock; -1 if another process has it (the error gives its id) or the file cannot be made. */
int pid_file_acquire(const char *path, GError **error);

/* Removes the file, then lets go of the lock. */
void pid_file_release(int fd, const char *path);
