/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two engines in one process, with their sessions and preempt channels, between two model QEMUs.
 * Links and QEMU's sockets are in memory and move as many bytes, as late, as a test wants; the clock
 * is the test's. */
#pragma once

#include "ram/engine.h"
#include "tests/support/model-destination.h"

/* Bytes under way in one direction. */
typedef struct {
    GByteArray *bytes;
    gsize done;
} MemoryPipe;

/* Channels of a session, by their place in the arrays: main, preempt, then bulk channels. */
#define PAIR_MAIN 0
#define PAIR_PREEMPT 1
#define PAIR_BULK 2
#define PAIR_BULK_MAX 4
#define PAIR_CHANNELS (PAIR_BULK + PAIR_BULK_MAX)

typedef struct {
    Session *session;
    Lane *lane; /* the preempt channel's */
    Lane *lanes[PAIR_CHANNELS]; /* all; NULL: the main channel, or none */
    Engine *engine;
    FrameReader reader[PAIR_CHANNELS];
    MemoryPipe in[PAIR_CHANNELS];    /* from the peer */
    gboolean cut[PAIR_CHANNELS];     /* what it sends gets nowhere */
    gboolean noticed[PAIR_CHANNELS]; /* that */
    gboolean greeted;      /* destination: HELLO has come */
    gboolean has_lane[PAIR_CHANNELS]; /* its engine knows it */
    gboolean qemu_eof[2];  /* of QEMU's connections, told to the engine */
    gboolean opened;       /* QEMU's preempt connection, told to the engine */
    gboolean shut;         /* the writing side of QEMU's main connection */
    gboolean closed;       /* both of QEMU's connections */
    char *error;           /* of engine_run() */
} EngineEnd;

typedef struct {
    guint64 window;
    gsize stage;
    PageCompress compress;
    CompressWorker *worker; /* or NULL */
    guint64 methods; /* features of compression, 0: all */
    guint bulk; /* channels */
    ModelPreempt preempt;
    gboolean no_lane; /* the features are not there */
    guint qemu_buffer; /* bytes of a socket to QEMU */
    guint most;        /* bytes of a step */
} EngineSetup;

typedef struct {
    EngineSetup setup;
    EngineEnd source;
    EngineEnd destination;
    ModelSource qemu_source;
    ModelDestination qemu_destination;
    MemoryPipe to_destination[2];
    GRand *rand;
    gint64 now_us;
    gsize stage_high; /* of all engines so far */
    guint cuts_left;  /* connections that will be cut, at random */
    guint cuts;
} EnginePair;

/* guest must outlive it. The channels are open, the stream has not begun. */
void engine_pair_init(EnginePair *pair, const EngineSetup *setup, const ModelGuest *guest,
                      guint32 seed);
void engine_pair_clear(EnginePair *pair);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(EnginePair, engine_pair_clear)

/* The steps there are; each returns whether anything moved. */
typedef enum {
    STEP_SEND,          /* source's main channel: onto the link */
    STEP_SEND_LANE,
    STEP_SEND_BULK,     /* all bulk channels */
    STEP_SEND_BACK,     /* destination's */
    STEP_SEND_BACK_LANE,
    STEP_SEND_BACK_BULK,
    STEP_RECEIVE,       /* destination's main channel */
    STEP_RECEIVE_LANE,
    STEP_RECEIVE_BULK,
    STEP_RECEIVE_BACK,  /* source's */
    STEP_RECEIVE_BACK_LANE,
    STEP_RECEIVE_BACK_BULK,
    STEP_RUN_SOURCE,
    STEP_RUN_DESTINATION,
    STEP_QEMU_WRITE,    /* source QEMU makes an element of its stream */
    STEP_READ_QEMU,     /* from its main connection */
    STEP_READ_PREEMPT,
    STEP_WRITE_RETURN,  /* the return path to the source QEMU */
    STEP_WRITE_QEMU,    /* to the destination QEMU */
    STEP_WRITE_PREEMPT,
    STEP_QEMU_READ,     /* the destination QEMU takes it */
    STEP_QEMU_READ_PREEMPT,
    STEP_QEMU_ASK,      /* the destination QEMU makes a request, or ends */
    STEP_READ_RETURN,
    STEP_MAX,
} EngineStep;

gboolean engine_pair_step(EnginePair *pair, EngineStep step, gsize most);

/* Random steps, until nothing moves any more or until(pair) is TRUE (NULL: never). */
void engine_pair_run(EnginePair *pair, gboolean (*until)(EnginePair *pair));
/* One of each, as the relay does it: what is waited for first. TRUE: something moved. */
gboolean engine_pair_turn(EnginePair *pair, gsize most);

/* What may happen to connections at random while there are cuts left: one of either channel is cut
 * behind a random byte, an end notices that, the source dials again. */
gboolean engine_pair_link_step(EnginePair *pair);
/* Everything that is cut is noticed in the end, and dialled. */
gboolean engine_pair_heal(EnginePair *pair);
/* The source dials what it has lost, or had never. */
gboolean engine_pair_dial(EnginePair *pair);
/* Whether the destination's channel takes this HELLO; a refusal is what the source hears. */
gboolean engine_pair_greet(EnginePair *pair, guint channel, const Frame *frame);

/* Moves all that is sent to where it goes; the engines and both QEMUs stand still. */
void engine_pair_move_links(EnginePair *pair);

/* The link breaks: both sessions fail, both QEMUs pause; then all is made anew and resumes. */
void engine_pair_recover(EnginePair *pair);

/* NULL, or the first thing that went wrong. */
const char *engine_pair_failure(const EnginePair *pair);
gboolean engine_pair_is_complete(const EnginePair *pair);
