/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A source QEMU, as far as a helper can tell: writes the stream of a migration that switches to
 * post-copy, answers requests in it, and can resume it. What it may do is docs/qemu-stream.md; when,
 * is random. */
#pragma once

#include "ram/qemu_return.h"
#include "tests/support/model-guest.h"

typedef enum {
    MODEL_PREEMPT_NONE,
    MODEL_PREEMPT_OLD, /* 7.2: the second connection is made at once, and ends with a record */
    MODEL_PREEMPT_NEW, /* 8.0: made at the switch, ends without */
} ModelPreempt;

enum { MODEL_MAIN, MODEL_URGENT, MODEL_CONNECTIONS };

typedef enum {
    MODEL_SETUP,
    MODEL_PRECOPY,
    MODEL_SWITCH,
    MODEL_BITMAPS, /* resumed: waits for what the destination has */
    MODEL_RESUMING, /* waits for RESUME_ACK */
    MODEL_POSTCOPY,
    MODEL_ENDED, /* has written all; waits for SHUT, and closes */
} ModelPhase;

typedef struct {
    GByteArray *out;
    gsize done;      /* taken by the helper */
    gboolean open;
    gboolean closed; /* by this QEMU */
    gboolean in_section;
    gint last_block; /* -1: none */
    guint host;      /* the host page under way, if left > 0 */
    guint next;
    guint left;
} ModelWriter;

typedef struct {
    const ModelGuest *guest;
    GRand *rand;
    ModelPreempt preempt;
    guint duplicate_percent; /* of host pages are sent again */
    guint precopy_pages;     /* target pages sent before the switch */
    guint delta_percent;     /* of those that were sent before come as differences */
    guint foreign_at;        /* post-copy pages before something unknown is sent; 0: never */
    gboolean foreign_between; /* outside of RAM's section */
    gboolean foreign_in_host_page; /* even then */
    gboolean foreign_delta;  /* a page as a difference, which has no place there */

    RamBlocks *blocks;
    ModelPhase phase;
    ModelWriter writer[MODEL_CONNECTIONS];
    guint8 *dirty;       /* by target page */
    guint n_dirty;
    guint8 *precopied;   /* sent before the switch: how often since it was sent whole */
    guint deltas;        /* sent */
    guint scan;
    GQueue requests;     /* of first target pages of host pages, as pointers */
    guint sent;          /* target pages in post-copy */
    guint bitmaps_left;
    GByteArray *package;
    GByteArray *foreign;     /* what was sent from the unknown element on */
    gint foreign_block;      /* the block that CONTINUE means there */
    QemuReturn *in;
    gboolean shut;       /* SHUT 0 has come */
    char *failure;       /* what a real one would have paused for */
} ModelSource;

void model_source_init(ModelSource *source, const ModelGuest *guest, guint32 seed);
void model_source_clear(ModelSource *source);

/* Writes one element more. FALSE: it waits for something, or has written all. */
gboolean model_source_step(ModelSource *source);
/* Bytes that wait for the helper. */
gsize model_source_output(const ModelSource *source, guint connection, const guint8 **ret_bytes);
void model_source_taken(ModelSource *source, guint connection, gsize len);
gboolean model_source_at_eof(const ModelSource *source, guint connection);

/* The return path. */
void model_source_on_data(ModelSource *source, const guint8 *bytes, gsize len);

/* The connection is lost: what was not taken is gone; the next ones resume. */
void model_source_resume(ModelSource *source);
