/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon's connection to a helper, and the ones that take its place.
 *
 * The first is the socket pair of the daemon that started the helper. When that daemon is gone,
 * another one finds the helper by the socket it listens on. The newest connection is the
 * daemon's: the job is served on it, and the one before is dropped. When it ends, the job is
 * given up (job_give_up()): an active one goes on, with nobody there if need be. GDBus on all
 * of them, the helper as the client of its authentication. Main thread only. */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

#include "ram/job.h"

typedef struct Control Control;

/* Takes fd: the daemon's end is the other of the pair. Waits until it has authenticated, as the
 * user this process is now. No message is read before control_new(). */
GDBusConnection *control_connect(int fd, GError **error);

/* The job is served on that connection from here on. job: borrowed. */
Control *control_new(Job *job, GDBusConnection *first, GError **error);
void control_free(Control *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Control, control_free)

/* A unix stream socket that listens? */
gboolean control_check_listener(int fd, GError **error);
/* Makes it this process's, as the user it is now: whoever connects finds its process and user
 * id in SO_PEERCRED, where GDBus looks for them. Before the sandbox. */
gboolean control_own_listener(int fd, GError **error);
/* fd: stays the caller's, open until control_free(). Whoever connects as another user than root
 * or owner (of whom the first connection was) is sent away; one that does not authenticate soon
 * as well. */
void control_listen(Control *control, int fd, uid_t owner);

/* Calls the function, once and not before the main loop turns, when everything that was said to
 * the daemon is on its way, or it does not read. */
void control_flush(Control *control, GSourceFunc done, gpointer data);
