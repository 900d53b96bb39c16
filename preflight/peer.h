/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The other host, as it is seen from here. Pure. */
#pragma once

#include "preflight/memory.h"
#include "preflight/problem.h"

/* How far the connection to the other host's daemon got. */
typedef enum {
    PEER_STEP_URI,    /* not one of this driver */
    PEER_STEP_NAME,   /* the name has no address */
    PEER_STEP_PORT,   /* nobody answers at the port */
    PEER_STEP_TLS,    /* certificates of the connection */
    PEER_STEP_AUTH,   /* who we are does not suffice */
    PEER_STEP_DRIVER, /* somebody else answers */
    PEER_STEP_OTHER,
    PEER_STEP_DONE,
} PeerStep;

typedef struct {
    const char *uri;   /* borrowed, as all texts here */
    const char *host;
    guint port;        /* 0: the transport has none (ssh, unix) */
    PeerStep step;
    const char *error; /* unless DONE: what was said */
} PeerOpenFacts;

void peer_judge_open(GPtrArray *findings, const PeerOpenFacts *facts);

/* libvirt refuses a migration between hosts with the same one. */
void peer_judge_uuid(GPtrArray *findings, const char *ours, const char *theirs);

/* A size that has pages set aside here and does not exist there. */
void peer_judge_hugepages(GPtrArray *findings, const GArray *ours, const GArray *theirs);

typedef struct {
    const char *host;
    guint port;
    gboolean connected;  /* TCP was answered */
    const char *error;   /* NULL: TLS agreed in both directions */
    const char *version; /* of the other virtpostcopyd, then */
    gint64 clock_ms;     /* theirs less ours */
} PeerPortFacts;

void peer_judge_port(GPtrArray *findings, const PeerPortFacts *facts);
