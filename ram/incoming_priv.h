/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the incoming machine. For ram/incoming*.c only. */
#pragma once

#include "ram/bitmap.h"
#include "ram/discards.h"
#include "ram/frame_queue.h"
#include "ram/incoming.h"
#include "ram/page_frames.h"
#include "ram/page_set.h"
#include "ram/placing.h"
#include "ram/qemu_return.h"

/* A host page of several target pages, as it is put together. */
typedef struct {
    gboolean begun;
    gboolean placing; /* complete: it goes to the sink, in pieces */
    gboolean direct;  /* and that is not QEMU's */
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
    gboolean on_stream; /* some of it, or of what was collected before, went to QEMU's sink */
    gboolean has_page;  /* page is the next one */
    QemuPage page;
    guint64 open_left; /* target pages missing of a host page that is placed as it comes */
    Collector collector;
    gboolean collector_is_lent; /* its data may be with the sink, until that is empty */
    UffdSink *direct;   /* what is placed by the machine itself; NULL until there is some */
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

    PlacedRecord *record; /* of a session before this one, until it is placing's; or NULL */
    Placing *placing;     /* NULL: QEMU places all pages */
    UffdPlacer *placer;   /* with it: for the background */
    PlacingState placing_state;
    char *placing_why;
    gboolean awaits_placing;
    gint64 awaits_until_us; /* 0: not begun */
    gboolean is_due; /* incoming_run() is to be called again at once */
    gboolean lengths_rounded; /* some are known from QEMU's bitmaps alone */
    gint64 now_us;            /* of incoming_run() */

    RamStats stats;
};

/* The one place where the state changes. The event is one that has been checked. */
gboolean incoming_enter(Incoming *in, IncomingEvent event, GError **error);

/* ram/incoming_frames.c */
/* For a feed, from BLOCKS on. */
PagesReader *incoming_make_reader(const Incoming *in);
/* A frame of the main channel that brings no pages. *ret_done FALSE: it waits for pages that are still on their
 * way; to be called again. */
gboolean incoming_take_frame(Incoming *in, FrameType type, GBytes *body, gboolean *ret_done,
                             GError **error);

/* ram/incoming_place.c */
gboolean incoming_begin_pages(Incoming *in, Feed *feed, GBytes *body, GError **error);
/* Places what the sinks take of the feed's frame. stream: QEMU's may be filled. */
gboolean incoming_place(Incoming *in, Feed *feed, gboolean stream, gint64 now_us, GError **error);
gboolean incoming_in_host_page(const Feed *feed);
void incoming_feed_clear(Feed *feed);
/* The host page is there, if it was waited for. */
void incoming_note_waited(Incoming *in, guint block, guint64 offset, gint64 now_us);
gboolean incoming_was_received(const Incoming *in, guint block, guint64 offset);

/* ram/incoming_return.c */
void incoming_send_return(Incoming *in, gint64 now_us);

/* ram/incoming_direct.c */
/* The page is placed by the machine itself, not by QEMU. */
gboolean incoming_goes_direct(const Incoming *in, guint block, guint64 offset);
/* There is room for a page. */
gboolean incoming_direct_takes(const Feed *feed);
/* FALSE: it cannot be taken now. It counts when it is in place, after incoming_flush_direct() at the
 * latest. */
gboolean incoming_place_direct(Incoming *in, Feed *feed, const QemuPage *page);
gboolean incoming_flush_direct(Incoming *in, Feed *feed, GError **error);
/* The page has come, and waits for the thread of the background: it is placed at once. FALSE: it has not, or not
 * now. */
gboolean incoming_place_now(Incoming *in, guint block, guint64 offset);
/* Notes what the thread of the background has placed meanwhile. */
gboolean incoming_collect(Incoming *in, GError **error);
/* Nothing refers to its frame any more. */
gboolean incoming_direct_is_idle(const Feed *feed);
gboolean incoming_awaits_placing(Incoming *in, gint64 now_us);
/* Adds what a session before this one has placed to a piece of QEMU's bitmap of that block; first: its place in
 * bytes. */
void incoming_merge_placed(const Incoming *in, const char *name, guint64 first, guint8 *bytes,
                           gsize len);
