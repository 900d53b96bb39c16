/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the relay. The upper part is written before the thread starts and only read after;
 * the lower part belongs to the thread. For ram/relay*.c only. */
#pragma once

#include "ram/job_error.h"
#include "ram/mailbox.h"
#include "ram/pump.h"
#include "ram/relay.h"

typedef struct {
    RelayCommandType type;
    int fd;
    char *text;
    gpointer call;
} RelayCommand;

struct Relay {
    SessionSide side;
    TlsCredentials *creds;
    gboolean check_host;
    char **allowed_dns;
    RelayTimeouts timeouts;
    guint64 window;
    guint8 id[HELLO_SESSION_LEN];
    Mailbox *commands;
    Mailbox *reports;
    GThread *thread;
    GSource *source; /* hands the reports over; main thread */
    RelayReportFunc func;
    gpointer data;

    Session *session;
    Lane *lane;     /* the preempt channel's machine: once both sides have agreed on one */
    Engine *engine;
    CompressWorker *worker; /* source, or NULL */
    PumpChannel main;       /* the main channel, or what is to become it (source) */
    PumpChannel preempt;
    GPtrArray *candidates; /* destination: of Link */
    PumpQemu qemu[QEMU_CONNECTION_MAX];
    guint8 *buf; /* QEMU is read into it */
    int listen_fd;
    int leaving_fd; /* the source QEMU's main connection, half closed: see relay_part_from_qemu() */
    gint64 leaving_until_us;
    gpointer connect_call; /* ConnectPeer, not answered yet */
    JobError connect_error;
    gpointer channel_call; /* ConnectChannel, the same */
    JobError channel_error;
    gboolean lane_is_open;
    gboolean finishing; /* the session is over; only the channels are seen off */
    gboolean stopped;
    gboolean return_path_reported;
    gboolean preempt_needed_reported;
    gboolean warned;
    gboolean preempt_shut; /* QEMU's preempt connection: our direction */
    const char *phase; /* the last one reported */
    gint64 active_us;  /* monotonic; 0: not yet */
    gint64 ended_us;
    guint64 wire_sent; /* the last counted, for when the channel is gone */
    guint64 wire_received;
    guint64 wire_preempt_sent;
    guint64 wire_preempt_received;
};

/* The number of the preempt channel in HELLO. */
#define RELAY_PREEMPT_CHANNEL 1

static inline gint64 relay_in_ms(guint ms)
{
    return g_get_monotonic_time() + (gint64)ms * 1000;
}

/* The thread. */
gpointer relay_run(gpointer relay);

/* ram/relay_tell.c: reports. */
void relay_report(Relay *relay, RelayReport *report); /* takes it */
void relay_report_stats(Relay *relay);
void relay_report_state(Relay *relay);
void relay_report_channel_up(Relay *relay, const Link *link, ChannelKind kind);
void relay_report_refused(Relay *relay, const char *address, const char *reason);
/* The phase, a warning, the return path: what has changed since. */
void relay_report_progress(Relay *relay);
/* Takes error; NULL: done. call may be NULL: nobody is told. */
void relay_reply(Relay *relay, gpointer call, GError *error);
GError *relay_wrong_state(Relay *relay, const char *what);

/* ram/relay_channel.c: making channels, and what becomes of them. */
void relay_connect_peer(Relay *relay, RelayCommand *command);
void relay_connect_channel(Relay *relay, RelayCommand *command);
void relay_answer_connect(Relay *relay);
/* The source's channels, in TLS handshake. */
void relay_shake_hands(Relay *relay);
void relay_shake_hands_preempt(Relay *relay);
/* What has become of the preempt channel. */
void relay_watch_lane(Relay *relay);
void relay_drop_main(Relay *relay);
void relay_drop_preempt(Relay *relay);

/* ram/relay_candidate.c: connections that have been accepted. */
void relay_accept_peer(Relay *relay, RelayCommand *command);
/* An accepted connection's next steps; FALSE: it left the candidates. */
gboolean relay_greet_candidate(Relay *relay, Link *link);

/* ram/relay_event.c */
void relay_take_command(Relay *relay, RelayCommand *command);
void relay_accept_qemu(Relay *relay);
/* QEMU has closed leaving_fd, or had its time for it. */
void relay_part_from_qemu(Relay *relay);
/* Does what the session asks for, until it asks for nothing. */
void relay_act(Relay *relay);
/* Lets the engine move on, and does what follows from that. */
void relay_run_engine(Relay *relay);
