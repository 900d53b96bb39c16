/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Host pages that the source QEMU has handed over and the peer has not been sent yet.
 *
 * In order of arrival, and found by address when one is asked for. A host page becomes ready when
 * all its target pages are there; before that it can be neither taken nor sent. Pure; one thread.
 * */
#pragma once

#include "ram/qemu_stream.h"

/* One target page as it came. */
typedef struct {
    QemuPageKind kind;
    guint8 fill;
    guint32 data_len;
    guint8 *data; /* NULL when it has none */
} StagedRecord;

typedef struct StagedPage StagedPage;
struct StagedPage {
    guint block;
    guint64 offset;    /* of the host page in its block */
    guint n_records;   /* target pages in a host page */
    guint n_present;
    gsize bytes;       /* what it counts for: data and book-keeping */
    StagedRecord *records; /* by place in the host page; NULL: its bytes are elsewhere */
    gpointer elsewhere;    /* then: where, the caller's */
    gboolean ready;
    StagedPage *next, *prev; /* the stage's own */
    StagedRecord single;
};

typedef enum {
    STAGE_PUT_PARTIAL,   /* the host page is not complete yet */
    STAGE_PUT_READY,     /* it is now */
    STAGE_PUT_DUPLICATE, /* that target page is here already: dropped */
} StagePut;

typedef struct Stage Stage;

/* limit: bytes; see stage_is_full(). */
Stage *stage_new(gsize target_page, gsize limit);
void stage_free(Stage *stage);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stage, stage_free)

/* Copies the page. host_page: bytes of the block's host pages, a multiple of the target page. */
StagePut stage_put(Stage *stage, const QemuPage *page, guint64 host_page, StagedPage **ret_page);

/* The staged host page that contains this offset, ready or not; NULL: not here. */
StagedPage *stage_find(const Stage *stage, guint block, guint64 offset, guint64 host_page);
/* The oldest ready one; NULL: none. */
StagedPage *stage_first(const Stage *stage);
/* Takes it (which must be ready) out: it is the caller's, to be freed with staged_page_free(). */
void stage_take(Stage *stage, StagedPage *page);
void staged_page_free(StagedPage *page);
/* One that is no stage's and has its bytes elsewhere. */
StagedPage *staged_page_new_elsewhere(guint block, guint64 offset, guint n_records,
                                      gpointer elsewhere);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StagedPage, staged_page_free)
/* The same, for who has many: its memory may be kept for the next one that comes. */
void stage_recycle(Stage *stage, StagedPage *page);

/* Forgets what there is of it, ready or not. */
void stage_drop(Stage *stage, StagedPage *page);

gsize stage_bytes(const Stage *stage);
gsize stage_high_water(const Stage *stage);
guint stage_ready_pages(const Stage *stage); /* host pages */
guint stage_partial_pages(const Stage *stage);
gboolean stage_is_full(const Stage *stage); /* bytes >= limit */
gsize stage_limit(const Stage *stage);
