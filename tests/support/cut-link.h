/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two ends of a channel in one process, joined by connections that break: bytes get lost behind a
 * random one, either end notices when a test wants it to, the source dials again, and the
 * destination may meet connections that were given up long ago. */
#pragma once

#include "tls/lane.h"

typedef struct {
    GByteArray *bytes; /* under way */
    gsize done;        /* of them received */
    gboolean closed;   /* by its sender: nothing follows */
    FrameReader reader;
} CutWay;

typedef struct {
    CutWay to[SESSION_SIDE_MAX]; /* that side */
    gboolean left[SESSION_SIDE_MAX]; /* that side has closed it */
    gboolean dead; /* what is sent on it gets nowhere */
} CutConnection;

/* A session or a lane. */
typedef struct {
    Session *session;
    Lane *lane;
    CutConnection *uses; /* borrowed; NULL: it has none, or is not answered yet (destination) */
    gboolean gone;       /* the process is not there any more: who dials hears that */
} CutEnd;

typedef struct {
    CutEnd end[SESSION_SIDE_MAX];
    GPtrArray *connections; /* of CutConnection: all there ever were */
    GRand *rand;            /* borrowed */
    guint cuts;
    guint refused; /* HELLOs */
} CutLink;

/* The machines are taken. */
void cut_link_init_sessions(CutLink *link, Session *source, Session *destination, GRand *rand);
void cut_link_init_lanes(CutLink *link, Lane *source, Lane *destination, GRand *rand);
void cut_link_clear(CutLink *link);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CutLink, cut_link_clear)

/* One step of one thing, at most `most` bytes. Each returns whether anything happened. */
gboolean cut_link_send(CutLink *link, SessionSide side, gsize most);
gboolean cut_link_receive(CutLink *link, SessionSide side, gsize most);
/* The source dials, if it has no connection and needs one. */
gboolean cut_link_dial(CutLink *link);
/* The newest connection dies; what was under way arrives up to a random byte. */
gboolean cut_link_cut(CutLink *link);
/* A side sees that its connection is dead. */
gboolean cut_link_notice(CutLink *link, SessionSide side);

/* Moves everything there is to move, dialling if need be. */
void cut_link_run(CutLink *link);
