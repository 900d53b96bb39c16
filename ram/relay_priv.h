/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the relay. The upper part is written before the thread starts and only read after;
 * the lower part belongs to the thread. For ram/relay*.c only. */
#pragma once

#include "ram/disk_channel.h"
#include "ram/job_error.h"
#include "ram/mailbox.h"
#include "ram/pump.h"
#include "ram/relay.h"
#include "tls/proof.h"

/* RELAY_SET_PLACING. */
typedef struct {
    int record_fd;
    gsize n;
    PlacingRange ranges[];
} PlacingOffer;

typedef struct {
    RelayCommandType type;
    int fd;
    char *text;
    gpointer call;
    ChannelKind kind; /* RELAY_CONNECT_CHANNEL, RELAY_RECONNECT_CHANNEL */
    guint16 number;   /* of that channel, or of a disk connection */
    GBytes *bytes;    /* RELAY_SET_READING: ranges; or NULL */
    PlacingOffer *offer; /* or NULL */
} RelayCommand;

/* A channel, over all the connections it has. */
typedef struct {
    PumpChannel pump; /* the connection of now, or what is to become it (source), and its machine */
    ChannelKind kind;
    guint16 number;
    guint64 newest;  /* destination: Link.number of its last connection */
    gint64 lost_us;  /* when it was lost; monotonic, 0: it is not */
    GBytes *ticket;  /* source: for the next connection, or NULL */
    gpointer call;   /* source: ConnectPeer or ConnectChannel, not answered yet */
    JobError error;  /* and what it is answered with if it fails */
    gboolean is_open; /* a lane: the engine has it */
    /* of the connections that are gone */
    guint64 wire_sent;
    guint64 wire_received;
    guint64 key_updates;
} RelayChannel;

#define RELAY_PREEMPT 0
#define RELAY_LANES_MAX (1 + CHANNEL_BULK_MAX)

/* QEMU's connections for its disks. */
typedef struct {
    int listen_fd;        /* source: where QEMU makes them */
    guint16 last_number;  /* source */
    GPtrArray *waiting;   /* of connections that have one end */
    GPtrArray *channels;  /* of DiskChannel: the others */
    gboolean closed;      /* the session is over */
    guint64 opened;       /* so far */
    guint64 wire_sent;    /* of those that are gone */
    guint64 wire_received;
} RelayDisks;

struct Relay {
    SessionSide side;
    TlsCredentials *creds;
    gboolean check_host;
    char **allowed_dns;
    RelayTimeouts timeouts;
    guint rekey_records;
    gboolean recovers;
    gboolean memory; /* of a memory client, no QEMU */
    guint64 window;
    guint8 id[HELLO_SESSION_LEN];
    Mailbox *commands;
    Mailbox *reports;
    GThread *thread;
    GSource *source; /* hands the reports over; main thread */
    RelayReportFunc func;
    gpointer data;

    Session *session;
    Engine *engine;
    CompressWorker *worker; /* source, or NULL */
    RelayChannel main;
    /* The preempt channel, then bulk channels, by number. Each has a machine once both sides have agreed that
     * there may be one; at the source they are all to be opened. */
    RelayChannel lanes[RELAY_LANES_MAX];
    guint n_bulk; /* source: so many are wanted */
    RelayDisks disks;
    guint8 key[CHANNEL_KEY_LEN]; /* for the proofs of all connections but the first; secret */
    gboolean has_key;
    guint64 accepted;
    GPtrArray *candidates; /* destination: of Link */
    PumpQemu qemu[QEMU_CONNECTION_MAX];
    guint8 *buf; /* QEMU is read into it */
    int listen_fd;
    int leaving_fd; /* the source QEMU's main connection, half closed: see relay_part_from_qemu() */
    gint64 leaving_until_us;
    gboolean finishing; /* the session is over; only the channels are seen off */
    gboolean stopped;
    gboolean features_reported;
    gboolean return_path_reported;
    gboolean preempt_needed_reported;
    gboolean warned;
    gint64 memory_until_us; /* how long a memory client may take to hear of the end; 0: it has not begun */
    gboolean preempt_shut; /* QEMU's preempt connection: our direction */
    const char *phase; /* the last one reported */
    DirectState reading; /* the same */
    PlacingState placing; /* the same */
    gint64 active_us;  /* monotonic; 0: not yet */
    gint64 ended_us;
};

/* The number of the preempt channel in HELLO. */
#define RELAY_PREEMPT_CHANNEL 1

/* Whether both sides have agreed that there may be one. */
static inline gboolean relay_has_lane(const Relay *relay, guint lane)
{
    return relay->lanes[lane].pump.lane != NULL;
}

static inline gint64 relay_in_ms(guint ms)
{
    return g_get_monotonic_time() + (gint64)ms * 1000;
}

/* The thread. */
gpointer relay_run(gpointer relay);

/* ram/relay.c: all that it holds, and itself. */
void relay_command_free(gpointer command);

