/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the outgoing machine. For ram/outgoing*.c only. */
#pragma once

#include "ram/bitmap.h"
#include "ram/direct.h"
#include "ram/frame_queue.h"
#include "ram/outgoing.h"
#include "ram/page_sender.h"
#include "ram/page_set.h"
#include "ram/source_rate.h"
#include "ram/stage.h"

/* The stage, as the page sender sees it. */
typedef struct {
    PageSupply base;
    Outgoing *outgoing;
} OutgoingSupply;

struct Outgoing {
    OutgoingConfig config;
    RamBlocks *blocks;
    RamSource *source;
    Session *session;
    Lane *lane;

    OutgoingState state;
    gboolean transparent;
    char *warning;
    char *failure; /* why it cannot go on, or NULL */
    guint32 section;
    gboolean precopy_ended; /* RAM's END has come before the switch-over: there will be none */
    gboolean ram_ended;    /* RAM's END has come; what follows it waits for the stage */
    gboolean ram_end_sent;
    gboolean qemu_ended;
    gboolean eof_sent;
    gboolean urgent_open; /* pages may still come on QEMU's preempt connection */
    gboolean urgent_eos; /* of QEMU's preempt connection: told after RAM_END */
    gboolean urgent_closed;

    OutgoingSupply supply;
    PageSender *sender;
    FrameQueue queue;  /* for the main channel, in order; at a barrier the stage has to go first */
    Stage *stage;      /* from BLOCKS on */
    guint64 owed;      /* target pages that the source still has to hand over, at the switch-over */
    guint64 taken;     /* and how many of them it has */
    gint64 came_us;    /* when the last one came on the stream */
    gint64 now_us;     /* of the run under way */
    guint64 owed_max;  /* recovery: pages in the bitmaps so far */
    gboolean has_near; /* where the guest waited last: the background goes on from there */
    guint near_block;
    guint64 near_offset;
    GQueue urgent;     /* of StagedPage: requested, to go on the preempt channel */
    gsize urgent_bytes; /* in it, and of it with the sender: not in the stage any more */
    PageSet *wanted;   /* asked for and not staged completely */
    Direct *direct;    /* what can be read from the source's memory */
    GQueue to_read;    /* of DirectWish: of wanted, those that are to be */
    guint n_sent;      /* entries in sent */
    Bitmap **sent;     /* by block: target pages that the peer has or is being sent */
    guint one_block;      /* the block of all pages so far, with has_block ... */
    gboolean has_block;
    gboolean many_blocks; /* ... and not this */
    SourceRate source_rate;

    RamStats stats;
};

typedef gboolean (*OutgoingAct)(Outgoing *o, const OutgoingInput *in, GError **error);

gboolean outgoing_act_nothing(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_precopy_end(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_pass(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_advise(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_discard(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_discard_more(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_package(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_run(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_resume(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_rerun(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_stage(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_stage_urgent(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_ram_end(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_transparent(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_urgent_opened(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_urgent_eos(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_urgent_idle(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_urgent_closed(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_qemu_ended(Outgoing *o, const OutgoingInput *in, GError **error);
gboolean outgoing_act_request(Outgoing *o, const OutgoingInput *in, GError **error);

/* ram/outgoing_act.c: what the peer is told of QEMU's preempt connection. */
void outgoing_put_channel_event(Outgoing *o, QemuChannelEvent event);

/* ram/outgoing_stage.c */
void outgoing_supply_init(OutgoingSupply *supply, Outgoing *o);
gboolean outgoing_was_sent(const Outgoing *o, guint block, guint64 offset);
/* A host page in the stage that somebody waits for; ready. */
void outgoing_make_urgent(Outgoing *o, StagedPage *page);
/* The same of one that the sender may have: as page_sender_recall(). */
PageRecall outgoing_recall(Outgoing *o, guint block, guint64 offset);

/* Out of the stage, or read: it is on its way from here on, and does not come back. */
void outgoing_mark_sent(Outgoing *o, guint block, guint64 offset, guint n_records);
/* The guest has waited here last. */
void outgoing_go_near(Outgoing *o, guint block, guint64 offset);

/* ram/outgoing_direct.c: pages that are read from the source QEMU's memory. */
typedef struct {
    guint block;
    guint64 offset;
} DirectWish;

/* Somebody waits for that page. FALSE: it cannot be read, and has to be asked of the source. */
gboolean outgoing_direct_want(Outgoing *o, guint block, guint64 offset, gint64 now_us);
/* To be handed out, marked as sent: NULL: none. Near the last request, or wherever. */
StagedPage *outgoing_direct_next(Outgoing *o, gboolean near);
StagedPage *outgoing_direct_next_wanted(Outgoing *o);
void outgoing_direct_record(Outgoing *o, const StagedPage *page, guint i, QemuPage *ret_page);
void outgoing_direct_done(Outgoing *o, StagedPage *page);
/* It came on the stream. */
void outgoing_direct_on_page(Outgoing *o, const QemuPage *page);
/* There is more to be read that nobody has asked for. */
gboolean outgoing_direct_has_more(const Outgoing *o);
gboolean outgoing_is_direct(const Outgoing *o);
/* Its wishes that still have to be fulfilled. */
guint outgoing_direct_pending(const Outgoing *o);

/* ram/outgoing_act.c */
void outgoing_note_block(Outgoing *o, guint block);

/* ram/outgoing_send.c */
/* Nothing that was staged waits to be sent. */
gboolean outgoing_is_drained(const Outgoing *o);
void outgoing_send_all(Outgoing *o, gint64 now_us);
