/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The first 32 bytes on a connection to the migration port, and the one byte that answers them
 * (docs/protocol.md). In clear, before TLS: they only tell the daemon which helper the connection is for,
 * because one port serves every migration. Nothing is granted by them: the HELLO inside TLS
 * repeats the session id and carries the secret token. */
#pragma once

#include <glib.h>

#include "xml/migration_uri.h"

#define SESSION_PREAMBLE_MAGIC "virt-postcopy/1\n"
/* For the daemon itself: libvirt's RPC, to recover that session's domain (driver/recovery_port.h). */
#define SESSION_PREAMBLE_MAGIC_RPC "virt-postcopy/1r"
/* For the daemon as well: a check of the way to it, of no session (driver/check_port.h). */
#define SESSION_PREAMBLE_MAGIC_CHECK "virt-postcopy/1c"
#define SESSION_PREAMBLE_MAGIC_LEN 16
#define SESSION_PREAMBLE_LEN (SESSION_PREAMBLE_MAGIC_LEN + MIGRATION_SESSION_LEN)

typedef enum {
    SESSION_ANSWER_GO = 1,      /* TLS follows */
    SESSION_ANSWER_UNKNOWN = 2, /* no such session: ended, or never was */
    SESSION_ANSWER_BUSY = 3,    /* not now: too many connections are being set up, or the daemon has
                                 * only just started */
} SessionAnswer;
