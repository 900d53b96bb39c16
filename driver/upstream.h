/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way to the daemon that runs the guests: virtqemud where libvirt is modular, else libvirtd. */
#pragma once

#include "driver/settings.h"

/* The sockets to try, in this order; read-only clients get theirs beside it ("-ro"). */
char **upstream_candidates(const Settings *settings, gboolean read_only);

/* Connects to the first of paths on which somebody listens, within timeout seconds; does not
 * block. paths is copied. */
void upstream_connect(const char *const *paths, guint timeout, GCancellable *cancellable,
                      GAsyncReadyCallback callback, gpointer data);

/* A connected, non-blocking socket, the caller's; or -1 and an error that names every path and what
 * is wrong with it. */
int upstream_connect_finish(GAsyncResult *result, GError **error);
