/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was in the recorded streams of one migration: counts of all that was read, and whether
 * post-copy sent just the pages it had declared missing. */
#pragma once

#include "ram/qemu_return.h"
#include "ram/qemu_stream.h"

#define SUMMARY_COMMANDS (QEMU_CMD_SWITCHOVER_START + 1)

/* One connection, in one direction. */
typedef struct {
    guint64 bytes;
    guint64 held;        /* of an element that the end cut off */
    guint64 opaque;      /* bytes */
    guint64 opaque_from; /* where they begin, if there are any */
    char *unknown;       /* the reader's text; NULL: there was nothing unknown */
    gboolean resumed;
    char *machine;
    guint64 events[MAX((int)QEMU_EV_MAX, (int)QEMU_RETURN_MAX)];
    guint64 commands[SUMMARY_COMMANDS];
    guint64 pages[QEMU_PAGE_KIND_MAX];
    guint64 package_bytes;
    gboolean postcopy;    /* the package has begun: what follows are the pages that were missing */
    GHashTable *requests; /* distinct ones, as text */
    guint64 strange_requests; /* for what is not in a block */
    GString *bitmaps;     /* JSON, a list without its brackets */
    gint64 shut;          /* -1: none came */
} StreamSummary;

StreamSummary *stream_summary_new(void);
void stream_summary_free(StreamSummary *summary);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StreamSummary, stream_summary_free)

/* The pages the source has declared missing and not sent yet, over all connections. */
typedef struct {
    RamBlocks *blocks;
    GPtrArray *owed;      /* of GByteArray, by block: a byte for each target page */
    guint64 discarded;    /* bytes */
    guint64 missing;      /* pages still owed */
    guint64 stray;        /* pages that came in post-copy and were not owed */
} PageLedger;

void page_ledger_init(PageLedger *ledger, RamBlocks *blocks);
void page_ledger_clear(PageLedger *ledger);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(PageLedger, page_ledger_clear)

void stream_summary_note(StreamSummary *summary, PageLedger *ledger, const QemuEvent *event);
void stream_summary_note_return(StreamSummary *summary, const RamBlocks *blocks,
                                const QemuReturnEvent *event);

/* As JSON objects. */
void stream_summary_print(const StreamSummary *summary, GString *out);
void stream_summary_print_return(const StreamSummary *summary, GString *out);
void page_ledger_print(const PageLedger *ledger, GString *out);
