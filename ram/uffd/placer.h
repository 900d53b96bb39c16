/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages of the background, placed by a thread of their own: the kernel takes longer to place a page (it has to
 * find memory for it) than the relay's thread to receive it, and who waits for a page does not wait for
 * those. Everything is copied when it is submitted, and placed in that order.
 *
 * All functions are for one thread, the owner's. A page that was submitted and is asked for meanwhile goes first
 * (uffd_placer_place_now()). If it comes once more, for a UffdSink without a placer, the second of the two is
 * reported as one that existed. */
#pragma once

#include "ram/uffd/map.h"
#include "ram/uffd/uffd.h"

/* The largest host page it takes, and the most it copies at once. */
#define UFFD_PLACER_SLOT (64 * 1024)
/* It has room for so many bytes and pieces. */
#define UFFD_PLACER_ROOM (1024 * 1024)
#define UFFD_PLACER_SLOTS 256
/* The most zeros it places at once: who waits for a page may have to wait for that. */
#define UFFD_PLACER_ZEROS (2 * 1024 * 1024)

typedef struct UffdPlacer UffdPlacer;

/* Called when [offset, offset + length) of a block, whole host pages, is in place and who waited for it
 * awake: the time to set received bits and to end requests. existed: it was there before. */
typedef void (*UffdPlacedFunc)(guint block, guint64 offset, guint64 length, gboolean existed,
                               gpointer data);

/* Starts the thread. uffd is borrowed: it is not to be closed before the placer is freed. func and data: for
 * uffd_placer_collect(). note (or NULL) is told the same, but in the thread, as soon as the kernel is through: for
 * what a process that is killed must have written down. */
UffdPlacer *uffd_placer_new(int uffd, UffdPlacedFunc func, UffdPlacedFunc note, gpointer data,
                            GError **error);
/* Waits for the system call that is under way, and reports all that is in place. The rest is forgotten: nothing is
 * placed, nor taken, any more, and there is no descriptor. */
void uffd_placer_stop(UffdPlacer *placer);
/* Waits for the system call that is under way. What is not in place by then is not placed any more, and what
 * was not collected is not reported: it is missing for whoever comes next, who finds that it exists. */
void uffd_placer_free(UffdPlacer *placer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(UffdPlacer, uffd_placer_free)

/* Whether pages of the range can be submitted. */
gboolean uffd_placer_takes(const UffdRange *range);
/* [offset, offset + length) of the block, in range, whole host pages. data NULL: zeros. How many bytes were
 * taken, whole pages; 0: none, try again when the descriptor is readable. */
guint64 uffd_placer_submit(UffdPlacer *placer, const UffdRange *range, guint64 offset,
                           guint64 length, const guint8 *data);
/* The kernel is quick at the moment: to place pages at once takes no longer than to submit them. */
gboolean uffd_placer_is_quick(UffdPlacer *placer);
void uffd_placer_note_pace(UffdPlacer *placer, guint64 bytes, gint64 ns);
/* uffd_copy(), in any thread; how long it takes is noted now and then. For what its owner places itself. */
UffdPlaced uffd_placer_copy(UffdPlacer *placer, guint64 address, const guint8 *source,
                            guint64 length, guint64 *ret_done, GError **error);
/* Reports what is in place. FALSE: something could not be placed (UFFD_ERROR_*), and nothing more will be. */
gboolean uffd_placer_collect(UffdPlacer *placer, GError **error);
/* All that was submitted has been reported. */
gboolean uffd_placer_is_idle(const UffdPlacer *placer);
/* Readable when there is something to collect and room again, or nothing left to do. Borrowed. -1: stopped. */
int uffd_placer_fd(const UffdPlacer *placer);

/* Between the two nothing is placed here. The owner reads the userfaultfd's events between them: when one says
 * that a range is removed, nothing that was submitted for it comes after the kernel has gone on. */
void uffd_placer_hold(UffdPlacer *placer);
void uffd_placer_release(UffdPlacer *placer);
/* While it is held: what was submitted for these addresses, and is not in place, is not to be placed any more,
 * nor reported. Zeros still are: that is what is there. */
void uffd_placer_forget(UffdPlacer *placer, guint64 address, guint64 length);

/* The page was submitted, and has not been reported. */
gboolean uffd_placer_has(UffdPlacer *placer, guint block, guint64 offset);
/* While it is held: somebody waits for that page. If it was submitted it is placed before its turn, and reported.
 * FALSE: it is not here, had its turn and is not reported yet, or cannot be placed just now. */
gboolean uffd_placer_place_now(UffdPlacer *placer, guint block, guint64 offset);

typedef struct {
    guint64 copies;    /* calls of UFFDIO_COPY */
    guint64 zeropages; /* and of UFFDIO_ZEROPAGE */
    guint64 again;     /* times the kernel could not go on at once */
    guint64 full;      /* times there was no room */
    guint64 ahead;     /* pages that were placed before their turn */
} UffdPlacerStats;

void uffd_placer_get_stats(UffdPlacer *placer, UffdPlacerStats *ret_stats);
