/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the incoming machine. For ram/incoming*.c only. */
#pragma once

#include "ram/bitmap.h"
#include "ram/discards.h"
#include "ram/frame_queue.h"
#include "ram/incoming.h"
#include "ram/page_frames.h"
#include "ram/page_set.h"
#include "ram/qemu_return.h"

/* A host page of several target pages, as it is put together. */
typedef struct {
    gboolean begun;
    gboolean placing; /* complete: it goes to the sink, in pieces */
    guint block;
    guint64 offset;
    guint n_pages;    /* target pages in it */
    guint n_present;
    guint n_placed;
    QemuPage *pages;  /* by place; n_allocated of them */
    gboolean *present;
    guint8 *data;
    guint n_allocated;
} Collector;

/* One channel, and how far its oldest frame has been dealt with. */
typedef struct {
    Lane *lane; /* NULL: the main channel */
    gboolean is_urgent; /* the preempt channel */
    PagesReader *reader;
    QemuSink *sink;   /* where the pages of its frame go */
    gboolean in_body; /* the oldest frame is a PAGES that is being read */
    gboolean body_done; /* all of it is with the sink */
    gboolean has_page;  /* page is the next one */
    QemuPage page;
    guint64 open_left; /* target pages missing of a host page that is placed as it comes */
    Collector collector;
    gboolean collector_is_lent; /* its data may be with the sink, until that is empty */
} Feed;

struct Incoming {
    Session *session;
    Lane *lane;
    IncomingState state;

    RamBlocks *blocks;
    Bitmap **received; /* by block */
    GHashTable *resumed; /* name -> Bitmap: what our QEMU says that it has, before BLOCKS */
    guint64 pages_placed;
    Discards *discards;
    gboolean owed_known;
    guint64 pages_owed; /* of this epoch, if that is known */

    Feed main;
    Feed urgent;
    Feed bulk[CHANNEL_BULK_MAX];
    guint n_bulk;
    guint turn; /* which of the main and the bulk channels fills the sink first */
    Feed *owner; /* who is in the midst of a host page on the main connection, or NULL */
    QemuSink *sink;
    QemuSink *preempt_sink; /* or NULL */
    gboolean control_done;  /* the main channel's oldest frame, not PAGES, is with the sink */
    gboolean wants_preempt;
    gboolean preempt_eos;
    gboolean preempt_closed;

    QemuReturn *return_path;
    FrameQueue queue; /* the return path, for the main channel */
    gboolean qemu_ended;
    gboolean eof_sent;
    char *warning;
    PageSet *asked;
    gint64 blocked_since_us; /* while there are any in it */
    GQueue requests; /* of PageRequest, for the lane */

    RamStats stats;
};

/* The one place where the state changes. The event is one that has been checked. */
gboolean incoming_enter(Incoming *in, IncomingEvent event, GError **error);

/* ram/incoming_place.c */
gboolean incoming_begin_pages(Incoming *in, Feed *feed, GBytes *body, GError **error);
/* Places what the sink takes of the feed's frame. */
gboolean incoming_place(Incoming *in, Feed *feed, gint64 now_us, GError **error);
gboolean incoming_in_host_page(const Feed *feed);
void incoming_feed_clear(Feed *feed);
gboolean incoming_was_received(const Incoming *in, guint block, guint64 offset);

/* ram/incoming_return.c */
void incoming_send_return(Incoming *in, gint64 now_us);
