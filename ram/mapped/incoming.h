/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination's machine of a mapped session: takes what comes on the channels into the
 * memory of a memory client.
 *
 * Before the switch-over pages are written straight into place, as often as they come. From the
 * first DISCARD on what is missing is missing to the guest as well: its faults become REQUESTs,
 * and each page is placed once, whole host pages at a time, by the client's userfaultfd. The
 * received bitmaps, which the client keeps, say what is in place: they decide what is a
 * duplicate, and what a recovery has to bring.
 *
 * Frames come by way of the session and the lanes (the caller's); the client is asked by
 * MemoryClientOps and answers by events; time is an argument. Memory is touched and userfaultfds
 * are read by calls that do not wait. Every (state, event) pair is a row of one table or an
 * error that names both. One thread. Memory: the windows, and for each channel one host page of
 * blocks that have large ones. */
#pragma once

#include "ram/mapped/memory_client.h"
#include "ram/ram_stats.h"
#include "ram/uffd/block_time.h"
#include "tls/lane.h"

/* QEMU's words for the destination (PostcopyState), and what is between them. */
typedef enum {
    MAPPED_INCOMING_NONE,
    MAPPED_INCOMING_SETUP,     /* BLOCKS have come */
    MAPPED_INCOMING_ADVISE,    /* pages come, as often as they change */
    MAPPED_INCOMING_DEVICE,    /* all pages are here, and the device state comes: pre-copy ends */
    MAPPED_INCOMING_DISCARD,   /* the source's guest has stopped: the rest comes by post-copy */
    MAPPED_INCOMING_LISTENING, /* faults become requests */
    MAPPED_INCOMING_RUNNING,   /* the guest runs */
    MAPPED_INCOMING_END,       /* all its memory is here */
    /* checkpoints */
    MAPPED_INCOMING_CHECKPOINT,        /* its pages come */
    MAPPED_INCOMING_CHECKPOINT_DEVICE, /* and the device state */
    MAPPED_INCOMING_FILL,    /* the first begins: a second copy of the memory is made */
    MAPPED_INCOMING_STOP,    /* it is here: the guest is to stop */
    MAPPED_INCOMING_FLUSH,   /* it is copied into the guest's memory */
    MAPPED_INCOMING_RESTART, /* the client loads the devices */
    MAPPED_INCOMING_COLO,    /* the guest runs, as it does at the source */
    MAPPED_INCOMING_STATE_MAX,
} MappedIncomingState;

const char *mapped_incoming_state_name(MappedIncomingState state);

typedef enum {
    MAPPED_INCOMING_EV_BLOCKS,
    MAPPED_INCOMING_EV_RECOVERY, /* BLOCKS of one */
    MAPPED_INCOMING_EV_ADVISE,
    MAPPED_INCOMING_EV_PAGES,    /* on the main channel */
    MAPPED_INCOMING_EV_BULK_PAGES, /* on a bulk channel */
    MAPPED_INCOMING_EV_URGENT_PAGES, /* on the preempt channel */
    MAPPED_INCOMING_EV_PHASE_DISCARD,
    MAPPED_INCOMING_EV_DISCARD,
    MAPPED_INCOMING_EV_LISTENING, /* the client listens */
    MAPPED_INCOMING_EV_PHASE_LISTEN,
    MAPPED_INCOMING_EV_DATA,     /* device state */
    MAPPED_INCOMING_EV_RUNNING,
    MAPPED_INCOMING_EV_RAM_END,
    MAPPED_INCOMING_EV_FIRST_CHECKPOINT, /* PHASE checkpoint of the first */
    MAPPED_INCOMING_EV_PHASE_CHECKPOINT,
    MAPPED_INCOMING_EV_FIRST_COMMIT, /* PHASE commit of the first: no guest runs yet */
    MAPPED_INCOMING_EV_COMMIT,
    MAPPED_INCOMING_EV_FILLED,  /* inside */
    MAPPED_INCOMING_EV_STOPPED, /* the client's guest */
    MAPPED_INCOMING_EV_FLUSHED, /* inside */
    MAPPED_INCOMING_EV_RESTARTED, /* the client's guest */
    MAPPED_INCOMING_EV_PHASE_FAILOVER,
    MAPPED_INCOMING_EVENT_MAX,
} MappedIncomingEvent;

const char *mapped_incoming_event_name(MappedIncomingEvent event);
gboolean mapped_incoming_has_row(MappedIncomingState state, MappedIncomingEvent event,
                                 MappedIncomingState *ret_next);

typedef struct MappedIncoming MappedIncoming;

MappedIncoming *mapped_incoming_new(Session *session);
/* The client is told nothing. */
void mapped_incoming_free(MappedIncoming *in);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MappedIncoming, mapped_incoming_free)

/* ---- what it works with ---- */

/* The client has handed its memory over: once. Both must outlive the machine; descriptors of
 * layout are taken. FALSE: what it handed over is of no use, the error says why, and the session
 * is to be told by session_on_qemu_refused(); else by session_on_qemu_attached(). Until then
 * nothing is done about frames. */
gboolean mapped_incoming_attach(MappedIncoming *in, MemoryLayout *layout, MemoryClient *client,
                                GError **error);
/* The preempt channel; before it there are no BLOCKS. */
void mapped_incoming_set_lane(MappedIncoming *in, Lane *lane);
/* One more bulk channel. */
void mapped_incoming_add_bulk(MappedIncoming *in, Lane *lane);

/* ---- events ---- */

/* What the client says. If that is the end, or what it must not say, the session is told from
 * here. Run the machine afterwards. */
void mapped_incoming_on_client(MappedIncoming *in, MemoryEvent *event, gint64 now_us);

/* Descriptors to poll for POLLIN: userfaultfds, and that of the thread which places what comes in the
 * background; at most 2 + UFFD_CLIENTS_MAX of them. Returns how many were stored: no more than max.
 * They change with client events and mapped_incoming_run(). */
guint mapped_incoming_poll_fds(const MappedIncoming *in, int *fds, guint max);
/* One of them is readable, or has an error: what was asked for goes out at once, on the preempt
 * channel. */
void mapped_incoming_on_readable(MappedIncoming *in, int fd, gint64 now_us);

/* Something is with that thread: one of the descriptors will say when it is through. */
gboolean mapped_incoming_is_placing(const MappedIncoming *in);

/* Moves on what can be: call it after frames and events. It does not take long: what is left is
 * for the next call, see mapped_incoming_wake_us(). FALSE: the peer broke a rule
 * (RAM_ERROR_PROTOCOL). What is wrong at this end the session is told from here. */
gboolean mapped_incoming_run(MappedIncoming *in, gint64 now_us, GError **error);
/* When it wants to run again, whatever happens; it may be over already. G_MAXINT64: it does not. */
gint64 mapped_incoming_wake_us(const MappedIncoming *in);

/* The session has ended: tells the client. After a switch-over that is not through the memory
 * stays as it is, for a recovery. With checkpoints the guest goes on from the last one that is
 * complete, if the session was lost; to finish one that is being copied may take a while. reason:
 * for people, or NULL. */
void mapped_incoming_on_session_end(MappedIncoming *in, SessionState state, const char *reason);

/* ---- asking ---- */

MappedIncomingState mapped_incoming_state(const MappedIncoming *in);
/* A page has come. */
gboolean mapped_incoming_has_pages(const MappedIncoming *in);
/* In a session that recovers: RECEIVED is not out, or PHASE running has not come. */
gboolean mapped_incoming_is_recovering(const MappedIncoming *in);
void mapped_incoming_get_stats(const MappedIncoming *in, gint64 now_us, RamStats *ret_stats);
