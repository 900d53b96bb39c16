/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A ring of slots, and one of the bytes in them, that the owner fills, the thread places and the owner collects, in
 * that order. */
#include "config.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/eventfd.h>

#include "ram/uffd/placer_priv.h"
#include "util/autofd.h"

/* Zeros need no room: how much of them is a slot. */
#define ZERO_SLOT (16 * 1024 * 1024)

/* ---- how quick the kernel is ---- */

static gboolean wants_pace(UffdPlacer *placer)
{
    gboolean due;

    pthread_mutex_lock(&placer->lock);
    due = pace_is_due(&placer->pace);
    pthread_mutex_unlock(&placer->lock);
    return due;
}

void uffd_placer_note_pace(UffdPlacer *placer, guint64 bytes, gint64 ns)
{
    pthread_mutex_lock(&placer->lock);
    pace_note(&placer->pace, bytes, ns);
    pthread_mutex_unlock(&placer->lock);
}

UffdPlaced uffd_placer_copy(UffdPlacer *placer, guint64 address, const guint8 *source,
                            guint64 length, guint64 *ret_done, GError **error)
{
    gboolean measured = wants_pace(placer);
    PaceMark mark = { 0 };
    UffdPlaced how;

    if (measured)
        pace_begin(&mark);
    how = uffd_copy(placer->uffd, address, source, length, ret_done, error);
    if (measured)
        uffd_placer_note_pace(placer, *ret_done, pace_took(&mark));
    return how;
}

gboolean uffd_placer_is_quick(UffdPlacer *placer)
{
    gboolean quick;

    pthread_mutex_lock(&placer->lock);
    quick = placer->pace.quick;
    pthread_mutex_unlock(&placer->lock);
    return quick;
}

void placer_signal_owner(UffdPlacer *placer)
{
    if (placer->signalled)
        return;
    placer->signalled = TRUE;
    if (eventfd_write(placer->fd, 1) < 0)
        g_error("eventfd: %s", g_strerror(errno));
}

/* ---- life ---- */

UffdPlacer *uffd_placer_new(int uffd, UffdPlacedFunc func, UffdPlacedFunc note, gpointer data,
                            GError **error)
{
    UffdPlacer *placer = g_new0(UffdPlacer, 1);

    placer->uffd = uffd;
    placer->func = func;
    placer->note = note;
    placer->func_data = data;
    pthread_mutex_init(&placer->turn, NULL);
    pthread_mutex_init(&placer->uffd_lock, NULL);
    pthread_mutex_init(&placer->lock, NULL);
    pthread_cond_init(&placer->work, NULL);
    placer->bytes = g_malloc(UFFD_PLACER_ROOM);
    placer->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (placer->fd < 0)
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                    _("cannot make an eventfd: %s"), g_strerror(errno));
    else
        placer->thread = g_thread_try_new("place", placer_thread, placer, error);
    if (placer->thread)
        return placer;
    uffd_placer_free(placer);
    return NULL;
}

static void end_thread(UffdPlacer *placer)
{
    if (!placer->thread)
        return;
    pthread_mutex_lock(&placer->lock);
    g_atomic_int_set(&placer->stopping, 1);
    pthread_cond_signal(&placer->work);
    pthread_mutex_unlock(&placer->lock);
    g_thread_join(placer->thread);
    placer->thread = NULL;
}

void uffd_placer_free(UffdPlacer *placer)
{
    if (!placer)
        return;
    end_thread(placer);
    for (guint i = 0; i < UFFD_PLACER_SLOTS; i++) {
        g_clear_pointer(&placer->slots[i].existed, g_array_unref);
        g_clear_pointer(&placer->slots[i].ahead, g_array_unref);
    }
    g_free(placer->bytes);
    autofd_clear(&placer->fd);
    g_clear_error(&placer->error);
    pthread_cond_destroy(&placer->work);
    pthread_mutex_destroy(&placer->lock);
    pthread_mutex_destroy(&placer->uffd_lock);
    pthread_mutex_destroy(&placer->turn);
    g_free(placer);
}

/* ---- the owner's side ---- */

gboolean uffd_placer_takes(const UffdRange *range)
{
    return range->page_size <= UFFD_PLACER_SLOT && range->backing != UFFD_HUGETLB;
}

