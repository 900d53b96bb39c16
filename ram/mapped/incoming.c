/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mapped destination's table of transitions, and which channel's frame comes next. */
#include "config.h"

#include "ram/mapped/incoming.h"

#include <glib/gi18n.h>

#include "ram/mapped/incoming_priv.h"
#include "util/autofd.h"

/* Frames of the background in one run: what is waited for must not stand behind a window of
 * them. */
#define RUN_FRAMES_MAX 8

/* ---- the table ---- */

#define IN(state) (1u << MAPPED_INCOMING_##state)
#define COMING (IN(CHECKPOINT) | IN(CHECKPOINT_DEVICE))
#define SAME MAPPED_INCOMING_STATE_MAX

static const struct {
    guint from; /* states */
    MappedIncomingEvent event;
    MappedIncomingState next;
} rows[] = {
    { IN(NONE), MAPPED_INCOMING_EV_BLOCKS, MAPPED_INCOMING_SETUP },
    /* What was paused: the client listens, and its guest runs. */
    { IN(NONE), MAPPED_INCOMING_EV_RECOVERY, MAPPED_INCOMING_LISTENING },
    { IN(SETUP), MAPPED_INCOMING_EV_ADVISE, MAPPED_INCOMING_ADVISE },
    { IN(ADVISE) | IN(RUNNING), MAPPED_INCOMING_EV_PAGES, SAME },
    /* These have no order with the main channel: where they may come and are not in time, they
     * wait. */
    { IN(ADVISE) | IN(LISTENING) | IN(RUNNING), MAPPED_INCOMING_EV_BULK_PAGES, SAME },
    { IN(LISTENING) | IN(RUNNING), MAPPED_INCOMING_EV_URGENT_PAGES, SAME },
    /* a guest that goes on over here without all its memory */
    { IN(ADVISE), MAPPED_INCOMING_EV_PHASE_DISCARD, MAPPED_INCOMING_DISCARD },
    { IN(DISCARD), MAPPED_INCOMING_EV_DISCARD, SAME },
    { IN(DISCARD), MAPPED_INCOMING_EV_LISTENING, MAPPED_INCOMING_LISTENING },
    { IN(LISTENING), MAPPED_INCOMING_EV_PHASE_LISTEN, SAME },
    { IN(LISTENING), MAPPED_INCOMING_EV_DATA, SAME },
    { IN(LISTENING), MAPPED_INCOMING_EV_RUNNING, MAPPED_INCOMING_RUNNING },
    /* one that has it all */
    { IN(ADVISE) | IN(DEVICE), MAPPED_INCOMING_EV_DATA, MAPPED_INCOMING_DEVICE },
    { IN(ADVISE) | IN(DEVICE), MAPPED_INCOMING_EV_RUNNING, MAPPED_INCOMING_RUNNING },
    { IN(RUNNING), MAPPED_INCOMING_EV_RAM_END, MAPPED_INCOMING_END },
    /* one that follows the source's by checkpoints */
    { IN(ADVISE), MAPPED_INCOMING_EV_FIRST_CHECKPOINT, MAPPED_INCOMING_FILL },
    { IN(FILL), MAPPED_INCOMING_EV_FILLED, MAPPED_INCOMING_CHECKPOINT },
    { IN(COLO), MAPPED_INCOMING_EV_PHASE_CHECKPOINT, MAPPED_INCOMING_CHECKPOINT },
    { IN(CHECKPOINT), MAPPED_INCOMING_EV_PAGES, SAME },
    { IN(CHECKPOINT), MAPPED_INCOMING_EV_BULK_PAGES, SAME },
    { COMING, MAPPED_INCOMING_EV_DATA, MAPPED_INCOMING_CHECKPOINT_DEVICE },
    { COMING, MAPPED_INCOMING_EV_FIRST_COMMIT, MAPPED_INCOMING_FLUSH },
    { COMING, MAPPED_INCOMING_EV_COMMIT, MAPPED_INCOMING_STOP },
    { IN(STOP), MAPPED_INCOMING_EV_STOPPED, MAPPED_INCOMING_FLUSH },
    { IN(FLUSH), MAPPED_INCOMING_EV_FLUSHED, MAPPED_INCOMING_RESTART },
    { IN(RESTART), MAPPED_INCOMING_EV_RESTARTED, MAPPED_INCOMING_COLO },
    { COMING | IN(COLO), MAPPED_INCOMING_EV_PHASE_FAILOVER, MAPPED_INCOMING_END },
};

