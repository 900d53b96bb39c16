/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the placer. For ram/uffd/placer*.c only. */
#pragma once

#include "ram/uffd/placer.h"

#include <pthread.h>

#include "ram/uffd/pace.h"

typedef struct {
    guint block;
    guint64 offset; /* in the block */
    guint64 address;
    guint64 length;
    guint64 page_size;
    guint8 *data;    /* in the ring of bytes; NULL: zeros */
    gsize room;      /* bytes of that ring, with those passed over at its end */
    guint64 done;    /* bytes, placed or passed over; the thread's */
    guint64 skip;    /* a bit for each page that is not to be placed; under uffd_lock */
    guint64 skipped; /* those of them that were not; the thread's */
    GArray *existed; /* of guint64: offsets in the slot; NULL: none. The thread's */
    GArray *ahead;   /* the same, of zeros that were placed before their turn; the owner's */
} Slot;

/* POSIX's locks rather than GLib's: ThreadSanitizer knows these. */
struct UffdPlacer {
    int uffd;
    UffdPlacedFunc func, note;
    gpointer func_data;
    GThread *thread;
    int fd; /* an eventfd; -1: stopped */
    int stopping; /* atomic */

    /* Who comes first to the turn has uffd_lock next: the owner is not passed over while the thread goes
     * from one step to the next. */
    pthread_mutex_t turn;
    pthread_mutex_t uffd_lock;

    pthread_mutex_t lock; /* for all below */
    pthread_cond_t work;
    guint64 n_in;     /* slots that were submitted, ever */
    guint64 n_placed;
    guint64 n_out;    /* that were collected; the owner's */
    gsize waiting;    /* bytes of the ring that are not placed */
    gboolean wants_room;
    gboolean is_idle; /* the thread waits for work */
    gboolean signalled; /* fd is readable */
    GError *error;
    gboolean failed; /* and that was reported; the owner's */
    Pace pace;
    UffdPlacerStats stats;

    /* the owner's, but for what of it is in slots that are with the thread */
    guint8 *bytes; /* UFFD_PLACER_ROOM */
    gsize at;      /* where the next ones go */
    gsize used;

    Slot slots[UFFD_PLACER_SLOTS]; /* n modulo their number: of the owner, the thread, the owner again */
};

/* A bit for each page of a slot. */
G_STATIC_ASSERT(UFFD_PLACER_SLOT / 4096 <= 64);

static inline Slot *placer_slot(UffdPlacer *placer, guint64 n)
{
    return &placer->slots[n % UFFD_PLACER_SLOTS];
}

/* Of the slot, at: bytes in it. */
static inline UffdPlaced placer_place(UffdPlacer *placer, const Slot *slot, guint64 at,
                                      guint64 length, guint64 *ret_done, GError **error)
{
    return slot->data ? uffd_placer_copy(placer, slot->address + at, slot->data + at, length,
                                         ret_done, error)
                      : uffd_zero(placer->uffd, slot->address + at, length, ret_done, error);
}

/* Makes the descriptor readable. Under lock. */
void placer_signal_owner(UffdPlacer *placer);

/* ram/uffd/placer_thread.c */

gpointer placer_thread(gpointer placer);
