/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the mapped source's machine. For ram/mapped/outgoing*.c only. */
#pragma once

#include "ram/frame_queue.h"
#include "ram/mapped/auto_converge.h"
#include "ram/mapped/dirty_map.h"
#include "ram/mapped/downtime.h"
#include "ram/mapped/hole_look.h"
#include "ram/mapped/outgoing.h"
#include "ram/mapped/rate_limit.h"
#include "ram/mapped/release.h"
#include "ram/mapped/request_queue.h"
#include "ram/page_mark.h"
#include "ram/page_scan.h"
#include "ram/xbzrle_encoder.h"

typedef enum {
    MAPPED_OUT_EV_START,      /* inside: the session is active, with a preempt channel */
    MAPPED_OUT_EV_READY,      /* inside: both clients have got ready */
    MAPPED_OUT_EV_SWITCH,     /* inside: the guest is to stop */
    MAPPED_OUT_EV_RUN,        /* inside: everything for the guest to run over there is queued */
    MAPPED_OUT_EV_RECOVERED,  /* inside: what the destination has is known */
    /* from the client; event */
    MAPPED_OUT_EV_ADVISED,
    MAPPED_OUT_EV_PAUSED,
    MAPPED_OUT_EV_DEVICE,
    MAPPED_OUT_EV_SYNCED,
    MAPPED_OUT_EV_GIVEN_UP,
    MAPPED_OUT_EV_DISCARDED,
    MAPPED_OUT_EV_FREE_HINTS,
    MAPPED_OUT_EV_START_POSTCOPY,
    MAPPED_OUT_EV_CONTINUE,
    MAPPED_OUT_EV_CANCEL,
    MAPPED_OUT_EV_PARAMS,
    MAPPED_OUT_EV_CLIENT_FAILED, /* or gone */
    /* from the peer */
    MAPPED_OUT_EV_REQUEST,
    MAPPED_OUT_EV_RECEIVED,
    /* the session has ended */
    MAPPED_OUT_EV_COMPLETED,
    MAPPED_OUT_EV_FAILED,
    MAPPED_OUT_EV_CANCELLED,
    MAPPED_OUT_EV_LOST,       /* in whatever way, after the point of no return */
    /* checkpoints */
    MAPPED_OUT_EV_CHECKPOINT, /* inside: it is time for one */
    MAPPED_OUT_EV_COMMITTED,  /* inside: the destination has it */
    MAPPED_OUT_EV_ASK_CHECKPOINT, /* the client */
    MAPPED_OUT_EV_FAILOVER,       /* the client */
    MAPPED_OUT_EVENT_MAX,
} MappedOutEvent;

const char *mapped_out_event_name(MappedOutEvent event);
/* For tests and for drawing the table. */
gboolean mapped_out_has_row(MappedOutState state, MappedOutEvent event, MappedOutState *ret_next);

typedef struct {
    MemoryEvent *event;         /* the client's, or NULL */
    const PageRequest *request; /* the peer's, or NULL */
    GBytes *received;
    const char *reason;
    gint64 now_us;
} MappedOutInput;

/* Where a sync of the dirty bitmaps is. */
typedef enum {
    SYNC_NONE,
    SYNC_DRAIN, /* everything sent must be acknowledged: what is sent again goes on any channel */
    SYNC_ASKED, /* the client is writing its log */
    SYNC_DUE,
} SyncStep;

/* Where the switch-over is, once the guest is to stop. */
typedef enum {
    SWITCH_NONE,
    SWITCH_BEGIN,  /* the first checkpoint: the destination is getting ready for it */
    SWITCH_STOP,   /* the client is pausing, the link is drained; or CONTINUE is waited for */
    SWITCH_SYNC,   /* the final sync */
    SWITCH_PAGES,  /* pre-copy: the last pages */
    SWITCH_DEVICE, /* the device state is waited for */
    SWITCH_LISTEN, /* post-copy: the destination's client must listen, with the device state */
    SWITCH_NO_RETURN, /* our client's answer is waited for: it has given the guest up */
    SWITCH_COMMIT, /* a checkpoint: its acknowledgement is waited for */
    SWITCH_DONE,   /* PHASE running is queued: the point of no return */
} SwitchStep;

/* A host page that was handed out and is not sent wholly, or may be asked for twice with another
 * answer. */
typedef struct {
    Bitmap *wanted;   /* which of its target pages; NULL: all */
    gboolean has_answer; /* of target page `index`: the encoder would say something else now */
    guint index;
    gboolean sent;
    QemuPage answer;
    GByteArray *data;
} Handed;

/* What was read last, around the page that is being sent. */
typedef struct {
    guint block;
    guint64 start;
    guint64 end;         /* start: nothing */
    const guint8 *bytes; /* NULL: a hole */
} Window;

struct MappedOutgoing {
    PageSupply supply; /* first: it is cast */
    MappedOutgoingConfig config;
    MemoryParams params;
    GuestMemory *memory;
    const RamBlocks *blocks;
    DirtyLog *log;
    MemoryClient *client;
    gboolean client_gone;
    Session *session;
    Lane *lane;
    gboolean has_bulk;

    MappedOutState state;
    gint64 now_us; /* of the call that is under way */
    char *failure;  /* why it cannot go on here; told to the session once */
    gboolean failure_told;
    char *end_reason;
    NotifierList *notifiers;
    gboolean listened; /* NOTIFY_LISTEN was told: END is due */

    /* getting ready */
    gboolean advised;      /* our client */
    guint64 advise_mark;   /* bytes sent with PHASE advise */

