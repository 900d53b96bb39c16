/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages that the machine places in QEMU's memory by itself, and what it has to know and tell of them in a
 * recovery. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/incoming_priv.h"
#include "util/autofd.h"

/* What the session before may have placed, and not noted as it was killed, must not come on the stream: until
 * the memory is offered, or refused, or this long, pages wait. */
#define AWAIT_US (10 * G_USEC_PER_SEC)

/* ---- what is offered ---- */

gboolean incoming_set_record(Incoming *in, int fd, GError **error)
{
    autofd owned = fd;
    PlacedRecord *record;

    if (in->state != INCOMING_NONE || in->record || in->placing) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                            _("the record of placed pages comes too late"));
        return FALSE;
    }
    record = placed_record_open(owned, error);
    if (!record)
        return FALSE;
    in->awaits_placing = !placed_record_is_empty(record);
    in->record = record;
    return TRUE;
}

/* The record that came before the blocks, or one that comes with the memory. */
static PlacedRecord *take_record(Incoming *in, int fd, GError **error)
{
    return in->record ? g_steal_pointer(&in->record) : placed_record_open(fd, error);
}

static void on_placed(guint block, guint64 offset, guint64 length, gboolean existed,
                      gpointer data);
static void note_in_thread(guint block, guint64 offset, guint64 length, gboolean existed,
                           gpointer data);

static gboolean can_be_set(Incoming *in, GError **error)
{
    const char *why = NULL;

    if (in->state != INCOMING_RUNNING)
        why = _("not in this state");
    else if (in->placing_state != PLACING_OFF)
        why = _("that was decided before");
    else if (in->wants_preempt)
        /* QEMU 8.0 and newer waits at the end for each page that it has asked for to come there. */
        why = _("QEMU has a preempt connection of its own");
    if (!why)
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_STATE,
                _("pages are not placed in QEMU's memory directly: %s"), why);
    return FALSE;
}

void incoming_refuse_placing(Incoming *in, const char *why)
{
    in->awaits_placing = FALSE;
    if (in->placing_state != PLACING_OFF)
        return;
    in->placing_state = PLACING_REFUSED;
    in->placing_why = g_strdup(why);
}

gboolean incoming_set_placing(Incoming *in, int uffd, int record_fd, const PlacingRange *ranges,
                              gsize n, GError **error)
{
    autofd owned = uffd, owned_record = record_fd;
    PlacedRecord *record = NULL;
    GError *cause = NULL;

    if (can_be_set(in, &cause))
        record = take_record(in, owned_record, &cause);
    if (record)
        in->placing = placing_new(in->blocks, in->lengths_rounded, autofd_steal(&owned), record,
                                  ranges, n, &cause);
    if (in->placing) {
        /* Without a thread the relay's does it. */
        in->placer = placing_new_placer(in->placing, on_placed, note_in_thread, in, NULL);
        in->awaits_placing = FALSE;
        in->placing_state = PLACING_ON;
        return TRUE;
    }
    /* One that was not taken is still what a recovery has to be told of. */
    if (record)
        in->record = record;
    incoming_refuse_placing(in, cause->message);
    g_propagate_error(error, cause);
    return FALSE;
}

PlacingState incoming_placing_state(const Incoming *in, const char **ret_why)
{
    *ret_why = in->placing_why;
    return in->placing_state;
}

gboolean incoming_awaits_placing(Incoming *in, gint64 now_us)
{
    if (!in->awaits_placing || in->state != INCOMING_RUNNING)
        return FALSE;
    if (in->awaits_until_us == 0)
        in->awaits_until_us = now_us + AWAIT_US;
    if (now_us < in->awaits_until_us)
        return TRUE;
    incoming_refuse_placing(in, _("QEMU's userfaultfd did not come in time"));
    return FALSE;
}

gint64 incoming_due(const Incoming *in)
{
    if (in->is_due)
        return INCOMING_DUE_NOW;
    return in->awaits_placing && in->awaits_until_us ? in->awaits_until_us : G_MAXINT64;
}

/* ---- what was placed before ---- */

void incoming_merge_placed(const Incoming *in, const char *name, guint64 first, guint8 *bytes,
                           gsize len)
{
    guint index;

    if (in->record && placed_record_find(in->record, name, &index))
        placed_record_merge(in->record, index, first, bytes, len);
}