/* ram/relay_tell.c: reports. */
void relay_report(Relay *relay, RelayReport *report); /* takes it */
void relay_report_stats(Relay *relay);
void relay_report_state(Relay *relay);
void relay_report_channel_up(Relay *relay, const Link *link, ChannelKind kind, guint16 number);
/* RELAY_REPORT_CHANNEL_LOST, RELAY_REPORT_CHANNEL_RESUMED */
void relay_report_channel(Relay *relay, RelayReportType type, const RelayChannel *channel);
/* What the two sides have agreed on: once. */
void relay_report_features(Relay *relay);
void relay_report_refused(Relay *relay, const char *address, const char *reason);
/* The phase, a warning, the return path: what has changed since. */
void relay_report_progress(Relay *relay);
/* Takes error; NULL: done. call may be NULL: nobody is told. */
void relay_reply(Relay *relay, gpointer call, GError *error);
GError *relay_wrong_state(Relay *relay, const char *what);

/* ram/relay_channel.c: making channels, and what becomes of them. */
/* To the peer, with the command's socket and host. ticket: of an earlier connection, or NULL. */
Link *relay_dial(Relay *relay, RelayCommand *command, GBytes *ticket, GError **error);
void relay_connect_peer(Relay *relay, RelayCommand *command);
void relay_connect_channel(Relay *relay, RelayCommand *command);
void relay_reconnect_channel(Relay *relay, RelayCommand *command);
void relay_answer_connect(Relay *relay);
/* The main channel's first connection is this one: makes the key of all others of it. */
gboolean relay_take_key(Relay *relay, Link *link, GError **error);
/* A source's connection in TLS handshake. */
void relay_shake_hands(Relay *relay, RelayChannel *channel);
/* What has become of the channels beside the main one. */
void relay_watch_lanes(Relay *relay);
/* NULL: there is no such channel, or not yet. */
RelayChannel *relay_find_channel(Relay *relay, ChannelKind kind, guint16 number);
/* Its connection is closed; the machine is not told. What there is to say is said first, if it can. */
void relay_drop_link(Relay *relay, RelayChannel *channel);
/* The same without a word. */
void relay_forget_link(Relay *relay, RelayChannel *channel);
/* Of all its connections so far. */
void relay_count_wire(const RelayChannel *channel, guint64 *ret_sent, guint64 *ret_received,
                      guint64 *ret_key_updates);

/* ram/relay_rejoin.c: channels that are lost. */
/* Another connection is needed for it: closes what there is, and says so. */
void relay_lose_channel(Relay *relay, RelayChannel *channel);
/* It has another connection (or did not need one). */
void relay_channel_resumed(Relay *relay, RelayChannel *channel);
void relay_abandon_peer(Relay *relay, RelayCommand *command);
/* When there is something to do again about silent, late and lost channels; G_MAXINT64: never. */
gint64 relay_channels_due(const Relay *relay);
/* Does it. */
void relay_turn_channels(Relay *relay);

/* ram/relay_candidate.c: connections that have been accepted. */
void relay_accept_peer(Relay *relay, RelayCommand *command);
/* An accepted connection's next steps; FALSE: it left the candidates. */
gboolean relay_greet_candidate(Relay *relay, Link *link);
/* Tells the peer on a connection that is no candidate any more, and sees it off. Takes link. */
void relay_refuse_link(Relay *relay, Link *link, const GError *why);

/* ram/relay_disks.c: QEMU's connections for its disks. */
void relay_init_disks(Relay *relay);
void relay_free_disks(Relay *relay);
/* FALSE: the session is over, or not agreed on yet, or carries none. */
gboolean relay_carries_disks(const Relay *relay);
/* The session is over: so are they. */
void relay_close_disks(Relay *relay);
void relay_count_disks(const Relay *relay, RelayStats *stats);
void relay_listen_disks(Relay *relay, RelayCommand *command);
void relay_accept_disks(Relay *relay);
void relay_connect_disks(Relay *relay, RelayCommand *command);
void relay_attach_disks(Relay *relay, RelayCommand *command);
void relay_refuse_disks(Relay *relay, RelayCommand *command);
void relay_disks_ended(Relay *relay, gpointer channel);
/* Destination: a HELLO of that kind, while relay_carries_disks(). */
gboolean relay_judge_disks(Relay *relay, Link *link, const HelloBody *hello, GError **error);
/* Takes link, which that has judged well. */
void relay_take_disks(Relay *relay, Link *link, guint16 number);
gint64 relay_disks_due(const Relay *relay);
void relay_turn_disks(Relay *relay);

/* ram/relay_memory.c: the memory client. */
void relay_attach_memory(Relay *relay, RelayCommand *command);
/* Tells the session when it is there, and has everything. */
void relay_watch_memory(Relay *relay);
/* FALSE: it still has to hear of the end. */
gboolean relay_memory_has_parted(Relay *relay);

/* ram/relay_event.c */
void relay_take_command(Relay *relay, RelayCommand *command);
void relay_accept_qemu(Relay *relay);
/* QEMU has closed leaving_fd, or had its time for it. */
void relay_part_from_qemu(Relay *relay);
/* Does what the session asks for, until it asks for nothing. */
void relay_act(Relay *relay);
/* Lets the engine move on, and does what follows from that. */
void relay_run_engine(Relay *relay);
