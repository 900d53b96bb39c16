/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one port on which peers connect for every migration that comes to this host. Each connection
 * says in its preamble which session it is for and is handed to that migration's helper. What says
 * nothing in time, or something else, is closed; nobody else is affected. */
#pragma once

#include "driver/migration.h"
#include "driver/session_dial.h"

typedef struct SessionPort SessionPort;

/* A connection that is for the daemon; the preamble is answered. SESSION_FOR_RPC: of a session that is
 * known here, its helper alive or not. SESSION_FOR_CHECK: of none. Takes fd; address and session are
 * lent. */
typedef void (*SessionPortFunc)(int fd, SessionPurpose purpose, const char *address,
                                const guint8 session[MIGRATION_SESSION_LEN], gpointer data);

/* Listens on migration_address and migration_port of the set's settings. set must outlive it. */
SessionPort *session_port_new(MigrationSet *set, SessionPortFunc func, gpointer data,
                              GError **error);
void session_port_free(SessionPort *port);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SessionPort, session_port_free)
