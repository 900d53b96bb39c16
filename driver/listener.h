/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A listening socket and what kind of clients come in on it. */
#pragma once

#include "driver/proxy.h"

typedef struct Listener Listener;

/* A new connection, from the main loop; takes fd, which is non-blocking and closes on exec. */
typedef void (*ListenerFunc)(Listener *listener, int fd, gpointer data);

/* Takes fd. path: for a unix socket made by this process, to be removed in the end; else NULL. */
Listener *listener_new(int fd, ProxyClientKind kind, gboolean read_only, const char *path,
                       ListenerFunc func, gpointer data);

/* Ends listening and removes the socket's file. */
void listener_free(Listener *listener);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Listener, listener_free)

/* A new listener does not accept; connections wait in the kernel meanwhile. */
void listener_set_accepting(Listener *listener, gboolean accepting);

ProxyClientKind listener_kind(const Listener *listener);
gboolean listener_read_only(const Listener *listener);
const char *listener_address(const Listener *listener); /* for log lines */
