/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The placer's thread: slot by slot, in steps. */
#include "config.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "ram/uffd/placer_priv.h"

/* The most that is placed while the owner may have to wait for it (uffd_placer_hold()). */
#define COPY_STEP (16 * 1024)
/* The owner's mappings are changing. */
#define AGAIN_US 50
/* Who receives pages goes first when there is one processor for both. */
#define NICE 5
#define NICE_MAX 19

/* A failure is none: it is a matter of order only. */
static void step_back(void)
{
    struct {
        guint32 size, policy;
        guint64 flags;
        gint32 nice;
        guint32 priority;
        guint64 runtime, deadline, period;
    } attr = { .size = sizeof attr };

    if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) < 0)
        return;
    attr.nice = MIN(attr.nice + NICE, NICE_MAX);
    syscall(SYS_sched_setattr, 0, &attr, 0);
}

/* The next bytes of the slot that are to be placed. FALSE: there are none. Under uffd_lock. */
static gboolean next_step(Slot *slot, guint64 *ret_length)
{
    guint64 most = slot->data ? COPY_STEP : UFFD_PLACER_ZEROS;
    guint64 end;

    while (slot->skip && slot->done < slot->length &&
           (slot->skip >> slot->done / slot->page_size & 1)) {
        slot->skipped |= 1ULL << slot->done / slot->page_size;
        slot->done += slot->page_size;
    }
    end = MIN(slot->length, slot->done + MAX(most, slot->page_size));
    *ret_length = end - slot->done;
    for (guint64 at = slot->done; slot->skip && at < end; at += slot->page_size) {
        if (slot->skip >> at / slot->page_size & 1) {
            *ret_length = at - slot->done;
            break;
        }
    }
    return slot->done < slot->length;
}

/* The next bytes of the slot are in place. */
static void advance(UffdPlacer *placer, Slot *slot, guint64 length, gboolean existed)
{
    if (length > 0 && placer->note)
        placer->note(slot->block, slot->offset + slot->done, length, existed, placer->func_data);
    slot->done += length;
}

/* The page is there: whoever ran into it before it was sleeps on. */
static gboolean pass_existing(UffdPlacer *placer, Slot *slot, GError **error)
{
    if (!uffd_wake(placer->uffd, slot->address + slot->done, slot->page_size, error))
        return FALSE;
    if (!slot->existed)
        slot->existed = g_array_new(FALSE, FALSE, sizeof(guint64));
    g_array_append_val(slot->existed, slot->done);
    advance(placer, slot, slot->page_size, TRUE);
    return TRUE;
}

static void count(UffdPlacer *placer, const Slot *slot, UffdPlaced how)
{
    pthread_mutex_lock(&placer->lock);
    if (slot->data)
        placer->stats.copies++;
    else
        placer->stats.zeropages++;
    placer->stats.again += how == UFFD_AGAIN;
    pthread_mutex_unlock(&placer->lock);
}

/* *most: how much at once, less when the owner has split its mapping. *ret_how: UFFD_PLACED also when nothing
 * is left. */
static gboolean step(UffdPlacer *placer, Slot *slot, guint64 *most, UffdPlaced *ret_how,
                     GError **error)
{
    guint64 length, done = 0;
    gboolean ok = TRUE;

    *ret_how = UFFD_PLACED;
    uffd_placer_hold(placer);
    if (next_step(slot, &length)) {
        g_autoptr(GError) cause = NULL;

        length = MIN(length, *most);
        *ret_how = placer_place(placer, slot, slot->done, length, &done, &cause);
        advance(placer, slot, done, FALSE);
        if (*ret_how == UFFD_EXISTED)
            ok = pass_existing(placer, slot, error);
        else if (*ret_how == UFFD_FAILED && length - done > slot->page_size)
            *most = slot->page_size;
        else if (*ret_how == UFFD_FAILED)
            ok = FALSE;
        if (!ok && cause)
            g_propagate_error(error, g_steal_pointer(&cause));
    }
    uffd_placer_release(placer);
    count(placer, slot, *ret_how);
    return ok;
}

static gboolean place_slot(UffdPlacer *placer, Slot *slot, GError **error)
{
    guint64 most = G_MAXUINT64;
    UffdPlaced how;

    while (slot->done < slot->length && !g_atomic_int_get(&placer->stopping)) {
        if (!step(placer, slot, &most, &how, error))
            return FALSE;
        if (how == UFFD_AGAIN)
            g_usleep(AGAIN_US);
    }
    return TRUE;
}

/* NULL: the end. */
static Slot *next_slot(UffdPlacer *placer)
{
    Slot *slot = NULL;

    pthread_mutex_lock(&placer->lock);
    placer->is_idle = TRUE;
    while (placer->n_placed == placer->n_in && !g_atomic_int_get(&placer->stopping))
        pthread_cond_wait(&placer->work, &placer->lock);
    placer->is_idle = FALSE;
    if (!g_atomic_int_get(&placer->stopping) && !placer->error)
        slot = placer_slot(placer, placer->n_placed);
    pthread_mutex_unlock(&placer->lock);
    return slot;
}

/* It is not waked for each slot: when all are done, or when it waits for room and there is enough of it. */
static void give_back(UffdPlacer *placer, const Slot *slot, GError *error)
{
    guint64 left;

    pthread_mutex_lock(&placer->lock);
    if (error) {
        placer->error = error;
    } else {
        placer->n_placed++;
        placer->waiting -= slot->room;
    }
    left = placer->n_in - placer->n_placed;
    if (error || left == 0 ||
        (placer->wants_room && left <= UFFD_PLACER_SLOTS / 2 &&
         placer->waiting <= UFFD_PLACER_ROOM / 2))
        placer_signal_owner(placer);
    pthread_mutex_unlock(&placer->lock);
}

gpointer placer_thread(gpointer data)
{
    UffdPlacer *placer = data;
    Slot *slot;

    step_back();
    while ((slot = next_slot(placer))) {
        GError *error = NULL;

        place_slot(placer, slot, &error);
        if (!g_atomic_int_get(&placer->stopping))
            give_back(placer, slot, error);
        else
            g_clear_error(&error);
    }
    return NULL;
}