gboolean mapped_incoming_has_row(MappedIncomingState state, MappedIncomingEvent event,
                                 MappedIncomingState *ret_next)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].event == event && (rows[i].from & (1u << state))) {
            *ret_next = rows[i].next == SAME ? state : rows[i].next;
            return TRUE;
        }
    }
    return FALSE;
}

const char *mapped_incoming_state_name(MappedIncomingState state)
{
    static const char *const names[] = {
        "none",    "setup",      "advise",            "device",    "discard",
        "listening", "running",  "end",               "checkpoint", "checkpoint-device",
        "checkpoint-fill", "checkpoint-stop", "checkpoint-flush", "checkpoint-restart", "colo",
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == MAPPED_INCOMING_STATE_MAX);
    return names[state];
}

const char *mapped_incoming_event_name(MappedIncomingEvent event)
{
    static const char *const names[] = {
        "BLOCKS",
        "BLOCKS of a recovery",
        "PHASE advise",
        "PAGES",
        "PAGES on a bulk channel",
        "PAGES on the preempt channel",
        "PHASE discard",
        "DISCARD",
        "listening",
        "PHASE listen",
        "DATA",
        "PHASE running",
        "RAM_END",
        "PHASE checkpoint of the first checkpoint",
        "PHASE checkpoint",
        "PHASE commit of the first checkpoint",
        "PHASE commit",
        "the copy",
        "the guest's stop",
        "the end of copying",
        "the guest's start",
        "PHASE failover",
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == MAPPED_INCOMING_EVENT_MAX);
    return names[event];
}

gboolean mapped_incoming_check(const MappedIncoming *in, MappedIncomingEvent event, GError **error)
{
    MappedIncomingState next;

    if (mapped_incoming_has_row(in->state, event, &next))
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL, _("%s is not expected in state %s"),
                mapped_incoming_event_name(event), mapped_incoming_state_name(in->state));
    return FALSE;
}

gboolean mapped_incoming_enter(MappedIncoming *in, MappedIncomingEvent event, GError **error)
{
    MappedIncomingState before = in->state;

    if (!mapped_incoming_check(in, event, error))
        return FALSE;
    mapped_incoming_has_row(before, event, &in->state);
    if (in->state != before)
        in->client->ops->state(in->client, mapped_incoming_state_name(in->state));
    return TRUE;
}

/* ---- life ---- */

MappedIncoming *mapped_incoming_new(Session *session)
{
    MappedIncoming *in = g_new0(MappedIncoming, 1);

    in->session = session;
    in->wake_us = G_MAXINT64;
    in->uffd = -1;
    in->blocks = ram_blocks_new();
    in->flags = g_array_new(FALSE, FALSE, sizeof(guint32));
    in->main.in = in->urgent.in = in;
    in->bulk = g_ptr_array_new_with_free_func(g_free);
    in->requested = requested_new();
    in->clients = uffd_clients_new();
    in->shared = g_ptr_array_new_with_free_func(mapped_incoming_shared_free);
    in->times = block_time_new();
    g_queue_init(&in->fills);
    g_queue_init(&in->requests);
    return in;
}

void mapped_incoming_free(MappedIncoming *in)
{
    if (!in)
        return;
    mapped_incoming_feed_clear(&in->main);
    mapped_incoming_feed_clear(&in->urgent);
    for (guint i = 0; i < in->bulk->len; i++)
        mapped_incoming_feed_clear(in->bulk->pdata[i]);
    g_ptr_array_unref(in->bulk);
    uffd_sink_free(in->fill);
    uffd_placer_free(in->placer);
    g_ptr_array_unref(in->shared);
    uffd_clients_free(in->clients);
    uffd_map_free(in->map);
    autofd_clear(&in->uffd);
    requested_free(in->requested);
    block_time_free(in->times);
    received_map_free(in->received);
    mapped_incoming_drop_cache(in);
    guest_memory_free(in->memory);
    ram_blocks_free(in->blocks);
    g_array_unref(in->flags);
    g_queue_clear_full(&in->fills, g_free);
    g_queue_clear_full(&in->requests, g_free);
    g_free(in->region_of);
    g_free(in->block_of);
    g_free(in->scratch);
    g_free(in);
}