    /* pages */
    DirtyMap *map;
    PageScan *scan;
    Window window;
    HoleLook *holes;
    PageSender *sender;
    FrameQueue queue;
    RequestQueue *requests;
    GQueue recalled;  /* of SupplyPage: taken back from the sender for somebody who waits */
    RateLimit limit;
    guint64 limit_seen; /* bytes that the limit has been told of */
    guint64 budget;     /* bytes that may be handed out in this run */
    gboolean limited;   /* and that stopped it */
    XbzrleEncoder *xbzrle;

    /* rounds */
    SyncStep sync;
    Downtime downtime;
    AutoConverge converge;
    guint64 period_sent;   /* bytes, when the period began */
    gint64 period_began_us;

    /* the switch-over */
    SwitchStep step;
    gboolean postcopy_asked;
    gboolean postcopy;      /* this switch-over is one to post-copy */
    gboolean paused;        /* the client has stopped the guest */
    gboolean pause_sent;
    gboolean device_whole;
    GByteArray *device;
    guint64 discard_mark; /* bytes sent with the last DISCARD */
    guint64 listen_mark;  /* bytes sent with PHASE listen and the device state */
    gboolean no_return_asked;
    gboolean given_up;      /* the client's answer to it */
    gboolean ram_end_sent;
    gboolean eof_sent;

    /* checkpoints */
    gboolean checkpoint_asked;
    gint64 next_checkpoint_us; /* in state COLO */
    gboolean failover_sent;

    /* afterwards */
    gboolean releases; /* the destination was told so in BLOCKS */
    ReleaseList release;
    PageMark release_mark;
    guint discards_asked;   /* of the client, not answered */
    Bitmap **received;      /* recovery: by block, what the destination says it has */
    guint64 *received_upto; /* pages that it has said it of */

    /* counters */
    gint64 began_us;
    gint64 switch_began_us;
    gint64 rate_began_us; /* of the second for page_rate; 0: none yet */
    guint64 rate_pages;
    guint64 run_mark;  /* bytes sent with PHASE running */
    RamStats stats;
};

typedef gboolean (*MappedOutAct)(MappedOutgoing *o, const MappedOutInput *in, GError **error);

/* ram/mapped/outgoing_act.c */
gboolean mapped_out_act_nothing(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_start(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_recover(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_advised(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_ready(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_switch(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_paused(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_device(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_synced(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_given_up(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_discarded(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_free_hints(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_start_postcopy(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_params(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_cancel(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_client_failed(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_completed(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_failed(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_cancelled(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_lost(MappedOutgoing *o, const MappedOutInput *in, GError **error);

/* ram/mapped/outgoing.c. An event that has no row: RAM_ERROR_STATE names both. */
gboolean mapped_out_event(MappedOutgoing *o, MappedOutEvent event, const MappedOutInput *in,
                          GError **error);
/* Every change of state goes through here: the client is told. */
void mapped_out_enter(MappedOutgoing *o, MappedOutState state);
/* What goes wrong here, and not with the peer: the session is told by the next run. */
void mapped_out_fail(MappedOutgoing *o, const char *text);

/* ram/mapped/outgoing_supply.c */
extern const PageSupplyOps mapped_out_supply_ops;
void mapped_out_supply_clear(MappedOutgoing *o);
/* What was read may be out of date. */
void mapped_out_forget_window(MappedOutgoing *o);

/* ram/mapped/outgoing_round.c: while the guest runs here. */
void mapped_out_iterate(MappedOutgoing *o);
/* Moves a sync on that has begun (SYNC_DRAIN). TRUE: it is through, the bitmaps are up to date. */
gboolean mapped_out_sync(MappedOutgoing *o);
/* Nothing that was sent is without its acknowledgement, and nothing waits to be sent. */
gboolean mapped_out_is_drained(const MappedOutgoing *o);
guint64 mapped_out_remaining(const MappedOutgoing *o); /* bytes */

/* Pages that are acknowledged now are given back to the host. */
static inline gboolean mapped_out_is_releasing(const MappedOutgoing *o)
{
    return o->releases && o->params.release_ram && o->state == MAPPED_OUT_POSTCOPY_ACTIVE;
}

/* ram/mapped/outgoing_switch.c: from when it is to stop. */
void mapped_out_switch_over(MappedOutgoing *o);
void mapped_out_end_ram(MappedOutgoing *o);
gboolean mapped_out_put_blocks(MappedOutgoing *o, guint beginning, GError **error);
/* The client's guest is given up; o->given_up when it has answered. */
void mapped_out_ask_no_return(MappedOutgoing *o);
void mapped_out_put_phase(MappedOutgoing *o, guint phase);

/* ram/mapped/outgoing_release.c */
void mapped_out_release(MappedOutgoing *o);

/* ram/mapped/outgoing_peer.c: what the peer sends. */
gboolean mapped_out_act_request(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_received(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_recovered(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_read_peer(MappedOutgoing *o, GError **error);

/* ram/mapped/outgoing_colo.c */
gboolean mapped_out_act_ask_checkpoint(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_failover(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_checkpoint(MappedOutgoing *o, const MappedOutInput *in, GError **error);
gboolean mapped_out_act_committed(MappedOutgoing *o, const MappedOutInput *in, GError **error);
/* If they are wanted: both sides can. */
gboolean mapped_out_check_checkpoints(MappedOutgoing *o, GError **error);
void mapped_out_run_checkpoints(MappedOutgoing *o);
