/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two relays and the wires between them: TCP connections that can be cut, fall silent, or be passed on by
 * hand. For tests with cmocka. */
#pragma once

#include "tests/support/relay-end.h"
#include "tests/support/sockets.h"

#define MIB (1024 * 1024)

#define PATIENT_SPEC(the_features) \
    { .key = 1, .token = 1, .timeouts = END_PATIENT, .features = the_features }

/* The TCP connection of a channel, seen from between. */
typedef struct {
    int outer[2]; /* the relays' ends are theirs */
    int inner[2];
    GThread *thread;
    gint silent; /* atomic: nothing passes any more */
    gint over;
} Wire;

typedef struct {
    End *source;
    End *destination;
    Wire *wires[CHANNEL_KIND_MAX];
} Hosts;

/* What is there goes from one socket to another, without waiting. FALSE: the end. */
gboolean copy(int from, int to);
void wire_free(Wire *wire);
void cut(Hosts *h, ChannelKind kind);
Wire *lay(Hosts *h, ChannelKind kind);

/* What the daemons do. */
void connect_peer(Hosts *h);
void reconnect(Hosts *h, ChannelKind kind);
void begin(Hosts *h, const EndSpec *spec);
void open_preempt(Hosts *h);
/* The first one: spec->bulk is at least 1. */
void open_bulk(Hosts *h);
void attach_both(Hosts *h);
void begin_active(Hosts *h, const EndSpec *spec);
void hosts_clear(Hosts *h);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Hosts, hosts_clear)

/* For wait_until(): of an End, the last one of Hosts. */
gboolean lost_main(gpointer data);
gboolean lost_preempt(gpointer data);
gboolean has_main(gpointer data);
gboolean has_preempt(gpointer data);
gboolean both_ended(gpointer data);

/* Between the QEMUs, both ways. */
typedef struct {
    StreamEnd *a;
    StreamEnd *b;
} Streams;

Streams stream(Hosts *h, guint64 there, guint64 back);
void assert_arrived(Hosts *h, Streams *s);
