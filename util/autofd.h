/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file descriptor that closes itself at the end of its scope.
 *
 * GLib has g_autofd only from 2.76 on; the floor of this project is 2.66.
 *
 *     autofd fd = open(...);
 *     ...
 *     return autofd_steal(&fd);
 */
#pragma once

#include <glib.h>
#include <unistd.h>

/* Closes *fd unless it is negative, and leaves -1. Keeps errno. */
void autofd_clear(int *fd);

/* Hands the descriptor over to the caller and leaves -1. */
static inline int autofd_steal(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

#define autofd __attribute__((cleanup(autofd_clear))) int
