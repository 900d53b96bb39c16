/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination daemon's half of a recovery's connection (docs/protocol.md, "Recovery").
 *
 * After a preamble of its own (driver/session_preamble.h): TLS 1.3 with the migration's credentials
 * and ALPN RECOVERY_ALPN (driver/recovery_tls.h), both sides authenticated; then the dialling side
 * proves that it has the session's token,
 *
 *     HMAC-SHA256(token, TLS exporter "EXPORTER-virt-postcopy-recovery", no context, 32 bytes)
 *
 * and the answer is one byte 1, or the end of the connection. libvirt's RPC follows. Whoever is
 * there may resume that session's domain and nothing else: only the calls that libvirt makes for
 * that are let through (driver/recovery_client.h). */
#pragma once

#include "driver/driver_priv.h"

/* Takes fd. Everything from here on happens by itself; driver_free() ends it. */
void recovery_port_take(Driver *driver, int fd, const char *address,
                        const guint8 session[MIGRATION_SESSION_LEN]);
