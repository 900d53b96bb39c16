/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The directory of this daemon's short-lived sockets, and the names in it.
 *
 *     RUN_DIR/            root 0711: others may pass through, not look
 *     RUN_DIR/out-X.sock  where the source QEMU's stream comes in, or its connections for disks (we
 *                         listen)
 *     RUN_DIR/in-X/qemu   where the destination QEMU listens, for one or the other; in-X belongs to
 *                         QEMU's user
 *     RUN_DIR/p2p-X.sock  where the source libvirtd calls for its peer
 *     RUN_DIR/job-S.*     what is known of session S, see driver/job_record.h
 *     RUN_DIR/placed-P-T  what was placed in the memory of a QEMU, see driver/placed_file.h
 *
 * X is 128 random bits. A unix socket's path has 107 bytes at most. */
#pragma once

#include <gio/gio.h>

#include "xml/capabilities.h"

#define RUN_DIR_PREFIX_JOB "job-"

/* Makes the directory if need be. */
gboolean run_dir_prepare(const char *path, GError **error);

/* Removes what an earlier run left in it: the sockets (with their directories) that are not in keep
 * (paths, char *), and files of sessions that have no record, readable or not. */
void run_dir_sweep(const char *path, const GPtrArray *keep);

/* TRUE if socket_path can have been made by this code in that directory. */
gboolean run_dir_owns(const char *path, const char *socket_path);

/* A new unguessable path "PATH/PREFIXxxxx.sock"; nothing is created. */
char *run_dir_socket_path(const char *path, const char *prefix);

/* A unix: URI at which nobody listens: libvirtd fails on it and cleans up its own job, as it would
 * after any failure of its own. Free with g_free(). */
char *run_dir_dead_uri(const char *path);

/* Makes PATH/in-xxxx for QEMU's user alone and gives the path of the socket to be bound in it. */
char *run_dir_make_for_qemu(const char *path, const QemuOwner *owner, GError **error);

/* FALSE: the peer of fd, connected to that path, is not of the user that its directory was made
 * for. That user can put a link there to where only root may connect. */
gboolean run_dir_check_server(int fd, const char *socket_path, GError **error);

/* Removes a socket made by either of the above, and its directory if it had its own. */
void run_dir_remove(const char *path, const char *socket_path);

/* A listening unix socket at path, mode 0600, close-on-exec; -1 on error. */
int run_dir_listen(const char *socket_path, GError **error);
/* The same, for QEMU's user to connect to. */
int run_dir_listen_for_qemu(const char *socket_path, const QemuOwner *owner, GError **error);
