/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A mapped source's machine on real memory, with a client that does what a test says, and at the
 * other end of the session a destination that is a bare model: a copy of the memory, which pages
 * are there, and what must hold of what comes. Time is the test's. */
#pragma once

#include "ram/bitmap.h"
#include "ram/mapped/frames.h"
#include "ram/mapped/outgoing.h"
#include "tests/support/mapped-memory.h"

#define WORLD_PAGE 4096
#define WORLD_BULK_MAX 2

enum { WORLD_MAIN, WORLD_PREEMPT, WORLD_BULK, WORLD_CHANNELS = WORLD_BULK + WORLD_BULK_MAX };

typedef struct {
    MappedKind kind;
    guint64 length;
    MappedLogKind log;
    gboolean recovers;
    guint n_bulk;
    guint64 features;  /* besides what a mapped session needs */
    guint64 window;    /* 0: 1 MiB */
    MemoryParams params;
} WorldSetup;

typedef struct {
    Session *session;
    Lane *lanes[WORLD_CHANNELS]; /* but the main one */
    FrameReader readers[WORLD_CHANNELS];
} WorldEnd;

/* What the client was asked, and what it says next. */
typedef struct {
    MemoryClient client;
    GString *asked;       /* "advise pause …" */
    GQueue answers;       /* of MemoryEventType */
    gboolean mute;        /* it does not answer */
    gboolean paused;
    gboolean no_return;
    gboolean has_no_devices;
    gboolean keeps_guest; /* it does not answer no-return */
    guint throttle;
    GString *states;
    MemoryEndOutcome outcome;
    char *end_text;
    char *resumed;        /* why */
    guint n_discards;
} WorldClient;

typedef struct {
    WorldSetup setup;
    MappedMemory *memory;
    GuestMemory *guest;
    MappedOutgoing *machine;
    WorldClient client;
    WorldEnd source;
    WorldEnd destination;
    gboolean ended; /* the machine was told */
    gint64 now_us;
    char *error;    /* of the machine's run */

    /* the guest, called between two runs while it is not paused; may be NULL */
    void (*guest_runs)(gpointer data);
    gpointer guest_data;

    /* the destination */
    RamBlocks *blocks;
    PagesReader *reader;
    guint8 *copy;
    Bitmap *present;
    guint stuck_at;       /* a PHASE that it does not get through with; 0: none */
    gboolean holds;       /* takes nothing off the channels, so that nothing is acknowledged */
    GString *seen;        /* "blocks advise pages discard …", repetitions once */
    gboolean discarding;
    gboolean runs;
    gboolean ram_ended;
    GByteArray *device;
    guint64 pages;        /* target pages that came */
    guint64 zero_pages;
    guint64 differences;  /* XBZRLE */
    guint64 urgent_pages;
    guint64 bulk_pages;
    guint64 discarded;    /* pages */
    GArray *urgent;       /* of guint64: offsets as they came on the preempt channel */
    char *wrong;          /* the first rule that was broken */
} World;

World *world_new(const WorldSetup *setup);
/* The session breaks, and everything but the memory and what the destination has is made anew. */
void world_recover(World *world);
void world_free(World *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* One turn of everything, a millisecond later. TRUE: something moved. */
gboolean world_turn(World *world);
/* Until nothing moves any more, or for so many turns. */
void world_run(World *world, guint turns);
/* Until the machine is in that state; fails the test if it does not get there. */
void world_run_until(World *world, MappedOutState state);
/* The client says something. */
void world_say(World *world, MemoryEventType type);
void world_ask(World *world, guint64 start, guint32 length);
/* The session is lost for good. */
void world_lose(World *world, const char *reason);
/* The destination tells what it has. */
void world_send_received(World *world);

/* Fails the test unless the session is completed and the destination has what the source has. */
void world_expect_moved(World *world);
