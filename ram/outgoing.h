/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source's machine: what becomes of the stream of the source QEMU, and which page goes when.
 *
 * Until the switch to post-copy everything is passed on as it is. From there on the pages of RAM go
 * through a stage: in the background the oldest first, in batches, not more in flight than keeps the
 * link busy; a page that the destination's guest waits for at once, on the preempt channel. A page that
 * is not staged yet is asked of the RAM source.
 *
 * What it does not understand is passed on unread, after what is staged (transparent mode). That is a
 * failure only where it would do harm: after pages that went in another order than QEMU's, a record that
 * refers to the one before it, or half a host page.
 *
 * Pure: events and time in, frames out, by way of the session and the lane (which belong to the caller
 * and must outlive it). Every (state, event) pair is a row of one table or named. One thread.
 *
 * Once the guest has stopped, pages may be read from the source's memory instead, if that is offered and proved to
 * be the one (ram/direct.h): what is waited for at once, and in the background what the stream has not
 * brought. What comes of it on the stream is dropped then.
 *
 * Memory: the stage's limit, and OUTGOING_EXCESS_MAX beyond it to reach a requested page. */
#pragma once

#include "ram/page_sender.h"
#include "ram/direct.h"
#include "ram/ram_source.h"

#define OUTGOING_EXCESS_MAX (16 * 1024 * 1024)
/* At least so much of RAM is left with the source until everything before it is sent: a QEMU (of 7.2 at
 * least) that has written its whole stream waits for the end only, and could not pause and recover any
 * more if the link broke. More than its socket and its own buffers hold. */
#define OUTGOING_RESERVE (2 * 1024 * 1024)
/* Host pages that the peer may have asked for and not got, at one time. */
#define OUTGOING_REQUESTS_MAX 65536

/* QEMU's words for the source (MigrationStatus). */
typedef enum {
    OUTGOING_NONE,
    OUTGOING_SETUP,
    OUTGOING_ACTIVE,
    OUTGOING_DEVICE,           /* the guest has stopped for the switch-over */
    OUTGOING_POSTCOPY_ACTIVE,
    OUTGOING_POSTCOPY_RECOVER, /* a stream that goes on after a pause */
    OUTGOING_POSTCOPY_PAUSED,  /* ended in post-copy: QEMU can recover */
    OUTGOING_COMPLETED,
    OUTGOING_FAILED,
    OUTGOING_CANCELLED,
    OUTGOING_STATE_MAX,
} OutgoingState;

const char *outgoing_state_name(OutgoingState state);

typedef enum {
    /* elements of the stream; raw in OutgoingInput */
    OUTGOING_EV_HEADER,
    OUTGOING_EV_RESUMED,     /* the first element of a stream without a header */
    OUTGOING_EV_ADVISE,
    OUTGOING_EV_RAM_SETUP,   /* RAM's START section */
    OUTGOING_EV_DISCARD,
    OUTGOING_EV_PACKAGE,     /* begins */
    OUTGOING_EV_PACKAGE_END, /* its last piece */
    OUTGOING_EV_RESUME,      /* POSTCOPY_RESUME */
    OUTGOING_EV_FRAMING,     /* head, EOS and footer of RAM's sections */
    OUTGOING_EV_PAGE,        /* page */
    OUTGOING_EV_RECORD,      /* in a RAM section, without a page */
    OUTGOING_EV_RAM_END,     /* the last footer of RAM */
    OUTGOING_EV_ELEMENT,     /* anything else */
    OUTGOING_EV_UNKNOWN,     /* text: it is not understood from here on */
    /* QEMU's preempt connection */
    OUTGOING_EV_URGENT_OPENED,
    OUTGOING_EV_URGENT_PAGE,
    OUTGOING_EV_URGENT_EOS,
    OUTGOING_EV_URGENT_IDLE, /* there is nothing on it that was not read */
    OUTGOING_EV_URGENT_CLOSED,
    /* the others */
    OUTGOING_EV_QEMU_ENDED, /* the source has written all it will */
    OUTGOING_EV_REQUEST,    /* request: from the peer */
    OUTGOING_EV_COMPLETED,  /* the session has */
    OUTGOING_EV_FAILED,
    OUTGOING_EV_CANCELLED,
    OUTGOING_EVENT_MAX,
} OutgoingEvent;

const char *outgoing_event_name(OutgoingEvent event);
gboolean outgoing_has_row(OutgoingState state, OutgoingEvent event, OutgoingState *ret_next);

