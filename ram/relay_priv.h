/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the relay. The upper part is written before the thread starts and only read after;
 * the lower part belongs to the thread. For ram/relay*.c only. */
#pragma once

#include "ram/job_error.h"
#include "ram/link.h"
#include "ram/mailbox.h"
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
    Mailbox *commands;
    Mailbox *reports;
    GThread *thread;
    GSource *source; /* hands the reports over; main thread */
    RelayReportFunc func;
    gpointer data;

    Session *session;
    Link *link;            /* the main channel, or what is to become it (source) */
    GPtrArray *candidates; /* destination: of Link */
    int qemu_fd;
    int listen_fd;
    gpointer connect_call; /* ConnectPeer, not answered yet */
    JobError connect_error;
    gboolean finishing; /* the session is over; only the channel is seen off */
    gboolean stopped;
    gboolean return_path_reported;
    gint64 active_us; /* monotonic; 0: not yet */
    gint64 ended_us;
    guint64 wire_sent; /* the last counted, for when the channel is gone */
    guint64 wire_received;
};

/* The thread. */
gpointer relay_run(gpointer relay);

/* ram/relay_event.c: what the thread does about what its turn has found. */
void relay_report(Relay *relay, RelayReport *report); /* takes it */
void relay_report_stats(Relay *relay);
void relay_take_command(Relay *relay, RelayCommand *command);
void relay_accept_qemu(Relay *relay);
/* The source's channel is in TLS handshake. */
void relay_shake_hands(Relay *relay);
/* An accepted connection's next steps; FALSE: it left the candidates. */
gboolean relay_greet_candidate(Relay *relay, Link *link);
/* Does what the session asks for, until it asks for nothing. */
void relay_act(Relay *relay);
void relay_drop_link(Relay *relay);
