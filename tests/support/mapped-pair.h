/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both ends of a mapped session in one process, on real memory: two machines with their sessions
 * and channels, or the destination's alone with a source that says what a test wants. Links are
 * in memory, move as many bytes, as late, as a test wants, and break when it wants; the clock is
 * real, as the kernel's is. */
#pragma once

#include "ram/mapped/incoming.h"
#include "ram/mapped/outgoing.h"
#include "tests/support/mapped-client.h"

#define MAPPED_BULK_MAX 3
#define MAPPED_CHANNELS_MAX (2 + MAPPED_BULK_MAX) /* main, preempt, bulk */

/* Bytes under way in one direction. */
typedef struct {
    GByteArray *bytes;
    gsize done;
} MappedPipe;

typedef struct {
    Session *session;
    Lane *lane[MAPPED_CHANNELS_MAX]; /* [0] is NULL: the session */
    FrameReader reader[MAPPED_CHANNELS_MAX];
    MappedPipe in[MAPPED_CHANNELS_MAX];
    gboolean cut[MAPPED_CHANNELS_MAX];     /* what it sends gets nowhere */
    gboolean noticed[MAPPED_CHANNELS_MAX]; /* that */
    gboolean attached;
    gboolean told_end;
    char *error; /* of the machine's run */
    TestClient *client;
    MemoryLayout *layout;
} MappedEnd;

typedef struct {
    guint64 window;
    guint64 features; /* besides ram, mapped and resume */
    guint n_bulk;
    guint most;       /* bytes of a step */
    gboolean scripted; /* there is no source's machine */
    const MemoryParams *params; /* of the source's client, or NULL */
    const MemoryParams *params_destination; /* the same; with checkpoints it is a spare */
} MappedSetup;

typedef struct {
    MappedSetup setup;
    MappedEnd source;
    MappedEnd destination;
    TestMemory *source_memory;
    TestMemory *destination_memory;
    GuestMemory *guest_memory; /* the source's */
    MappedOutgoing *outgoing;
    MappedIncoming *incoming;
    GRand *rand;
    guint n_channels;
    guint cuts_left; /* connections that will be cut, at random */
    guint cuts;
    gboolean deaf; /* what waits in the userfaultfds is left there */
} MappedPair;

/* The channels are open, both clients attached. Memories are the caller's. recovers: both go on
 * with what was paused. */
void mapped_pair_init(MappedPair *pair, const MappedSetup *setup, TestMemory *source,
                      TestMemory *destination, guint32 seed);
void mapped_pair_clear(MappedPair *pair);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MappedPair, mapped_pair_clear)

/* The session ends; then all is made anew and recovers. The destination's client keeps what it
 * has. */
void mapped_pair_recover(MappedPair *pair);
void mapped_pair_lose(MappedPair *pair);

/* ---- moving on; each returns whether anything moved ---- */

/* One of everything: links, clients, faults, machines. */
gboolean mapped_pair_turn(MappedPair *pair);
/* Some of anything, at random. */
gboolean mapped_pair_random(MappedPair *pair);
/* Until until() is TRUE, something fails, or nothing moves for so long. FALSE: not until. */
gboolean mapped_pair_run(MappedPair *pair, gboolean (*until)(MappedPair *pair, gpointer data),
                         gpointer data);

/* ---- a source that a test plays ---- */

/* A frame of the source's, on a channel: body is copied. */
void mapped_pair_send(MappedPair *pair, guint channel, FrameType type, const GByteArray *body);

/* NULL, or the first thing that went wrong. */
const char *mapped_pair_failure(const MappedPair *pair);
gboolean mapped_pair_is_complete(const MappedPair *pair);
