/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the page sender. For ram/page_sender*.c only. */
#pragma once

#include "ram/compress_policy.h"
#include "ram/page_sender.h"

/* A host page on its way: some of its target pages may be out already. */
typedef struct {
    gboolean busy; /* there is one */
    SupplyPage page;
    guint next;     /* the record that goes next */
    gboolean begun; /* something of it is in a frame */
} Sending;

/* One of the channels that background pages go on. */
typedef struct {
    Flow *flow;
    Sending sending;
    gboolean rush; /* the huge page in sending is waited for */
} PageChannel;

struct PageSender {
    PageSenderConfig config;
    PageSupply *supply;
    const RamBlocks *blocks;
    Session *session;
    Lane *lane;

    PageChannel main;
    Sending urgent;
    CompressPolicy policy;
    guint64 pages; /* target pages in frames */
    guint64 jobs_sent; /* the compressor's */
    RamStats stats; /* what page_sender_get_stats() says of pages and bytes */
};

/* An empty batch, as the peer takes it. */
void page_sender_begin(const PageSender *s, PagesBatch *batch);
/* Adds what fits of one host page, up to max bytes of records. TRUE: all of it is in. */
gboolean page_sender_add(PageSender *s, PagesBatch *batch, Sending *sending, gsize max);
/* All of it is in frames. */
void page_sender_done(PageSender *s, Sending *sending, gboolean urgent);
/* Jobs that the compressor has. */
guint page_sender_jobs(const PageSender *s);
/* Whether the channel takes a full frame now. */
gboolean page_sender_may_send(const PageSender *s, const PageChannel *channel);
