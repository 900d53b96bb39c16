/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A relay with its thread, and what it has reported; two of them joined over loopback. For tests. */
#pragma once

#include "ram/relay.h"

#define END_WINDOW (4 * 1024 * 1024)

/* Not even a gigabyte in a second would make these wait, except where a test says so. */
#define END_PATIENT { 10000, 10000, 2000, 10000, 4, 20000 }

typedef struct {
    Relay *relay;
    SessionState state;
    GString *history; /* "setup active ..." */
    char *reason;
    GPtrArray *refused;
    guint replies;
    GError *last_error; /* of the last reply, NULL: done */
    gboolean wants_preempt;
    guint wants_bulk;
    gboolean qemu_needed;
    gboolean qemu_connected;
    gboolean return_path;
    const char *reading;         /* the last, or NULL */
    SessionState reading_before; /* the last state before that */
    gboolean ended;
    guint lost[CHANNEL_KIND_MAX];
    guint resumed[CHANNEL_KIND_MAX];
    char *lost_why; /* the last */
    guint disks_wanted; /* the number asked for last */
    guint disks_ended;
    char *disks_why; /* the last */
    char *peer;
    RelayStats stats;
    guint64 features; /* that were agreed on */
    int qemu; /* the test's end of QEMU's socket */
} End;

typedef struct {
    guint8 key;
    guint8 token;
    RelayTimeouts timeouts;
    guint64 features;
    guint64 required; /* of them */
    gboolean memory;  /* for a memory client, not a QEMU */
    gboolean recovers;
    guint rekey_records;
    guint bulk; /* source: channels */
} EndSpec;

End *end_new(SessionSide side, const EndSpec *spec);
End *good_end(SessionSide side);
void end_free(End *end);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(End, end_free)

/* For wait_until(), of an End. */
gboolean has_ended(gpointer data);
gboolean needs_qemu(gpointer data);
gboolean has_connected(gpointer data);
gboolean is_active(gpointer data);
gboolean was_answered(gpointer data);
gboolean has_refused(gpointer data);

/* The steps of a daemon. */
void join(End *source, End *destination);
void attach_destination(End *destination);
void attach_source(End *source);
/* All of them. */
void activate(End *source, End *destination);
