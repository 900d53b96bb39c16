/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination's machine: hands what comes on the channels to the RAM sink, each page exactly once,
 * what is waited for first, and turns the requests of the destination QEMU into REQUEST frames.
 *
 * A host page larger than the target page is collected on its channel and placed as a whole, so that it is
 * never torn by another; one larger than INCOMING_COLLECT_MAX is placed as it comes, and the other channel
 * waits meanwhile. The received bitmaps decide what is a duplicate.
 *
 * Pure: frames come by way of the session and the lane (the caller's), bytes of QEMU's by functions; time is
 * an argument. Every (state, event) pair is a row of one table or a protocol error that names both. One
 * thread. Memory: both windows, one host page for each channel, 1 bit for each page of the guest. */
#pragma once

#include "ram/placing.h"
#include "ram/qemu_sink.h"
#include "ram/ram_stats.h"
#include "tls/lane.h"

#define INCOMING_COLLECT_MAX (4 * 1024 * 1024)

/* QEMU's words for the destination (PostcopyState). */
typedef enum {
    INCOMING_NONE,
    INCOMING_ADVISE,
    INCOMING_DISCARD,
    INCOMING_LISTENING, /* blocks are known: requests may come */
    INCOMING_RUNNING,   /* pages may come */
    INCOMING_END,
    INCOMING_STATE_MAX,
} IncomingState;

const char *incoming_state_name(IncomingState state);

typedef enum {
    INCOMING_EV_DATA,
    INCOMING_EV_ADVISE,
    INCOMING_EV_DISCARD,
    INCOMING_EV_BLOCKS,
    INCOMING_EV_RUNNING,
    INCOMING_EV_PAGES,        /* on the main channel or a bulk channel */
    INCOMING_EV_URGENT_PAGES, /* on the preempt channel */
    INCOMING_EV_RAM_END,
    INCOMING_EV_QEMU_CHANNEL,
    INCOMING_EV_REQUEST, /* of our QEMU */
    INCOMING_EVENT_MAX,
} IncomingEvent;

const char *incoming_event_name(IncomingEvent event);
gboolean incoming_has_row(IncomingState state, IncomingEvent event, IncomingState *ret_next);

typedef struct Incoming Incoming;

Incoming *incoming_new(Session *session);
void incoming_free(Incoming *incoming);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Incoming, incoming_free)

/* The preempt channel; before it there are no BLOCKS. */
void incoming_set_lane(Incoming *incoming, Lane *lane);
/* One more bulk channel, open. */
void incoming_add_bulk(Incoming *incoming, Lane *lane);

/* ---- from QEMU: the return path ---- */

gboolean incoming_wants(const Incoming *incoming);
void incoming_on_qemu_data(Incoming *incoming, const guint8 *bytes, gsize len, gint64 now_us);
void incoming_on_qemu_eof(Incoming *incoming);

/* ---- to QEMU ---- */

QemuSink *incoming_main_sink(Incoming *incoming);
/* QEMU's preempt connection: wanted once the source's QEMU has opened one; NULL until it is attached. */
gboolean incoming_wants_preempt(const Incoming *incoming);
void incoming_on_preempt_attached(Incoming *incoming);
QemuSink *incoming_preempt_sink(Incoming *incoming);
/* TRUE: the source's QEMU has closed its preempt connection, and everything for ours is written. */
gboolean incoming_preempt_is_over(const Incoming *incoming);

/* ---- QEMU's memory: ram/placing.h ---- */

/* In a recovery, before anything else: what sessions before this one have placed. QEMU's bitmaps are passed on with
 * that in them, and pages wait for one of the two calls below. Takes fd. */
gboolean incoming_set_record(Incoming *incoming, int fd, GError **error);
/* While running, once. Pages that come from here on are placed directly where they can be. Takes the
 * descriptors. record_fd: as incoming_set_record(), which it repeats. FALSE: it stays as it is, and
 * incoming_placing_state() says why. */
gboolean incoming_set_placing(Incoming *incoming, int uffd, int record_fd,
                              const PlacingRange *ranges, gsize n, GError **error);
/* It cannot be offered. */
void incoming_refuse_placing(Incoming *incoming, const char *why);
/* *ret_why: of PLACING_REFUSED, else NULL. */
PlacingState incoming_placing_state(const Incoming *incoming, const char **ret_why);
/* When incoming_run() is to be called whether anything happens or not; G_MAXINT64: never.
 * INCOMING_DUE_NOW: there is more to do already. */
#define INCOMING_DUE_NOW 1
gint64 incoming_due(const Incoming *incoming);
/* Readable: incoming_run() goes on with what is placed by a thread of its own. -1: there is none. Borrowed. */
int incoming_placing_fd(const Incoming *incoming);
/* Nothing is placed in QEMU's memory any more: the next session may have it. What is in place is noted. */
void incoming_on_session_end(Incoming *incoming);
/* Something is with that thread. */
gboolean incoming_is_placing(const Incoming *incoming);

/* Moves on what can be. Call it after frames, and after bytes were written to QEMU. FALSE: the peer broke
 * a rule. */
gboolean incoming_run(Incoming *incoming, gint64 now_us, GError **error);

IncomingState incoming_state(const Incoming *incoming);
/* The return path was not understood: the text; NULL: it is. */
const char *incoming_warning(const Incoming *incoming);
/* A page of this epoch has come. */
gboolean incoming_has_pages(const Incoming *incoming);
void incoming_get_stats(const Incoming *incoming, gint64 now_us, RamStats *ret_stats);
