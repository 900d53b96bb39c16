/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bodies of the frames that only sessions between memory clients have (SESSION_FEATURE_MAPPED), or
 * have in another form: docs/protocol.md, section "Mapped sessions". The others are in
 * ram/page_frames.h.
 *
 * All decoders are pure functions on a body; they check every length before it is used, and their
 * errors (RAM_ERROR_PROTOCOL) name the field.
 *
 * BLOCKS      as of QEMU's RAM, but be32 MappedBeginning in the place of the section, and each
 *             block is followed by be32 flags (MEMORY_SHARED ...)
 * PHASE       u8 MappedPhase
 * DISCARD     be16 block, be16 n, n x (be64 start, be64 length)
 * RECEIVED    be16 block, be16 0, be64 first page, bytes of the bitmap from there
 */
#pragma once

#include "ram/mapped/memory_client.h"
#include "ram/page_frames.h"

/* Ranges of one DISCARD. */
#define DISCARD_RANGES_MAX 12
/* Bytes of a bitmap in one RECEIVED: so many times 8 pages. */
#define RECEIVED_BYTES_MAX (32 * 1024)

/* Numbers are part of the protocol. */
typedef enum {
    MAPPED_BEGINS = 0,   /* PHASE advise follows */
    MAPPED_RECOVERS = 1, /* of a paused post-copy: RECEIVED answers, PHASE running follows */
    MAPPED_BEGINNING_MAX,
    /* With either of them (release-ram): the source gives pages back to its host as soon as they are acknowledged,
     * so they are to be in place by then, whatever becomes of the destination's helper. */
    MAPPED_RELEASES = 0x100,
} MappedBeginning;

typedef enum {
    MAPPED_PHASE_ADVISE = RAM_PHASE_ADVISE,
    MAPPED_PHASE_DISCARD = RAM_PHASE_DISCARD, /* the switch to post-copy: DISCARDs follow */
    MAPPED_PHASE_RUNNING = RAM_PHASE_RUNNING, /* the devices are complete: the guest is to run */
    /* with SESSION_FEATURE_COLO */
    MAPPED_PHASE_CHECKPOINT = 4, /* what follows is of the next checkpoint */
    MAPPED_PHASE_COMMIT = 5,     /* it is complete: it is the guest now */
    MAPPED_PHASE_FAILOVER = 6,   /* the destination's guest goes on alone, from the last commit */
    /* post-copy: handed on once the destination's client listens for faults */
    MAPPED_PHASE_LISTEN = 7,
    MAPPED_PHASE_MAX,
} MappedPhase;

/* "advise", "checkpoint"... */
const char *mapped_phase_name(MappedPhase phase);

typedef struct {
    guint block;
    guint n_ranges; /* 1 to DISCARD_RANGES_MAX */
    MemoryRange ranges[DISCARD_RANGES_MAX];
} DiscardBody;

typedef struct {
    guint block;
    guint64 first; /* page: a multiple of 8 */
    const guint8 *bytes; /* bit i, least significant first, is page first + i; the body's */
    gsize len; /* 1 to RECEIVED_BYTES_MAX */
} ReceivedBody;

/* Encoders append to body. flags: one for each block. blocks_encode: FALSE if it would not fit into
 * max. */
gboolean mapped_blocks_body_encode(GByteArray *body, const RamBlocks *blocks, const guint32 *flags,
                                   MappedBeginning beginning, gsize max);
void mapped_phase_body_encode(GByteArray *body, MappedPhase phase);
void discard_body_encode(GByteArray *body, const DiscardBody *discard);
void received_body_encode(GByteArray *body, const ReceivedBody *received);

/* Adds to blocks (which must be empty) and sets its target page. flags: of guint32, one is added for
 * each; unknown flags are refused. */
gboolean mapped_blocks_body_decode(GBytes *body, RamBlocks *blocks, GArray *flags,
                                   MappedBeginning *ret_beginning, GError **error);
gboolean mapped_phase_body_decode(GBytes *body, MappedPhase *ret_phase, GError **error);
/* Shape only: who knows the blocks checks block, and that the ranges are in it and whole host
 * pages. */
gboolean discard_body_decode(GBytes *body, DiscardBody *ret_discard, GError **error);
/* Shape only, as well. body must outlive *ret_received. */
gboolean received_body_decode(GBytes *body, ReceivedBody *ret_received, GError **error);
