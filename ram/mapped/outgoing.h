/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source's machine for memory that a client has handed over: what QEMU does inside itself.
 *
 * It copies RAM while the guest runs (dirty bitmaps, rounds), stops the guest when the rest is
 * small or when it is told to, and then either ends (pre-copy) or lets the guest go on over there
 * and sends what is left as it is asked for and in the background (post-copy). A session that
 * breaks after that leaves it paused; another machine in a new session then goes on from what the
 * destination says it has. Or, if the client wants checkpoints, it stops the guest again and again,
 * for what was written since the last time, and the guest stays here.
 *
 * Events and time in, frames out, by way of the session and the lane; requests to the client go out
 * by MemoryClientOps, its answers come in by mapped_outgoing_on_client(). It reads memory and the
 * dirty log by itself. Every (state, event) pair is a row of one table or refused with an error
 * that names both. One thread.
 *
 * The owner tells the session that its "QEMU" is attached when the client is
 * (session_on_qemu_attached()); ends of the client's are told to the session from here. Memory:
 * bitmaps, and what ram/page_sender.h says. */
#pragma once

#include "ram/mapped/dirty_log.h"
#include "ram/mapped/guest_memory.h"
#include "ram/mapped/notifier.h"
#include "ram/page_sender.h"

/* Dirty log is cleared in chunks of so many pages, as a power of two. */
#define MAPPED_CLEAR_SHIFT_MIN 6
#define MAPPED_CLEAR_SHIFT_MAX 31
#define MAPPED_CLEAR_SHIFT_DEFAULT 18

/* QEMU's words for the source (MigrationStatus). */
typedef enum {
    MAPPED_OUT_NONE,
    MAPPED_OUT_SETUP,             /* both clients are asked to get ready */
    MAPPED_OUT_ACTIVE,
    MAPPED_OUT_PRE_SWITCHOVER,    /* the guest has stopped; waits for MEMORY_EV_CONTINUE */
    MAPPED_OUT_DEVICE,            /* the guest has stopped; devices, last pages or discards */
    MAPPED_OUT_POSTCOPY_ACTIVE,
    MAPPED_OUT_POSTCOPY_PAUSED,   /* ended in post-copy: can be recovered */
    MAPPED_OUT_POSTCOPY_RECOVER_SETUP, /* a new session that goes on: not open yet */
    MAPPED_OUT_POSTCOPY_RECOVER,  /* waits for the received bitmaps */
    MAPPED_OUT_COMPLETED,
    MAPPED_OUT_FAILED,
    MAPPED_OUT_CANCELLING,        /* the session is told; waits for its end */
    MAPPED_OUT_CANCELLED,
    MAPPED_OUT_CHECKPOINT,        /* the guest has stopped for it */
    MAPPED_OUT_COLO,              /* there is one, and the guest runs */
    MAPPED_OUT_FAILOVER,          /* the destination's guest goes on alone */
    MAPPED_OUT_STATE_MAX,
} MappedOutState;

/* "none", "pre-switchover"… */
const char *mapped_out_state_name(MappedOutState state);

typedef struct {
    PageSenderConfig sender;
    guint clear_shift; /* 0: the default */
} MappedOutgoingConfig;

typedef struct MappedOutgoing MappedOutgoing;

/* The layout of memory says what the client wants and whether this is a recovery. log: taken;
 * NULL only in a recovery. client, session and memory must outlive it. */
MappedOutgoing *mapped_outgoing_new(const MappedOutgoingConfig *config, GuestMemory *memory,
                                    DirtyLog *log, MemoryClient *client, Session *session);
void mapped_outgoing_free(MappedOutgoing *outgoing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MappedOutgoing, mapped_outgoing_free)

/* Parts that must follow the phases. Before the first run. */
NotifierList *mapped_outgoing_notifiers(MappedOutgoing *outgoing);

/* The preempt channel. It must be there before the first run in which the session is active. */
void mapped_outgoing_set_lane(MappedOutgoing *outgoing, Lane *lane);

/* One more bulk channel, open. As the lane. */
void mapped_outgoing_add_bulk(MappedOutgoing *outgoing, Lane *lane);

/* What the client says. What it must not say now fails the migration, as its going away does. */
void mapped_outgoing_on_client(MappedOutgoing *outgoing, MemoryEvent *event, gint64 now_us);

/* All that the client had said by now has been told. Call it whenever nothing waits to be read:
 * until then hints are not taken for pages that were written while they were on their way. */
void mapped_outgoing_on_client_read(MappedOutgoing *outgoing);

/* Moves on what can be: call it after events, acknowledgements and at mapped_outgoing_wake_us().
 * FALSE: the peer broke a rule (RAM_ERROR_PROTOCOL). */
gboolean mapped_outgoing_run(MappedOutgoing *outgoing, gint64 now_us, GError **error);
/* When it wants to run again, whatever happens; G_MAXINT64: it does not. */
gint64 mapped_outgoing_wake_us(const MappedOutgoing *outgoing);

/* The session has ended: the client is told (MemoryClientOps.end), once. */
void mapped_outgoing_on_session_end(MappedOutgoing *outgoing, SessionState state, gint64 now_us);

/* As outgoing_waits_for_worker(). */
gboolean mapped_outgoing_waits_for_worker(const MappedOutgoing *outgoing);

MappedOutState mapped_outgoing_state(const MappedOutgoing *outgoing);
/* In a new session that recovers, until the destination has said what it has. */
gboolean mapped_outgoing_is_recovering(const MappedOutgoing *outgoing);
void mapped_outgoing_get_stats(const MappedOutgoing *outgoing, gint64 now_us, RamStats *ret_stats);
