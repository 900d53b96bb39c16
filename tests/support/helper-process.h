/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A virt-postcopy-helper as the daemon runs it: a child on a socket pair, spoken to over D-Bus.
 *
 * For tests and for helper-pair. Signals from the helper are collected; helper_child_wait() turns
 * the default main context until something is there. What cannot fail but by a fault of the
 * machine aborts with a message. */
#pragma once

#include <gio/gio.h>

#include "ram/postcopy-dbus.h"
#include "tls/credentials.h"

typedef struct HelperChild HelperChild;

/* Called for each change; `what` is "state", "phase", "qemu-needed", "qemu-connected",
 * "channel-lost", "channel-resumed", "channel-refused", "answer" (of the last call),
 * "bus-closed" or "exited". */
typedef void (*HelperChildFunc)(HelperChild *child, const char *what, gpointer data);

struct HelperChild {
    GSubprocess *process;
    GDBusConnection *connection;
    PostcopyMigration *proxy;
    HelperChildFunc func; /* or NULL */
    gpointer data;

    char *state;
    char *reason;
    char *phase;
    GString *history; /* states, separated by spaces */
    GString *phases;  /* the same of PhaseChanged */
    guint qemu_needed;
    guint qemu_connected;
    GPtrArray *lost;       /* of "kind: reason" */
    GPtrArray *resumed;    /* of kinds */
    GPtrArray *refused;    /* of "address: reason" */
    guint calls;           /* calls made */
    guint answers;         /* calls answered */
    GError *answer;        /* of the last one; NULL: done */
    char *answer_name;     /* its D-Bus error name, or NULL */
    gboolean bus_closed;
    gboolean exited;
    int status; /* exit status, or 128 + signal */
};

/* options: for instance "--user=65534:65534", NULL-terminated, may be NULL itself. */
HelperChild *helper_child_new(const char *program, const char *const *options);

/* What it outlives its daemon with. */
typedef struct {
    int listen_fd;
    int outcome_fd;
} HelperChildKept;

/* Takes both descriptors, of which each may be -1. */
HelperChild *helper_child_new_kept(const char *program, const char *const *options,
                                   const HelperChildKept *kept);
/* Kills what still runs. */
void helper_child_free(HelperChild *child);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HelperChild, helper_child_free)

int helper_child_pid(HelperChild *child);

/* "session", "token" (one byte repeated) and "window"; more can be added. Floating when ended. */
void helper_options_init(GVariantBuilder *builder, guint8 session, guint8 token);

/* Calls. They return at once; the answer is counted. The fds are taken. options is consumed. */
void helper_child_configure(HelperChild *child, const char *side, GVariant *options,
                            const TlsFiles *files);
void helper_child_connect_peer(HelperChild *child, int fd, const char *host);
void helper_child_connect_channel(HelperChild *child, int fd, const char *host, const char *kind);
void helper_child_accept_peer(HelperChild *child, int fd, const char *address);
void helper_child_listen_qemu(HelperChild *child, int fd);
void helper_child_attach_qemu(HelperChild *child, int fd);
void helper_child_refuse_qemu(HelperChild *child, const char *reason);
void helper_child_cancel(HelperChild *child, const char *reason);

/* Disks: the source's socket for QEMU, and the answers to DisksWanted. */
void helper_child_set_reading(HelperChild *child, int fd, guint64 start, guint64 end);
void helper_child_listen_disks(HelperChild *child, int fd);
void helper_child_connect_disks(HelperChild *child, int fd, const char *host, guint number);
void helper_child_attach_disks(HelperChild *child, int fd, guint number);
void helper_child_refuse_disks(HelperChild *child, guint number, const char *reason);
/* The first number in the property DisksUnanswered, 0: there is none. */
guint helper_child_unanswered_disks(HelperChild *child);

/* Source: the answer to ChannelLost. */
void helper_child_reconnect(HelperChild *child, int fd, const char *host, const char *kind);
void helper_child_abandon(HelperChild *child, const char *reason);

/* Closes the D-Bus connection, as a daemon that dies does. */
void helper_child_drop_bus(HelperChild *child);
/* Connects to the helper's socket, as a daemon that comes later. The proxy is a new one; the
 * state, phase and reason are what its properties say, what was counted is kept. FALSE: it was
 * not served. */
gboolean helper_child_find(HelperChild *child, const char *path);

/* Until the n-th answer since the child was made is there; returns the last answer's error. */
const GError *helper_child_wait_answer(HelperChild *child, guint n);
void helper_child_wait_state(HelperChild *child, const char *state);
void helper_child_wait_phase(HelperChild *child, const char *phase);
void helper_child_wait_qemu_needed(HelperChild *child);
void helper_child_wait_qemu_connected(HelperChild *child);
void helper_child_wait_lost(HelperChild *child, guint n);
void helper_child_wait_resumed(HelperChild *child, guint n);
void helper_child_wait_refused(HelperChild *child, guint n);
int helper_child_wait_exit(HelperChild *child);

/* Whether the property ChannelsWanted names that kind. */
gboolean helper_child_wants_channel(HelperChild *child, const char *kind);

/* How many the property Channels has. */
guint helper_child_channels(HelperChild *child);
/* Whether the property ChannelsLost names that kind. */
gboolean helper_child_has_lost(HelperChild *child, const char *kind);

/* A counter of the Statistics property, 0 if it is not there. */
guint64 helper_child_counter(HelperChild *child, const char *name);