/* ---- pages ---- */

gboolean incoming_goes_direct(const Incoming *in, guint block, guint64 offset)
{
    return in->placing && placing_takes(in->placing, block, offset);
}

/* In place: only now it counts. */
static void on_placed(guint block, guint64 offset, guint64 length, gboolean existed, gpointer data)
{
    Incoming *in = data;
    gsize target = ram_blocks_target_page(in->blocks);
    guint64 host = ram_blocks_host_page(in->blocks, block);
    guint64 n = length / target;
    guint64 before = bitmap_count_range(in->received[block], offset / target, n);

    placing_note(in->placing, block, offset, length);
    bitmap_set_range(in->received[block], offset / target, n);
    in->pages_placed += n - before;
    in->stats.pages_direct += n - before;
    in->stats.duplicates += before;
    for (guint64 at = offset; page_set_size(in->asked) > 0 && at < offset + length; at += host)
        incoming_note_waited(in, block, at, in->now_us);
}

/* Should the helper be killed now, the next one is to know of it. */
static void note_in_thread(guint block, guint64 offset, guint64 length, gboolean existed,
                           gpointer data)
{
    const Incoming *in = data;

    placing_note(in->placing, block, offset, length);
}

static void count(Incoming *in, const Feed *feed, const QemuPage *page)
{
    if (feed->is_urgent)
        in->stats.pages_urgent++;
    else
        in->stats.pages_background++;
    if (page->kind == QEMU_PAGE_ZERO)
        in->stats.pages_zero++;
    else
        in->stats.pages_normal++;
}

gboolean incoming_direct_takes(const Feed *feed)
{
    const RamSink *sink = feed->direct ? uffd_sink_base(feed->direct) : NULL;

    return !sink || sink->ops->room(sink) > 0;
}

gboolean incoming_place_now(Incoming *in, guint block, guint64 offset)
{
    gboolean placed;

    if (!in->placer || !uffd_placer_has(in->placer, block, offset))
        return FALSE;
    uffd_placer_hold(in->placer);
    placed = uffd_placer_place_now(in->placer, block, offset);
    uffd_placer_release(in->placer);
    return placed;
}

/* UffdWaitedFunc */
static guint64 next_waited(guint block, guint64 offset, guint64 end, gpointer data)
{
    const Incoming *in = data;
    guint64 host = ram_blocks_host_page(in->blocks, block);

    if (page_set_size(in->asked) == 0)
        return end;
    while (offset < end && !page_set_contains(in->asked, block, offset))
        offset += host;
    return MIN(offset, end);
}

gboolean incoming_place_direct(Incoming *in, Feed *feed, const QemuPage *page)
{
    RamSink *sink;

    if (!feed->direct) {
        feed->direct = placing_new_sink(in->placing, on_placed, in);
        if (!feed->is_urgent)
            uffd_sink_set_placer(feed->direct, in->placer, next_waited);
    }
    if (!incoming_direct_takes(feed))
        return FALSE;
    sink = uffd_sink_base(feed->direct);
    sink->ops->place(sink, page);
    count(in, feed, page);
    return TRUE;
}

gboolean incoming_direct_is_idle(const Feed *feed)
{
    const RamSink *sink = feed->direct ? uffd_sink_base(feed->direct) : NULL;

    return !sink || sink->ops->is_empty(sink);
}

gboolean incoming_flush_direct(Incoming *in, Feed *feed, GError **error)
{
    RamSink *sink = feed->direct ? uffd_sink_base(feed->direct) : NULL;

    if (!sink)
        return TRUE;
    if (!sink->ops->flush(sink, error))
        return FALSE;
    in->is_due |= !sink->ops->is_empty(sink) && !uffd_sink_awaits_placer(feed->direct);
    return TRUE;
}

gboolean incoming_collect(Incoming *in, GError **error)
{
    return !in->placer || uffd_placer_collect(in->placer, error);
}

void incoming_on_session_end(Incoming *in)
{
    if (in->placer)
        uffd_placer_stop(in->placer);
}

gboolean incoming_is_placing(const Incoming *in)
{
    return in->placer && !uffd_placer_is_idle(in->placer);
}

int incoming_placing_fd(const Incoming *in)
{
    return in->placer ? uffd_placer_fd(in->placer) : -1;
}
