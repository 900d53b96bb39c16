/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The asking half of a check of a peer's migration port (driver/check_port.h): everything a session
 * would do up to its HELLO. */
#pragma once

#include "driver/check_answer.h"
#include "driver/settings.h"

/* host is dialled, and the peer's certificate must be for it; within settings' connect_timeout each
 * for the connection and for TLS. */
void check_dial(const Settings *settings, const char *host, guint16 port,
                GAsyncReadyCallback callback, gpointer data);

/* SESSION_DIAL_ERROR (driver/session_dial.h): there is no connection to a virtpostcopyd. Other
 * errors: TLS does not agree. */
gboolean check_dial_finish(GAsyncResult *result, CheckAnswer *ret_answer, GError **error);
