/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the relay thread tells the main thread. Immutable once posted. */
#pragma once

#include "ram/ram_stats.h"
#include "tls/session.h"

typedef enum {
    RELAY_REPORT_STATE,           /* state, phase, reason, ended_by, stats */
    RELAY_REPORT_PHASE,           /* phase */
    RELAY_REPORT_REPLY,           /* call, error; wants_preempt, wants_bulk if the call was ConnectPeer */
    RELAY_REPORT_FEATURES,        /* features: the two sides have agreed; before ConnectPeer's REPLY */
    RELAY_REPORT_CHANNEL_UP,      /* kind, number, address, tls_version, tls_cipher, peer_name */
    RELAY_REPORT_CHANNEL_REFUSED, /* address, reason */
    RELAY_REPORT_CHANNEL_LOST,    /* kind, number, reason: waits for another connection (again) */
    RELAY_REPORT_CHANNEL_RESUMED, /* kind, number: it has it; after CHANNEL_UP */
    RELAY_REPORT_WARNING,         /* reason: a sentence for the log */
    RELAY_REPORT_READING,         /* phase: see Reading in the D-Bus interface; reason if it failed */
    RELAY_REPORT_PLACING,         /* phase: see Placing there; reason if it is refused */
    RELAY_REPORT_QEMU_NEEDED,     /* again for QEMU's own preempt connection */
    RELAY_REPORT_QEMU_CONNECTED,
    RELAY_REPORT_RETURN_PATH,
    RELAY_REPORT_SOURCE_RATE, /* rate */
    RELAY_REPORT_DISKS_WANTED, /* number: a disk connection has one end, and needs the other */
    RELAY_REPORT_DISKS_ENDED,  /* number (0: it never had one); reason: "" at its proper end */
    RELAY_REPORT_STATS, /* stats */
    RELAY_REPORT_ENDED, /* the thread is through; nothing comes after this */
} RelayReportType;

typedef struct {
    guint64 stream_bytes;      /* source QEMU to destination QEMU, passed on here */
    guint64 return_path_bytes; /* the other way */
    guint64 wire_bytes_sent;   /* on the main channel's TCP socket since TLS began */
    guint64 wire_bytes_received;
    guint64 wire_preempt_sent; /* the same of the preempt channel */
    guint64 wire_preempt_received;
    guint64 wire_bulk_sent; /* the same of all bulk channels */
    guint64 wire_bulk_received;
    guint64 bulk_channels;
    guint64 bulk_bytes[CHANNEL_BULK_MAX]; /* bodies of frames of each, both directions */
    guint64 wire_disks_sent; /* the same of all disk channels */
    guint64 wire_disks_received;
    guint64 disk_channels; /* so many so far */
    guint64 frames_sent;
    guint64 frames_received;
    guint64 window_high_water; /* most bytes sent and not acknowledged */
    guint64 resumes;           /* connections that took the place of a lost one, all channels */
    guint64 bytes_sent_again;  /* of bodies of frames, after those */
    guint64 key_updates;       /* of our keys, all channels */
    guint64 elapsed_us;        /* since active; stands still at the end */
    gboolean memory; /* of a memory client: what only that has counts */
    RamStats ram;
} RelayStats;

typedef struct {
    RelayReportType type;
    gpointer call; /* what the command was given */
    GError *error; /* JOB_ERROR, or NULL: done */
    gboolean wants_preempt; /* both have a preempt channel: RELAY_CONNECT_CHANNEL is due */
    guint wants_bulk;       /* the same of so many bulk channels, from number 1 on */
    SessionState state;
    const char *phase; /* QEMU's word, a static string; see Phase in org.libvirt.Postcopy1.xml */
    ChannelKind kind;
    SessionEndedBy ended_by;
    guint64 features; /* SESSION_FEATURE_* */
    guint16 number;   /* of a channel, or of a disk connection */
    guint64 rate; /* bytes per second; 0: no limit. See SourceRateWanted */
    char *reason;
    char *address;
    char *tls_version;
    char *tls_cipher;
    char *peer_name;
    RelayStats stats;
} RelayReport;

RelayReport *relay_report_new(RelayReportType type);
void relay_report_free(gpointer report);