gboolean mapped_incoming_attach(MappedIncoming *in, MemoryLayout *layout, MemoryClient *client,
                                GError **error)
{
    g_return_val_if_fail(!in->client, FALSE);
    in->memory = guest_memory_new(layout, error);
    if (!in->memory)
        return FALSE;
    in->received = received_map_new(layout, error);
    if (!in->received || !mapped_incoming_make_log(in, layout, error))
        return FALSE;
    in->layout = layout;
    in->client = client;
    in->recovers = layout->recovers;
    in->uffd = autofd_steal(&layout->uffd);
    return TRUE;
}

void mapped_incoming_set_lane(MappedIncoming *in, Lane *lane)
{
    in->lane = in->urgent.lane = lane;
}

void mapped_incoming_add_bulk(MappedIncoming *in, Lane *lane)
{
    MappedFeed *feed = g_new0(MappedFeed, 1);

    feed->in = in;
    feed->lane = lane;
    g_ptr_array_add(in->bulk, feed);
    mapped_incoming_add_sink(in, feed);
}

/* ---- what goes wrong at this end ---- */

void mapped_incoming_fail(MappedIncoming *in, const char *reason)
{
    if (in->over)
        return;
    /* Its memory is all here, and the source hears of that: what becomes of it is not ours. */
    if (in->state == MAPPED_INCOMING_END) {
        in->deaf = TRUE;
        return;
    }
    in->over = TRUE;
    /* Before the session is agreed on there is nobody to tell but the user. */
    if (!session_on_qemu_broken(in->session, reason, NULL) &&
        !session_on_qemu_refused(in->session, reason, NULL))
        session_on_cancel(in->session, reason, NULL);
}

gboolean mapped_incoming_judge(MappedIncoming *in, GError *cause, GError **error)
{
    if (!cause)
        return TRUE;
    if (g_error_matches(cause, RAM_ERROR, RAM_ERROR_PROTOCOL)) {
        g_propagate_error(error, cause);
        return FALSE;
    }
    mapped_incoming_fail(in, cause->message);
    g_error_free(cause);
    return TRUE;
}

void mapped_incoming_wake_at(MappedIncoming *in, gint64 us)
{
    in->wake_us = MIN(in->wake_us, us);
}

/* ---- the main channel's frames, in order ---- */

/* After the switch-over, or before it, or of a checkpoint. */
static gboolean move_pages(MappedFeed *feed, GError **error)
{
    if (feed->in->cache)
        return mapped_incoming_cache(feed, error);
    return feed->in->postcopy ? mapped_incoming_place(feed, error)
                              : mapped_incoming_load(feed, error);
}

static gboolean check_main_pages(const MappedIncoming *in, GError **error)
{
    if (!mapped_incoming_check(in, MAPPED_INCOMING_EV_PAGES, error))
        return FALSE;
    if (in->state != MAPPED_INCOMING_RUNNING || in->postcopy)
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                _("PAGES for a guest that runs on all of its memory"));
    return FALSE;
}

/* The oldest frame of the main channel. *ret_moved: it is through. */
static gboolean turn_main(MappedIncoming *in, gboolean *ret_moved, GError **error)
{
    gboolean done = in->control_done;
    FrameType type;
    GBytes *body;

    *ret_moved = FALSE;
    body = session_received(in->session, &type);
    if (!body || (in->awaits != AWAITS_NOTHING && !done))
        return TRUE;
    if (type == FRAME_PAGES) {
        if (!in->main.in_body && (!check_main_pages(in, error) ||
                                  !mapped_incoming_begin_pages(&in->main, body, error)))
            return FALSE;
        if (!move_pages(&in->main, error))
            return FALSE;
        done = !in->main.in_body;
    } else if (!done && !mapped_incoming_take_frame(in, type, body, &done, error)) {
        return FALSE;
    }
    if (done && !in->over) {
        in->control_done = FALSE;
        session_consume(in->session);
        *ret_moved = TRUE;
    }
    return TRUE;
}

/* ---- the other channels' ---- */

/* What comes on them may be ahead of the main channel. */
static gboolean is_early(const MappedIncoming *in, const MappedFeed *feed)
{
    switch (in->state) {
    case MAPPED_INCOMING_NONE:
    case MAPPED_INCOMING_SETUP:
    case MAPPED_INCOMING_DISCARD:
    case MAPPED_INCOMING_CHECKPOINT_DEVICE:
    case MAPPED_INCOMING_FILL:
    case MAPPED_INCOMING_STOP:
    case MAPPED_INCOMING_FLUSH:
    case MAPPED_INCOMING_RESTART:
    case MAPPED_INCOMING_COLO:
        return TRUE;
    case MAPPED_INCOMING_CHECKPOINT:
    case MAPPED_INCOMING_ADVISE:
    case MAPPED_INCOMING_DEVICE:
        return feed == &in->urgent;
    default:
        return FALSE;
    }
}

