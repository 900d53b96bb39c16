/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A destination QEMU, as far as a helper can tell: takes the stream as strictly as a real one
 * (docs/qemu-stream.md), asks for pages at random, and says what it has when it is resumed. What a
 * real one would have ended or paused for is in `failure`. */
#pragma once

#include "tests/support/model-source.h"

typedef struct {
    guint host; /* under way, if left > 0 */
    guint next;
    guint left;
} ModelPlacing;

#define MODEL_FAULTS_MAX 16

typedef struct {
    const ModelGuest *guest;
    GRand *rand;
    ModelPreempt preempt;
    guint vcpus;         /* requests that are not answered, at most */
    guint requests_left;

    RamBlocks *blocks;
    QemuStream *stream[MODEL_CONNECTIONS];
    gboolean attached[MODEL_CONNECTIONS];
    gboolean listening;
    gboolean is_paused;  /* until POSTCOPY_RESUME */
    guint8 *have;        /* version, by target page */
    guint8 *precopied;   /* the same as the source's */
    guint8 *requested;   /* by first target page of a host page */
    ModelPlacing placing[MODEL_CONNECTIONS];
    guint faults[MODEL_FAULTS_MAX]; /* host pages that are waited for */
    guint n_faults;
    gint asked_block;    /* of the last request, or -1 */
    GByteArray *package;
    GByteArray *foreign; /* everything from what was not understood on */
    gint last_block;     /* of the main connection's last record, or -1 */
    guint placed[MODEL_CONNECTIONS]; /* target pages after LISTEN */
    guint requests;
    gboolean end_mark;
    gboolean urgent_eos;

    GByteArray *out; /* the return path */
    gsize out_done;
    gboolean closed;
    char *failure;
} ModelDestination;

void model_destination_init(ModelDestination *destination, const ModelGuest *guest, guint32 seed);
void model_destination_clear(ModelDestination *destination);

gboolean model_destination_wants(const ModelDestination *destination, guint connection);
void model_destination_on_data(ModelDestination *destination, guint connection, const guint8 *bytes,
                               gsize len);
void model_destination_on_eof(ModelDestination *destination);
/* Asks for a page, or ends. urgent_pending: bytes that it has not read yet. */
gboolean model_destination_step(ModelDestination *destination, gsize urgent_pending);
/* Asks for the host page of that target page, which is not there. */
void model_destination_fault(ModelDestination *destination, guint page);
/* A page that is not there and was not asked for, from a random place on. FALSE: none. */
gboolean model_destination_find_absent(ModelDestination *destination, guint *ret_page);

/* The connection is lost; the next one resumes. */
void model_destination_pause(ModelDestination *destination);
