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
    Lane *lane; /* NULL: the main channel */
    Flow *flow;
    Sending sending;
    gboolean rush; /* the huge page in sending is waited for */
    guint jobs;    /* batches that the compressor has or had, and that are not sent */
    guint64 jobs_sent; /* and those that are */
    GQueue ready;  /* of jobs those it is done with, CompressJob */
} PageChannel;

/* More than the compressor takes. */
#define PAGE_JOBS_MAX 64

struct PageSender {
    PageSenderConfig config;
    PageSupply *supply;
    const RamBlocks *blocks;
    Session *session;
    Lane *lane;

    PageChannel channels[1 + CHANNEL_BULK_MAX]; /* the first is the main one */
    guint n_channels;
    guint turn; /* the channel that begins */
    Sending urgent;
    guint8 job_channels[PAGE_JOBS_MAX]; /* whose the compressor's jobs are, in their order: a ring */
    guint job_first;
    guint n_jobs;
    CompressPolicy policy;
    guint64 pages; /* target pages in frames */
    RamStats stats; /* what page_sender_get_stats() says of pages and bytes */
};

/* An empty batch, as the peer takes it. */
void page_sender_begin(const PageSender *s, PagesBatch *batch);
/* Adds what fits of one host page, up to max bytes of records. TRUE: all of it is in. */
gboolean page_sender_add(PageSender *s, PagesBatch *batch, Sending *sending, gsize max);
/* All of it is in frames. */
void page_sender_done(PageSender *s, Sending *sending, gboolean urgent);
/* ram/page_sender_jobs.c: what is compressed. */
/* Takes what the compressor is done with. */
void page_sender_collect_jobs(PageSender *s);
/* FALSE: the channel, or the compressor, has as many as it should. */
gboolean page_sender_takes_job(const PageSender *s, const PageChannel *channel);
/* Takes buf. */
void page_sender_submit(PageSender *s, PageChannel *channel, guint8 *buf, gsize len, guint pages);
/* Jobs that are not sent. */
guint page_sender_jobs(const PageSender *s);
/* ram/page_channel.c */
void page_channel_init(PageChannel *channel, Lane *lane, guint64 window);
void page_channel_clear(PageChannel *channel);
/* Whether the channel takes a full frame now. */
gboolean page_channel_may_send(const PageSender *s, const PageChannel *channel);
void page_channel_send(PageSender *s, PageChannel *channel, guint8 *buf, gsize len, gint64 now_us);
guint64 page_channel_acked(const PageSender *s, const PageChannel *channel);
gboolean page_channel_is_acked(const PageSender *s, const PageChannel *channel);
