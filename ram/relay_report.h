/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the relay thread tells the main thread. Immutable once posted. */
#pragma once

#include "tls/session.h"

typedef enum {
    RELAY_REPORT_STATE,           /* status, reason, ended_by, stats */
    RELAY_REPORT_REPLY,           /* call, error */
    RELAY_REPORT_CHANNEL_UP,      /* tls_version, tls_cipher, peer_name */
    RELAY_REPORT_CHANNEL_REFUSED, /* address, reason */
    RELAY_REPORT_QEMU_NEEDED,
    RELAY_REPORT_QEMU_CONNECTED,
    RELAY_REPORT_RETURN_PATH,
    RELAY_REPORT_STATS, /* stats */
    RELAY_REPORT_ENDED, /* the thread is through; nothing comes after this */
} RelayReportType;

typedef struct {
    guint64 stream_bytes;      /* source QEMU to destination QEMU, passed on here */
    guint64 return_path_bytes; /* the other way */
    guint64 wire_bytes_sent;   /* on the main channel's TCP socket since TLS began */
    guint64 wire_bytes_received;
    guint64 frames_sent;
    guint64 frames_received;
    guint64 window_high_water; /* most bytes sent and not acknowledged */
    guint64 elapsed_us;        /* since active; stands still at the end */
} RelayStats;

typedef struct {
    RelayReportType type;
    gpointer call; /* what the command was given */
    GError *error; /* JOB_ERROR, or NULL: done */
    SessionState state;
    SessionEndedBy ended_by;
    char *reason;
    char *address;
    char *tls_version;
    char *tls_cipher;
    char *peer_name;
    RelayStats stats;
} RelayReport;

RelayReport *relay_report_new(RelayReportType type);
void relay_report_free(gpointer report);
