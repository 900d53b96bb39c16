/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both ends of a session in one process, with stand-ins for QEMU and a link in memory that
 * moves as many bytes at a time, and as late, as a test wants. */
#pragma once

#include "tls/session.h"

typedef struct {
    Session *session;
    FrameReader reader;
    gboolean greeted;     /* destination: HELLO has come, the reader's frames go to the session */
    GError *refused;      /* destination: what HELLO was refused with */
    GByteArray *link;     /* under way to this end */
    gsize link_done;      /* of them received */
    gboolean link_cut;    /* what is sent from here gets nowhere */
    SessionActions seen;  /* all actions so far */

    /* QEMU: a stream to send, of len bytes made from seed; what was received is checked. */
    guint64 send_len;
    guint64 sent;
    gboolean sent_eof;
    guint64 received;
    gsize front_done; /* of the oldest frame received */
    guint32 send_seed;
    guint32 receive_seed;
    gboolean received_wrong; /* a byte was not the one sent */
    gboolean shut;           /* the session has shut down its writing side */
    gboolean closed;
} PairEnd;

typedef struct {
    PairEnd source;
    PairEnd destination;
    GRand *rand;
} SessionPair;

/* What each side offers or accepts. */
typedef struct {
    guint64 source;
    guint64 destination;
} PairFeatures;

/* Both in setup. */
void session_pair_init_features(SessionPair *pair, guint64 source_window,
                                guint64 destination_window, guint32 seed, PairFeatures features);
/* Without features. */
void session_pair_init(SessionPair *pair, guint64 source_window, guint64 destination_window,
                       guint32 seed);
void session_pair_clear(SessionPair *pair);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SessionPair, session_pair_clear)

/* HELLO and HELLO_ACK, both QEMUs attached. */
void session_pair_activate(SessionPair *pair);

/* Init and activate, with the same window at both ends. */
void session_pair_begin(SessionPair *pair, guint64 window, PairFeatures features);

/* One step of one thing, at most `most` bytes. Each returns whether anything moved. */
gboolean pair_send(SessionPair *pair, PairEnd *from, gsize most);
gboolean pair_receive(SessionPair *pair, PairEnd *at, gsize most);
gboolean pair_qemu_read(PairEnd *end, gsize most);
gboolean pair_qemu_write(PairEnd *end, gsize most);

/* Sends one frame with a body of zeros, within the room. */
void pair_send_frame(PairEnd *end, FrameType type, gsize body_len);

/* Moves all that is sent to where it goes; both QEMUs stand still. */
void session_pair_drain(SessionPair *pair);

/* Bytes on their way to this end. */
gsize pair_under_way(const PairEnd *at);

/* Takes the session's actions and does what they say to QEMU. */
void pair_act(PairEnd *end);

/* Puts a frame (taken) on the link to `at`, as if the peer had sent it. */
void pair_inject(PairEnd *at, GBytes *frame);

/* Random steps until nothing can move any more. most: bytes in one step. */
void session_pair_run(SessionPair *pair, gsize most);

guint8 pair_byte(guint32 seed, guint64 at);

/* A frame as it comes out at the other end; whole is taken. */
Frame frame_from(GBytes *whole);

/* cmocka failures with more to say. */
void assert_state(const PairEnd *end, SessionState expected);
void assert_contains(const char *text, const char *part);
