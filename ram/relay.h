/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The data path: one thread that owns QEMU's socket, the TLS channels and the session.
 *
 * The thread waits in poll() for all of them at once and does what the session machine says;
 * nobody else touches them. Commands go in and reports come out by mailbox; the reports are
 * handed to a function in the main context the relay was made for. */
#pragma once

#include "ram/job_limits.h"
#include "ram/memory_proof.h"
#include "ram/placing.h"
#include "ram/relay_report.h"
#include "tls/credentials.h"

/* Accepted connections that have not shown a valid HELLO yet, at one time. */
#define RELAY_CANDIDATES_MAX 8

/* Connections of QEMU's for its disks, at one time. */
#define RELAY_DISKS_MAX 64

/* How long a peer may take, in milliseconds. */
typedef struct {
    guint handshake_ms; /* for TLS and, on an accepted channel, HELLO */
    guint hello_ack_ms; /* source: for the answer to HELLO; the peer gets its QEMU meanwhile. Both: until
                         * a disk connection's other end is there */
    guint linger_ms;    /* for what is still to be said at the end */
    guint heartbeat_ms; /* from the last word of the peer to a PING, and from that to the next */
    guint heartbeats;   /* so many of these without a word: the connection is lost */
    guint reconnect_ms; /* from the loss of a channel until another connection of it; 0: for ever */
} RelayTimeouts;

#define RELAY_TIMEOUTS_DEFAULT \
    { 10 * 1000, 30 * 1000, 3 * 1000, JOB_HEARTBEAT_DEFAULT * 1000, JOB_HEARTBEATS_DEFAULT, \
      JOB_RECONNECT_DEFAULT * 1000 }

/* What is done to the bodies of PAGES frames, if the peer can undo it. */
typedef enum {
    RELAY_COMPRESSION_AUTO, /* compress while the link is slower than the compressor */
    RELAY_COMPRESSION_ON,
    RELAY_COMPRESSION_OFF,
    RELAY_COMPRESSION_MAX,
} RelayCompression;

typedef struct {
    SessionConfig session;
    TlsCredentials *creds;          /* a reference is taken */
    gboolean check_host;            /* source, X.509: the certificate must be for the host */
    const char *const *allowed_dns; /* copied; see tls/channel.h */
    RelayTimeouts timeouts;
    guint64 stage; /* source: bytes of pages taken from QEMU and not sent, at most */
    gboolean paced; /* source: RELAY_REPORT_SOURCE_RATE is acted upon */
    RelayCompression compression; /* source */
    PagesLevels levels;           /* source */
    guint compression_threads;    /* source */
    guint bulk;                   /* source: bulk channels, if the peer has them; at most CHANNEL_BULK_MAX */
    guint rekey_records;          /* for tests, see tls_channel_set_rekey() */
    gboolean recovers;            /* a migration that is paused: see "recovers" in the D-Bus interface */
    gboolean memory;              /* a memory client's: RELAY_ATTACH_MEMORY instead of the QEMU commands */
} RelayConfig;

typedef struct Relay Relay;
/* The report is freed after the call. */
typedef void (*RelayReportFunc)(const RelayReport *report, gpointer data);

/* In setup. Reports are given in the thread-default main context of the caller. */
Relay *relay_new(const RelayConfig *config, RelayReportFunc func, gpointer data, GError **error);
/* Hands over the reports that are there already, without waiting for the main context. */
void relay_dispatch(Relay *relay);
/* Ends the thread at once, whatever it is doing, and waits for it. No report comes any more. */
void relay_free(Relay *relay);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Relay, relay_free)

typedef enum {
    RELAY_CONNECT_PEER, /* source: fd (TCP), text (host). Answered when HELLO_ACK is there */
    RELAY_ACCEPT_PEER,  /* destination: fd (TCP), text (address) */
    /* source: fd (TCP), text (host), kind and number. Another channel of the session; after
     * RELAY_CONNECT_PEER. Answered when its HELLO_ACK is there or it was refused */
    RELAY_CONNECT_CHANNEL,
    /* source: fd (TCP), text (host), kind and number. The answer to RELAY_REPORT_CHANNEL_LOST; answered at once, and
     * RELAY_REPORT_CHANNEL_LOST comes again if that was in vain */
    RELAY_RECONNECT_CHANNEL,
    RELAY_ABANDON_PEER, /* text (reason): what is lost will not come back */
    RELAY_LISTEN_QEMU,  /* source: fd (listening) */
    /* destination: fd (connected); a second time for QEMU's own preempt connection */
    RELAY_ATTACH_QEMU,
    RELAY_REFUSE_QEMU,  /* destination: text (reason) */
    RELAY_ATTACH_MEMORY, /* fd (connected, SOCK_SEQPACKET): the memory client; once */
    RELAY_LISTEN_DISKS, /* source: fd (listening), for QEMU's disk connections */
    /* The answers to RELAY_REPORT_DISKS_WANTED, with its number. Source: fd (TCP), text (host) */
    RELAY_CONNECT_DISKS,
    RELAY_ATTACH_DISKS, /* destination: fd (connected) */
    RELAY_REFUSE_DISKS, /* text (reason) */
    RELAY_DISKS_ENDED,  /* inside: call is the DiskChannel */
    RELAY_SET_READING,  /* source: fd (of /proc/PID/mem), bytes (of MemoryRange) */
    RELAY_SET_RECORD,  /* destination: fd (of a ram/placed_record.h) */
    RELAY_SET_PLACING, /* destination: fd (QEMU's userfaultfd), record_fd, bytes (of PlacingRange) */
    RELAY_REFUSE_PLACING, /* destination: text (reason) */
    RELAY_CANCEL,       /* text (reason) */
    RELAY_GIVE_UP,      /* the same, but an active migration goes on */
    RELAY_GET_STATS,    /* answered by RELAY_REPORT_STATS */
    RELAY_STOP,
} RelayCommandType;

/* fd is taken (-1: none), text is copied. With call there will be a RELAY_REPORT_REPLY for it,
 * unless the thread has ended: then none comes after RELAY_REPORT_ENDED. */
void relay_command(Relay *relay, RelayCommandType type, int fd, const char *text, gpointer call);
/* RELAY_CONNECT_CHANNEL or RELAY_RECONNECT_CHANNEL; number: of a bulk channel. */
void relay_channel_command(Relay *relay, RelayCommandType type, ChannelKind kind, guint16 number,
                           int fd, const char *host, gpointer call);
/* RELAY_CONNECT_DISKS, RELAY_ATTACH_DISKS or RELAY_REFUSE_DISKS, of that number. */
void relay_disks_command(Relay *relay, RelayCommandType type, guint16 number, int fd,
                         const char *text, gpointer call);
/* RELAY_SET_READING. ranges is copied. */
void relay_set_reading(Relay *relay, int fd, const MemoryRange *ranges, gsize n_ranges, gpointer call);
/* RELAY_SET_PLACING. Takes the descriptors; ranges is copied. */
void relay_set_placing(Relay *relay, int uffd, int record_fd, const PlacingRange *ranges,
                       gsize n_ranges, gpointer call);