static gboolean turn_lane(MappedFeed *feed, gboolean *ret_moved, GError **error)
{
    MappedIncoming *in = feed->in;
    FrameType type;
    GBytes *body = feed->lane ? lane_received(feed->lane, &type) : NULL;

    *ret_moved = FALSE;
    if (!body || is_early(in, feed))
        return TRUE;
    if (!feed->in_body &&
        (!mapped_incoming_check(in,
                                feed == &in->urgent ? MAPPED_INCOMING_EV_URGENT_PAGES
                                                    : MAPPED_INCOMING_EV_BULK_PAGES,
                                error) ||
         !mapped_incoming_begin_pages(feed, body, error)))
        return FALSE;
    if (!move_pages(feed, error))
        return FALSE;
    if (!feed->in_body) {
        lane_consume(feed->lane);
        *ret_moved = TRUE;
    }
    return TRUE;
}

/* ---- running ---- */

/* One turn of everything: what is waited for, all of it, then one frame of each channel of the
 * background. */
static gboolean turn(MappedIncoming *in, guint *frames, GError **error)
{
    gboolean moved;

    *frames = 0;
    if (in->placer && !uffd_placer_collect(in->placer, error))
        return FALSE;
    do {
        if (!mapped_incoming_serve(in, error) || !turn_lane(&in->urgent, &moved, error))
            return FALSE;
    } while (moved && !in->over);
    if (!turn_main(in, &moved, error))
        return FALSE;
    *frames += moved;
    for (guint i = 0; i < in->bulk->len && !in->over; i++) {
        if (!turn_lane(in->bulk->pdata[i], &moved, error))
            return FALSE;
        *frames += moved;
    }
    return TRUE;
}

static void send_eof(MappedIncoming *in)
{
    if (in->state != MAPPED_INCOMING_END || in->eof_sent)
        return;
    in->eof_sent = TRUE;
    session_on_qemu_eof(in->session, NULL);
}

gboolean mapped_incoming_run(MappedIncoming *in, gint64 now_us, GError **error)
{
    guint left = RUN_FRAMES_MAX, frames = 1;
    GError *cause = NULL;

    in->wake_us = G_MAXINT64;
    in->now_us = now_us;
    while (in->client && !in->over && session_state_is_active(session_state(in->session)) &&
           frames > 0 && left > 0) {
        if (!turn(in, &frames, &cause)) {
            if (!mapped_incoming_judge(in, cause, error))
                return FALSE;
            break;
        }
        left -= MIN(left, frames);
        mapped_incoming_tell_received(in);
    }
    if (!in->client || in->over)
        return TRUE;
    mapped_incoming_end_watch(in);
    if (frames > 0)
        mapped_incoming_wake_at(in, now_us);
    send_eof(in);
    return TRUE;
}

gint64 mapped_incoming_wake_us(const MappedIncoming *in)
{
    return in->over ? G_MAXINT64 : in->wake_us;
}

/* ---- asking ---- */

MappedIncomingState mapped_incoming_state(const MappedIncoming *in)
{
    return in->state;
}

gboolean mapped_incoming_has_pages(const MappedIncoming *in)
{
    return in->pages_come > 0;
}

gboolean mapped_incoming_is_recovering(const MappedIncoming *in)
{
    return in->recovers && in->state < MAPPED_INCOMING_RUNNING;
}

void mapped_incoming_get_stats(const MappedIncoming *in, gint64 now_us, RamStats *ret_stats)
{
    BlockTimeStats times;

    block_time_get_stats(in->times, now_us, &times);
    *ret_stats = in->stats;
    ret_stats->requests_outstanding = requested_count(in->requested);
    ret_stats->blocked_us = times.any_us;
    ret_stats->blocked_all_us = times.all_us;
    ret_stats->blocked_threads_us = times.total_us;
    ret_stats->blocked_threads = times.threads;
    ret_stats->n_blocked_longest = block_time_longest(in->times, now_us, ret_stats->blocked_longest,
                                                      RAM_STATS_THREADS);
    ret_stats->ram_bytes = ram_blocks_bytes(in->blocks);
    ret_stats->ram_remaining_bytes = in->missing * mapped_incoming_target(in);
}
