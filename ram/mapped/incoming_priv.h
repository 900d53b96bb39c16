/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the mapped destination. For ram/mapped/incoming*.c only. */
#pragma once

#include "ram/mapped/colo_cache.h"
#include "ram/mapped/guest_memory.h"
#include "ram/mapped/incoming.h"
#include "ram/mapped/received.h"
#include "ram/page_frames.h"
#include "ram/uffd/clients.h"
#include "ram/uffd/faults.h"
#include "ram/uffd/requested.h"
#include "ram/uffd/sink.h"

/* One channel that brings pages. */
typedef struct {
    MappedIncoming *in;
    Lane *lane;         /* NULL: the main channel */
    PagesReader *reader; /* from BLOCKS on */
    UffdSink *sink;     /* from the moment on when there is a userfaultfd */
    gboolean in_body;   /* its oldest frame is PAGES, and not all of it is in place */
} MappedFeed;

/* The client has been asked, and has not answered. */
typedef enum {
    AWAITS_NOTHING,
    AWAITS_ADVISED,
    AWAITS_DISCARDED,
    AWAITS_LISTENING,
    AWAITS_RUNNING,
    AWAITS_PAUSED,
    AWAITS_SYNCED,
} MappedAwaits;

/* Another process that shares the memory. */
typedef struct {
    guint32 id;  /* the memory client's */
    int fd;      /* until it is in use, else -1 */
    GArray *mappings; /* of MemoryMapping */
    gboolean added;
    guint handle; /* of UffdClients */
} SharedClient;

struct MappedIncoming {
    Session *session;
    Lane *lane;
    MemoryClient *client; /* NULL: not attached */
    const MemoryLayout *layout;
    GuestMemory *memory;
    ReceivedMap *received;
    MappedIncomingState state;
    MappedAwaits awaits;
    gboolean postcopy;  /* pages that are missing are placed */
    gboolean run_asked; /* the guest runs, or is about to */
    gboolean over;      /* nothing more is done */
    gboolean deaf;      /* after the end: the client cannot be served any more */
    gboolean eof_sent;
    gint64 wake_us;

    /* from BLOCKS on. Blocks are the source's, in its order; regions the client's */
    RamBlocks *blocks;
    GArray *flags;      /* of guint32 */
    guint *region_of;   /* by block */
    guint *block_of;    /* by region */
    gboolean control_done; /* the main channel's oldest frame, not PAGES, can be consumed */
    guint64 device_bytes;

    MappedFeed main;
    MappedFeed urgent;
    GPtrArray *bulk; /* of MappedFeed */
    guint64 pages_come; /* target pages in PAGES, each time */
    guint64 missing;    /* target pages, once postcopy is known */
    guint8 *scratch;    /* one target page */

    /* what is missing is dropped before the client listens */
    guint sweep_block;
    guint64 sweep_page;
    gboolean swept;

    gboolean is_only_copy; /* what is acknowledged is nowhere else (MAPPED_RELEASES) */
    gboolean unwatched; /* all of it is here: nobody runs into anything any more */

    int uffd; /* -1: there is none */
    UffdMap *map;
    UffdPlacer *placer; /* for the background; NULL: until the client listens */
    UffdSink *fill; /* for pages that were zero when they came */
    GQueue fills;   /* of PageRequest */
    Requested *requested;
    GQueue requests; /* of PageRequest, for the lane */
    UffdClients *clients;
    GPtrArray *shared; /* of SharedClient */
    BlockTime *times;

    /* in a recovery: what RECEIVED has said so far */
    gboolean recovers;
    gboolean told;
    guint told_block;
    guint64 told_page;

    /* checkpoints */
    DirtyLog *log;          /* of the client's guest; NULL: it has not asked for checkpoints */
    ColoCache *cache;       /* from the first one on */
    GByteArray *checkpoint; /* the device state of the one that comes */
    gboolean failed_over;   /* the guest is to go on alone */
    gboolean client_failed;

    RamStats stats;
    gint64 now_us; /* of the call under way, for what a sink tells */
};

static inline gsize mapped_incoming_target(const MappedIncoming *in)
{
    return ram_blocks_target_page(in->blocks);
}

static inline gboolean mapped_incoming_is_ignored(const MappedIncoming *in, guint block)
{
    return (g_array_index(in->flags, guint32, block) & MEMORY_IGNORED) != 0;
}

/* ram/mapped/incoming.c */

