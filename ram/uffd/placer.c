/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A ring of slots, and one of the bytes in them, that the owner fills, the thread places and the owner collects, in
 * that order. */
#include "config.h"

#include "ram/uffd/placer.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ram/uffd/pace.h"
#include "ram/uffd/uffd.h"
#include "util/autofd.h"

/* The most that is placed while the owner may have to wait for it (uffd_placer_hold()). */
#define COPY_STEP (32 * 1024)
#define ZERO_STEP (2 * 1024 * 1024)
/* Zeros need no room: how much of them is a slot. */
#define ZERO_SLOT (16 * 1024 * 1024)
/* The owner's mappings are changing. */
#define AGAIN_US 50
/* Who receives pages goes first when there is one processor for both. */
#define NICE 5
#define NICE_MAX 19

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
    GArray *existed; /* of guint64: offsets in the slot; NULL: none */
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

static Slot *slot_of(UffdPlacer *placer, guint64 n)
{
    return &placer->slots[n % UFFD_PLACER_SLOTS];
}

/* ---- how quick the kernel is ---- */

gboolean uffd_placer_wants_pace(UffdPlacer *placer)
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

gboolean uffd_placer_is_quick(UffdPlacer *placer)
{
    gboolean quick;

    pthread_mutex_lock(&placer->lock);
    quick = placer->pace.quick;
    pthread_mutex_unlock(&placer->lock);
    return quick;
}

/* ---- the thread ---- */

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
    guint64 most = slot->data ? COPY_STEP : ZERO_STEP;
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

static UffdPlaced place(UffdPlacer *placer, const Slot *slot, guint64 length, guint64 *ret_done,
                        GError **error)
{
    guint64 address = slot->address + slot->done;

    return slot->data
               ? uffd_copy(placer->uffd, address, slot->data + slot->done, length, ret_done, error)
               : uffd_zero(placer->uffd, address, length, ret_done, error);
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

/* done: bytes; ns: -1: not measured. */
static void count(UffdPlacer *placer, const Slot *slot, UffdPlaced how, guint64 done, gint64 ns)
{
    pthread_mutex_lock(&placer->lock);
    if (slot->data && ns >= 0)
        pace_note(&placer->pace, done, ns);
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
    gint64 began = uffd_placer_wants_pace(placer) ? pace_clock() : -1;
    guint64 length, done = 0;
    gboolean ok = TRUE;

    *ret_how = UFFD_PLACED;
    pthread_mutex_lock(&placer->turn);
    pthread_mutex_lock(&placer->uffd_lock);
    pthread_mutex_unlock(&placer->turn);
    if (next_step(slot, &length)) {
        g_autoptr(GError) cause = NULL;

        length = MIN(length, *most);
        *ret_how = place(placer, slot, length, &done, &cause);
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
    pthread_mutex_unlock(&placer->uffd_lock);
    count(placer, slot, *ret_how, done, began >= 0 ? pace_clock() - began : -1);
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

static void signal_owner(UffdPlacer *placer)
{
    if (placer->signalled)
        return;
    placer->signalled = TRUE;
    if (eventfd_write(placer->fd, 1) < 0)
        g_error("eventfd: %s", g_strerror(errno));
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
        slot = slot_of(placer, placer->n_placed);
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
        signal_owner(placer);
    pthread_mutex_unlock(&placer->lock);
}

static gpointer placer_thread(gpointer data)
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
    for (guint i = 0; i < UFFD_PLACER_SLOTS; i++)
        g_clear_pointer(&placer->slots[i].existed, g_array_unref);
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
        signal_owner(placer);
    pthread_mutex_unlock(&placer->lock);
}

guint64 uffd_placer_submit(UffdPlacer *placer, const UffdRange *range, guint64 offset,
                           guint64 length, const guint8 *data)
{
    guint64 taken = MIN(length, data ? UFFD_PLACER_SLOT : ZERO_SLOT);
    /* Only the owner changes it. */
    guint64 n = placer->n_in;
    Slot *slot = slot_of(placer, n);

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

static void report(UffdPlacer *placer, Slot *slot)
{
    guint64 at = 0;

    for (guint i = 0; slot->existed && i < slot->existed->len; i++) {
        guint64 existed = g_array_index(slot->existed, guint64, i);

        report_plain(placer, slot, at, existed);
        placer->func(slot->block, slot->offset + existed, slot->page_size, TRUE,
                     placer->func_data);
        at = existed + slot->page_size;
    }
    report_plain(placer, slot, at, slot->done);
    g_clear_pointer(&slot->existed, g_array_unref);
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
        report(placer, slot_of(placer, placer->n_out));
    if (!cause)
        return TRUE;
    /* What there was of the slot that failed; the thread has ended, and there is no other. */
    if (!placer->failed)
        report(placer, slot_of(placer, n_placed));
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
        report(placer, slot_of(placer, placer->n_out));
    /* It may have been in the midst of one. */
    if (placer->n_out < placer->n_in && !placer->failed)
        report(placer, slot_of(placer, placer->n_out));
    placer->n_out = placer->n_in;
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
        forget_in(slot_of(placer, i), address, length);
}

void uffd_placer_get_stats(UffdPlacer *placer, UffdPlacerStats *ret_stats)
{
    pthread_mutex_lock(&placer->lock);
    *ret_stats = placer->stats;
    pthread_mutex_unlock(&placer->lock);
}