/* They are in one piece, so some may be left over at the end of the ring. FALSE: there is no room. */
static gboolean take_bytes(UffdPlacer *placer, Slot *slot, const guint8 *data, gsize length)
{
    gsize to_end = UFFD_PLACER_ROOM - placer->at;
    gsize left_over = length > to_end ? to_end : 0;

    slot->data = NULL;
    slot->room = 0;
    if (!data)
        return TRUE;
    if (placer->used + left_over + length > UFFD_PLACER_ROOM)
        return FALSE;
    if (length > to_end)
        placer->at = 0;
    slot->data = memcpy(placer->bytes + placer->at, data, length);
    slot->room = left_over + length;
    placer->used += slot->room;
    placer->at += length;
    return TRUE;
}

static void fill(Slot *slot, const UffdRange *range, guint64 offset, guint64 length)
{
    slot->block = range->block;
    slot->offset = offset;
    slot->address = range->address + (offset - range->offset);
    slot->length = length;
    slot->page_size = range->page_size;
    slot->done = slot->skip = slot->skipped = 0;
}

static void ask_for_room(UffdPlacer *placer)
{
    pthread_mutex_lock(&placer->lock);
    placer->wants_room = TRUE;
    placer->stats.full++;
    /* The thread may be through meanwhile. */
    if (placer->n_placed == placer->n_in)
        placer_signal_owner(placer);
    pthread_mutex_unlock(&placer->lock);
}

guint64 uffd_placer_submit(UffdPlacer *placer, const UffdRange *range, guint64 offset,
                           guint64 length, const guint8 *data)
{
    guint64 taken = MIN(length, data ? UFFD_PLACER_SLOT : ZERO_SLOT);
    /* Only the owner changes it. */
    guint64 n = placer->n_in;
    Slot *slot = placer_slot(placer, n);

    if (!placer->thread)
        return 0;
    if (n - placer->n_out == UFFD_PLACER_SLOTS || !take_bytes(placer, slot, data, taken)) {
        ask_for_room(placer);
        return 0;
    }
    fill(slot, range, offset, taken);
    pthread_mutex_lock(&placer->lock);
    placer->n_in = n + 1;
    placer->waiting += slot->room;
    if (placer->is_idle)
        pthread_cond_signal(&placer->work);
    pthread_mutex_unlock(&placer->lock);
    return taken;
}

/* All of it but what was passed over. */
static void report_plain(UffdPlacer *placer, const Slot *slot, guint64 begin, guint64 end)
{
    guint64 page = slot->page_size;

    for (guint64 at = begin; at < end;) {
        guint64 next = at;

        if (!slot->skipped) {
            placer->func(slot->block, slot->offset + at, end - at, FALSE, placer->func_data);
            return;
        }
        while (next < end && !(slot->skipped >> next / page & 1))
            next += page;
        if (next > at)
            placer->func(slot->block, slot->offset + at, next - at, FALSE, placer->func_data);
        at = next + page;
    }
}

/* Zeros that were placed before their turn exist when it comes, and have been reported. */
static gboolean was_ahead(const Slot *slot, guint64 at)
{
    for (guint i = 0; slot->ahead && i < slot->ahead->len; i++) {
        if (g_array_index(slot->ahead, guint64, i) == at)
            return TRUE;
    }
    return FALSE;
}

static void report(UffdPlacer *placer, Slot *slot)
{
    guint64 at = 0;

    for (guint i = 0; slot->existed && i < slot->existed->len; i++) {
        guint64 existed = g_array_index(slot->existed, guint64, i);

        report_plain(placer, slot, at, existed);
        if (!was_ahead(slot, existed))
            placer->func(slot->block, slot->offset + existed, slot->page_size, TRUE,
                         placer->func_data);
        at = existed + slot->page_size;
    }
    report_plain(placer, slot, at, slot->done);
    g_clear_pointer(&slot->existed, g_array_unref);
    g_clear_pointer(&slot->ahead, g_array_unref);
    placer->used -= slot->room;
}

gboolean uffd_placer_collect(UffdPlacer *placer, GError **error)
{
    guint64 n_placed;
    GError *cause = NULL;
    eventfd_t n;

    pthread_mutex_lock(&placer->lock);
    n_placed = placer->n_placed;
    if (placer->signalled && eventfd_read(placer->fd, &n) < 0)
        g_error("eventfd: %s", g_strerror(errno));
    placer->signalled = placer->wants_room = FALSE;
    if (placer->error)
        cause = g_error_copy(placer->error);
    pthread_mutex_unlock(&placer->lock);
    for (; placer->n_out < n_placed; placer->n_out++)
        report(placer, placer_slot(placer, placer->n_out));
    if (!cause)
        return TRUE;
    /* What there was of the slot that failed; the thread has ended, and there is no other. */
    if (!placer->failed)
        report(placer, placer_slot(placer, n_placed));
    placer->failed = TRUE;
    g_propagate_error(error, cause);
    return FALSE;
}

