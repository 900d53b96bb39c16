/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gets the pages of a supply to the peer: which channel, how much at a time, and when.
 *
 * What somebody waits for goes at once on the preempt channel, one host page to a frame. In the background
 * pages go in batches on the main channel and on the bulk channels if there are any, each with a flow of
 * its own (ram/flow.h) that keeps no more in flight than its link needs; on the way they may be
 * compressed. A host page stays on one channel, and its target pages in order.
 *
 * Pure; time is an argument. One thread. The supply, the session and the lanes are the caller's and must
 * outlive it. Memory: one batch, and what the compressor was given or has made. */
#pragma once

#include "ram/blocks.h"
#include "ram/compress_worker.h"
#include "ram/flow.h"
#include "ram/page_supply.h"
#include "ram/ram_stats.h"
#include "tls/lane.h"

typedef enum { PAGE_COMPRESS_AUTO, PAGE_COMPRESS_ON, PAGE_COMPRESS_OFF } PageCompress;

typedef struct {
    guint64 window;         /* of the session: most bytes in flight on a channel */
    PageCompress compress;  /* with what the session's features allow */
    CompressWorker *worker; /* or NULL: never compresses. The caller's */
} PageSenderConfig;

typedef struct PageSender PageSender;

/* blocks must be complete, with their host pages, when the first page is sent. */
PageSender *page_sender_new(const PageSenderConfig *config, PageSupply *supply,
                            const RamBlocks *blocks, Session *session);
/* Pages that were handed out and are not done() are given back by done(). */
void page_sender_free(PageSender *sender);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageSender, page_sender_free)

/* The preempt channel. */
void page_sender_set_lane(PageSender *sender, Lane *lane);
/* One more bulk channel, open. */
void page_sender_add_bulk(PageSender *sender, Lane *lane);

/* ---- sending; nothing is asked of the supply outside of these two and page_sender_free() ---- */

/* What is waited for, as much as the preempt channel takes. */
void page_sender_send_urgent(PageSender *sender);
/* In the background, as much as should be in flight now. Only while nothing that must come before the pages
 * waits for the main channel (PHASE running and what is before it). TRUE: there was room, and the supply
 * had nothing. */
gboolean page_sender_send(PageSender *sender, gint64 now_us);

/* What the peer has acknowledged lets more go. Before sending. */
void page_sender_update(PageSender *sender, gint64 now_us);
/* The flow of the main channel: for what else the caller sends there. */
Flow *page_sender_main_flow(PageSender *sender);

/* ---- a page that is waited for now ---- */

typedef enum {
    PAGE_RECALL_NONE,  /* it is not with the sender: not handed out yet, or done() */
    PAGE_RECALL_GIVEN, /* nothing of it was sent: it is the supply's again, to be handed out as urgent */
    PAGE_RECALL_BEGUN, /* a part of it is out: the rest now goes whatever is in flight */
} PageRecall;

/* offset: of the host page. ret_page (GIVEN): what was handed out. */
PageRecall page_sender_recall(PageSender *sender, guint block, guint64 offset, SupplyPage *ret_page);

/* ---- asking ---- */

/* Nothing that was handed out waits to be sent. */
gboolean page_sender_is_idle(const PageSender *sender);
/* The peer has acknowledged everything, on every channel (also what else was sent there). */
gboolean page_sender_is_acked(const PageSender *sender);
/* The same of all channels but the main one. */
gboolean page_sender_lanes_are_acked(const PageSender *sender);
/* Bytes of bodies that it has acknowledged, on the main channel and the bulk channels. */
guint64 page_sender_acked_bytes(const PageSender *sender);
/* A result of the compressor would be sent at once: worth waking up for. */
gboolean page_sender_waits_for_worker(const PageSender *sender);
/* Target pages sent so far: in frames, or with the compressor. */
guint64 page_sender_pages(const PageSender *sender);
/* Bodies of PAGES sent so far, before compression. */
guint64 page_sender_plain_bytes(const PageSender *sender);
/* Everything that RAM_END says, if it were sent now. */
void page_sender_ram_end(const PageSender *sender, RamEnd *ret_end);
/* Sets what it counts, and leaves the others: pages (normal, zero, background, urgent), plain_bytes,
 * encoded_bytes, compressed frames and encoding, and the link. */
void page_sender_get_stats(const PageSender *sender, RamStats *stats);
