/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opens a connection to a peer's migration port, up to where TLS begins. */
#pragma once

#include <gio/gio.h>

#include "driver/settings.h"
#include "xml/migration_uri.h"

#define SESSION_DIAL_ERROR (session_dial_error_quark())
GQuark session_dial_error_quark(void);

typedef enum {
    SESSION_DIAL_ERROR_UNKNOWN, /* the other daemon answers that the session is not there: final */
    SESSION_DIAL_ERROR_FAILED,  /* anything else: another try may do better */
} SessionDialError;

typedef enum {
    SESSION_FOR_CHANNEL, /* for the session's helper */
    SESSION_FOR_RPC,     /* for the daemon: see driver/recovery_port.h */
    SESSION_FOR_CHECK,   /* for the daemon, of no session: see driver/check_port.h */
} SessionPurpose;

/* Connects within settings' connect_timeout and does the routing step. */
void session_dial(const Settings *settings, const MigrationUri *uri, SessionPurpose purpose,
                  GAsyncReadyCallback callback, gpointer data);

/* The connected, non-blocking socket, owned by the caller; -1 with an error (SESSION_DIAL_ERROR) that
 * names the peer. */
int session_dial_finish(GAsyncResult *result, GError **error);

/* What every socket of a session gets: no delay, and the detection of a dead peer after
 * keepalive_interval * keepalive_count seconds; one for RPC is waited for as long as a lost channel,
 * reconnect_timeout, if that is longer. */
void session_socket_tune(int fd, const Settings *settings, SessionPurpose purpose);