void uffd_placer_stop(UffdPlacer *placer)
{
    if (!placer->thread)
        return;
    end_thread(placer);
    for (; placer->n_out < placer->n_placed; placer->n_out++)
        report(placer, placer_slot(placer, placer->n_out));
    /* It may have been in the midst of one. */
    if (placer->n_out < placer->n_in && !placer->failed)
        report(placer, placer_slot(placer, placer->n_out));
    placer->n_out = placer->n_in;
    placer->failed = TRUE;
    placer->signalled = FALSE;
    autofd_clear(&placer->fd);
}

gboolean uffd_placer_is_idle(const UffdPlacer *placer)
{
    return placer->n_out == placer->n_in;
}

int uffd_placer_fd(const UffdPlacer *placer)
{
    return placer->fd;
}

void uffd_placer_hold(UffdPlacer *placer)
{
    pthread_mutex_lock(&placer->turn);
    pthread_mutex_lock(&placer->uffd_lock);
    pthread_mutex_unlock(&placer->turn);
}

void uffd_placer_release(UffdPlacer *placer)
{
    pthread_mutex_unlock(&placer->uffd_lock);
}

static void forget_in(Slot *slot, guint64 address, guint64 length)
{
    if (!slot->data)
        return;
    for (guint64 at = 0; at < slot->length; at += slot->page_size) {
        guint64 page = slot->address + at;

        if (page >= address && page - address < length)
            slot->skip |= 1ULL << at / slot->page_size;
    }
}

void uffd_placer_forget(UffdPlacer *placer, guint64 address, guint64 length)
{
    for (guint64 i = placer->n_out; i < placer->n_in; i++)
        forget_in(placer_slot(placer, i), address, length);
}

/* ---- before its turn ---- */

static Slot *find(UffdPlacer *placer, guint block, guint64 offset)
{
    for (guint64 i = placer->n_out; i < placer->n_in; i++) {
        Slot *slot = placer_slot(placer, i);

        if (slot->block == block && offset >= slot->offset &&
            offset - slot->offset < slot->length)
            return slot;
    }
    return NULL;
}

gboolean uffd_placer_has(UffdPlacer *placer, guint block, guint64 offset)
{
    return find(placer, block, offset) != NULL;
}

/* at: bytes in the slot. */
static gboolean is_passed_over(const Slot *slot, guint64 at)
{
    return slot->data && (slot->skip >> at / slot->page_size & 1);
}

/* Data must not come once more: the page may have been dropped again by then. */
static void pass_over(Slot *slot, guint64 at)
{
    if (slot->data) {
        slot->skip |= 1ULL << at / slot->page_size;
        return;
    }
    if (!slot->ahead)
        slot->ahead = g_array_new(FALSE, FALSE, sizeof(guint64));
    g_array_append_val(slot->ahead, at);
}

static gboolean place_page(UffdPlacer *placer, const Slot *slot, guint64 at, gboolean *ret_existed)
{
    guint64 done;
    UffdPlaced how = placer_place(placer, slot, at, slot->page_size, &done, NULL);

    *ret_existed = how == UFFD_EXISTED;
    return how == UFFD_PLACED ||
           (how == UFFD_EXISTED &&
            uffd_wake(placer->uffd, slot->address + at, slot->page_size, NULL));
}

/* What fails fails again when its turn comes, and is told then. Who waits for what is in place already may have
 * dropped it again: that is the owner's to see to, when it is reported. */
gboolean uffd_placer_place_now(UffdPlacer *placer, guint block, guint64 offset)
{
    Slot *slot = placer->thread ? find(placer, block, offset) : NULL;
    guint64 at = slot ? offset - slot->offset : 0;
    gboolean existed;

    if (!slot || at < slot->done || is_passed_over(slot, at) ||
        !place_page(placer, slot, at, &existed))
        return FALSE;
    pass_over(slot, at);
    pthread_mutex_lock(&placer->lock);
    placer->stats.ahead++;
    pthread_mutex_unlock(&placer->lock);
    placer->func(block, offset, slot->page_size, existed, placer->func_data);
    return TRUE;
}

void uffd_placer_get_stats(UffdPlacer *placer, UffdPlacerStats *ret_stats)
{
    pthread_mutex_lock(&placer->lock);
    *ret_stats = placer->stats;
    pthread_mutex_unlock(&placer->lock);
}