/* The one place where the state changes; FALSE: there is no row. */
gboolean mapped_incoming_enter(MappedIncoming *in, MappedIncomingEvent event, GError **error);
/* Whether that can happen now; the state stays. */
gboolean mapped_incoming_check(const MappedIncoming *in, MappedIncomingEvent event, GError **error);
/* It is not the peer's fault: the session is told. */
void mapped_incoming_fail(MappedIncoming *in, const char *reason);
/* TRUE: no error, or one that was told here; FALSE: the peer's, *error is set. Takes cause. */
gboolean mapped_incoming_judge(MappedIncoming *in, GError *cause, GError **error);
/* Run again at the latest then. */
void mapped_incoming_wake_at(MappedIncoming *in, gint64 us);

/* ram/mapped/incoming_frames.c */

/* A frame of the main channel that brings no pages. *ret_done FALSE: it waits for the client, or for pages that
 * are still on their way; to be called again. */
gboolean mapped_incoming_take_frame(MappedIncoming *in, FrameType type, GBytes *body,
                                    gboolean *ret_done, GError **error);

/* ram/mapped/incoming_blocks.c */

/* BLOCKS: compares with what the client has handed over. */
gboolean mapped_incoming_take_blocks(MappedIncoming *in, GBytes *body, GError **error);
/* In a recovery: RECEIVED, as far as there is room. */
void mapped_incoming_tell_received(MappedIncoming *in);
/* DISCARD: forgets what was received. */
gboolean mapped_incoming_take_discard(MappedIncoming *in, GBytes *body, GError **error);
/* Drops what is missing, a part of it; FALSE with error. in->swept: all of it. */
gboolean mapped_incoming_sweep(MappedIncoming *in, GError **error);

/* ram/mapped/incoming_place.c */

gboolean mapped_incoming_begin_pages(MappedFeed *feed, GBytes *body, GError **error);
/* As much of the frame as can be; in_body FALSE: all of it. */
gboolean mapped_incoming_load(MappedFeed *feed, GError **error);  /* before the switch-over */
gboolean mapped_incoming_place(MappedFeed *feed, GError **error); /* after it */
gboolean mapped_incoming_cache(MappedFeed *feed, GError **error); /* of a checkpoint */
void mapped_incoming_feed_clear(MappedFeed *feed);
/* UffdPlacedFunc; data: the MappedIncoming. */
void mapped_incoming_placed(guint block, guint64 offset, guint64 length, gboolean existed,
                            gpointer data);

/* ram/mapped/incoming_faults.c */

/* The client's userfaultfd is there; takes uffd. */
gboolean mapped_incoming_listen(MappedIncoming *in, int uffd, GError **error);
void mapped_incoming_add_sink(MappedIncoming *in, MappedFeed *feed);
/* Requests, and pages that were zero when they came. */
gboolean mapped_incoming_serve(MappedIncoming *in, GError **error);
/* Another process's userfaultfd; it is used when there is one of the client's. */
void mapped_incoming_share(MappedIncoming *in, MemoryEvent *event);
void mapped_incoming_unshare(MappedIncoming *in, guint32 id);
void mapped_incoming_shared_free(gpointer shared);
/* All is here: the memory is nobody's but the guest's from here on, whatever becomes of this helper. Zeros that
 * were not placed are what the guest finds there. */
void mapped_incoming_end_watch(MappedIncoming *in);

/* ram/mapped/incoming_colo.c */

/* If the layout says that checkpoints are taken. */
gboolean mapped_incoming_make_log(MappedIncoming *in, const MemoryLayout *layout, GError **error);
void mapped_incoming_drop_cache(MappedIncoming *in);
/* PHASE checkpoint, a step of it: the first is through when there is a second copy. */
gboolean mapped_incoming_begin_checkpoint(MappedIncoming *in, gboolean *ret_done, GError **error);
/* DATA; *ret_done FALSE: it is none of a checkpoint's. */
gboolean mapped_incoming_keep_device(MappedIncoming *in, GBytes *body, gboolean *ret_done,
                                     GError **error);
/* PHASE commit, a step of it; it is through when the client's guest runs. */
gboolean mapped_incoming_take_commit(MappedIncoming *in, GError **error);
/* The client's guest has stopped for it. */
void mapped_incoming_on_stopped(MappedIncoming *in);
gboolean mapped_incoming_take_failover(MappedIncoming *in, GError **error);
/* There is a checkpoint that the guest could go on from. */
gboolean mapped_incoming_can_fail_over(const MappedIncoming *in);
/* The session has ended. ret_text: another reason than the session's, or NULL. */
MemoryEndOutcome mapped_incoming_end_checkpoints(MappedIncoming *in, SessionState state,
                                                 const char *reason, char **ret_text);
