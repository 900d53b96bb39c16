/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination QEMU's memory as an incoming machine fills it by itself, through a duplicate of the userfaultfd that
 * QEMU has opened: which blocks, where they are, and the record of what was placed (ram/placed_record.h).
 *
 * A page that is placed here must never come to QEMU on its stream, and the other way round: QEMU takes a page
 * that it has for an error. One thread. */
#pragma once

#include "ram/placed_record.h"
#include "ram/uffd/sink.h"

/* Host pages larger than that are placed by QEMU. */
#define PLACING_PAGE_MAX (4 * 1024 * 1024)

/* A mapping of QEMU's that is registered with its userfaultfd; all there are. */
typedef struct {
    guint64 address;
    guint64 length;
    guint64 page_size;
    UffdBacking backing;
} PlacingRange;

typedef enum {
    PLACING_OFF,     /* nobody has offered the memory */
    PLACING_ON,
    PLACING_REFUSED, /* it cannot be: all comes on the stream */
    PLACING_STATE_MAX,
} PlacingState;

/* "off", "placing", "refused" */
const char *placing_state_name(PlacingState state);

typedef struct Placing Placing;

/* QEMU registers each of its blocks, and nothing else: so the lengths of all blocks and of all ranges must be
 * the same numbers, and a block whose length only one range has is there. Of the others QEMU places the
 * pages. With a record that is not empty its blocks must be among the ranges instead, and they are those.
 *
 * rounded: blocks' lengths are rounded up to 64 target pages (they were learnt from QEMU's bitmaps). Takes uffd,
 * and record on success. NULL (RAM_ERROR_STATE says why): it is not done. */
Placing *placing_new(const RamBlocks *blocks, gboolean rounded, int uffd, PlacedRecord *record,
                     const PlacingRange *ranges, gsize n, GError **error);
void placing_free(Placing *placing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Placing, placing_free)

/* The page is one that is placed here. */
gboolean placing_takes(const Placing *placing, guint block, guint64 offset);
/* For one channel; func is told what is in place (and in the record by then). Free it before the
 * placing. */
UffdSink *placing_new_sink(Placing *placing, UffdPlacedFunc func, gpointer data);
/* The same for the channels of the background (uffd_sink_set_placer()): it has a thread, which calls
 * note. */
UffdPlacer *placing_new_placer(const Placing *placing, UffdPlacedFunc func, UffdPlacedFunc note,
                               gpointer data, GError **error);
/* To be called by func first, or by note. Any thread. */
void placing_note(Placing *placing, guint block, guint64 offset, guint64 length);
/* How many blocks, and bytes of them. */
guint placing_blocks(const Placing *placing, guint64 *ret_bytes);