typedef struct {
    const guint8 *raw;
    gsize raw_len;
    const QemuPage *page;
    const PageRequest *request;
    const char *text;
    guint64 discarded; /* DISCARD: bytes */
    guint32 section; /* id of RAM's section, once it is known */
    gboolean in_section; /* raw begins within a section of RAM */
    gint64 now_us;
} OutgoingInput;

typedef struct {
    gsize stage;   /* bytes */
    gboolean paced; /* what outgoing_source_rate() says is done: the stage stays small until then */
    guint64 window; /* of the session: most bytes in flight */
    PageCompress compress; /* with what the session's features allow */
    CompressWorker *worker; /* or NULL: never compresses. The caller's */
} OutgoingConfig;

typedef struct Outgoing Outgoing;

/* blocks is filled by who reads the stream. source: asked for pages. */
Outgoing *outgoing_new(const OutgoingConfig *config, RamBlocks *blocks, RamSource *source,
                       Session *session);
void outgoing_free(Outgoing *outgoing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Outgoing, outgoing_free)

/* The preempt channel; without one everything is passed on unread. Before the stream begins. */
void outgoing_set_lane(Outgoing *outgoing, Lane *lane);
/* One more bulk channel, open. Before the stream begins. */
void outgoing_add_bulk(Outgoing *outgoing, Lane *lane);

/* Stream events never fail: without a row they are what is not understood. A REQUEST that cannot be is
 * an error (RAM_ERROR_PROTOCOL). A page on QEMU's preempt connection without a row fails the next
 * outgoing_run(). */
gboolean outgoing_event(Outgoing *outgoing, OutgoingEvent event, const OutgoingInput *input,
                        GError **error);

/* The source's destination is to discard this: it is what the source still owes. Before the DISCARD that
 * it is a part of. */
void outgoing_on_discarded(Outgoing *outgoing, guint block, guint64 start, guint64 length);

/* From when the guest has stopped, the memory of the source can be read: takes fd. See direct_set_memory(). */
gboolean outgoing_set_memory(Outgoing *outgoing, int fd, const MemoryRange *ranges, gsize n_ranges,
                             GError **error);
/* What has become of that, and why if it failed (or NULL). */
DirectState outgoing_direct_state(const Outgoing *outgoing, const char **ret_why);

/* A piece of the received bitmap of a block, on its way to the source: before POSTCOPY_RESUME. first:
 * the number of its first page, a multiple of 8. */
void outgoing_on_bitmap(Outgoing *outgoing, guint block, guint64 first, const guint8 *bits, gsize len);
/* n_pages: as long as that bitmap is. */
void outgoing_on_bitmap_head(Outgoing *outgoing, guint block, guint64 n_pages);

/* Sends what may be sent now. Call it after events and acknowledgements. FALSE: the peer broke a rule, or a
 * page of QEMU's preempt connection cannot be passed on. */
gboolean outgoing_run(Outgoing *outgoing, gint64 now_us, GError **error);

/* Something came on QEMU's preempt connection that cannot be passed on: the next outgoing_run() fails. Pages
 * may be in it, and the destination QEMU would take zeros for them. */
void outgoing_lose_page(Outgoing *outgoing);

/* Whether the source should be read. */
gboolean outgoing_wants(const Outgoing *outgoing);

/* RAM has ended on the main connection of a source with a preempt connection, which may still hold pages:
 * it is to be read until there is nothing, then told so (URGENT_IDLE). */
gboolean outgoing_awaits_urgent(const Outgoing *outgoing);

/* A result of the compressor would be sent at once: worth waking up for. */
gboolean outgoing_waits_for_worker(const Outgoing *outgoing);

/* TRUE: *ret_rate, bytes a second (0: no limit), is what the source should send at most from now on. Ask
 * after each outgoing_run(). */
gboolean outgoing_source_rate(Outgoing *outgoing, gint64 now_us, guint64 *ret_rate);

/* What it means if the source's stream ends here. */
typedef enum {
    OUTGOING_END_WHOLE,     /* it is through, or nothing can be known of it */
    OUTGOING_END_CANCELLED, /* pre-copy that was given up */
    OUTGOING_END_BROKEN,    /* in the switch-over, or in post-copy with RAM still to come */
} OutgoingEnd;

OutgoingEnd outgoing_end_here(const Outgoing *outgoing);

OutgoingState outgoing_state(const Outgoing *outgoing);
/* TRUE: not understood, or no lane: everything is passed on. */
gboolean outgoing_is_transparent(const Outgoing *outgoing);
/* The text of the first OUTGOING_EV_UNKNOWN; NULL: none. */
const char *outgoing_warning(const Outgoing *outgoing);
void outgoing_get_stats(const Outgoing *outgoing, RamStats *ret_stats);
