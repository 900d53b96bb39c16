/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mapped destination's table of transitions, and what is done about each frame of the main
 * channel. */
#include "config.h"

#include "ram/mapped/incoming.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "ram/mapped/frames.h"
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

/* ---- phases ---- */

static gboolean take_advise(MappedIncoming *in, GError **error)
{
    if (!mapped_incoming_check(in, MAPPED_INCOMING_EV_ADVISE, error))
        return FALSE;
    in->awaits = AWAITS_ADVISED;
    in->client->ops->advise(in->client);
    return TRUE;
}

/* What is missing is dropped first: only then it is missing for the kernel as well. TRUE with
 * the state still DISCARD: later. */
static gboolean get_ready_to_listen(MappedIncoming *in, GError **error)
{
    if (in->state != MAPPED_INCOMING_DISCARD)
        return TRUE;
    if (!mapped_incoming_sweep(in, error))
        return FALSE;
    if (in->awaits != AWAITS_NOTHING)
        return TRUE;
    if (!in->swept) {
        mapped_incoming_wake_at(in, in->now_us);
        return TRUE;
    }
    in->awaits = AWAITS_LISTENING;
    in->client->ops->listen(in->client);
    return TRUE;
}

/* Through when it does: the source waits for that before it gives its guest up. */
static gboolean take_listen(MappedIncoming *in, gboolean *ret_done, GError **error)
{
    if (!get_ready_to_listen(in, error))
        return FALSE;
    if (in->state == MAPPED_INCOMING_DISCARD)
        return TRUE;
    *ret_done = TRUE;
    return mapped_incoming_enter(in, MAPPED_INCOMING_EV_PHASE_LISTEN, error);
}

static gboolean take_running(MappedIncoming *in, gboolean *ret_done, GError **error)
{
    if (!get_ready_to_listen(in, error))
        return FALSE;
    if (in->state == MAPPED_INCOMING_DISCARD)
        return TRUE;
    if (!mapped_incoming_check(in, MAPPED_INCOMING_EV_RUNNING, error))
        return FALSE;
    if (in->recovers) {
        *ret_done = TRUE;
        return mapped_incoming_enter(in, MAPPED_INCOMING_EV_RUNNING, error);
    }
    in->awaits = AWAITS_RUNNING;
    in->run_asked = TRUE;
    in->client->ops->device(in->client, (const guint8 *)"", 0, TRUE);
    in->client->ops->run(in->client);
    return TRUE;
}

static gboolean take_checkpoint_phase(MappedIncoming *in, MappedPhase phase, gboolean *ret_done,
                                      GError **error)
{
    if (!(session_features(in->session) & SESSION_FEATURE_COLO)) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL, _("PHASE %s was not agreed on"),
                    mapped_phase_name(phase));
        return FALSE;
    }
    if (phase == MAPPED_PHASE_COMMIT)
        return mapped_incoming_take_commit(in, error);
    if (phase == MAPPED_PHASE_CHECKPOINT)
        return mapped_incoming_begin_checkpoint(in, ret_done, error);
    *ret_done = TRUE;
    return mapped_incoming_take_failover(in, error);
}

static gboolean take_phase(MappedIncoming *in, GBytes *body, gboolean *ret_done, GError **error)
{
    MappedPhase phase;

    if (!mapped_phase_body_decode(body, &phase, error))
        return FALSE;
    switch (phase) {
    case MAPPED_PHASE_ADVISE:
        return take_advise(in, error);
    case MAPPED_PHASE_DISCARD:
        *ret_done = TRUE;
        return mapped_incoming_enter(in, MAPPED_INCOMING_EV_PHASE_DISCARD, error);
    case MAPPED_PHASE_LISTEN:
        return take_listen(in, ret_done, error);
    case MAPPED_PHASE_RUNNING:
        return take_running(in, ret_done, error);
    default:
        return take_checkpoint_phase(in, phase, ret_done, error);
    }
}

/* ---- the device state ---- */

static gboolean take_data(MappedIncoming *in, GBytes *body, gboolean *ret_done, GError **error)
{
    gsize len;
    const guint8 *bytes = g_bytes_get_data(body, &len);

    if (!mapped_incoming_keep_device(in, body, ret_done, error) || *ret_done)
        return *ret_done;
    if (!get_ready_to_listen(in, error))
        return FALSE;
    if (in->state == MAPPED_INCOMING_DISCARD)
        return TRUE;
    *ret_done = TRUE;
    in->device_bytes += len;
    if (in->recovers || in->device_bytes > MEMORY_DEVICE_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    in->recovers ? _("DATA in a recovery: the devices are here already")
                                 : _("DATA: more than %d bytes of device state"),
                    MEMORY_DEVICE_MAX);
        return FALSE;
    }
    if (!mapped_incoming_enter(in, MAPPED_INCOMING_EV_DATA, error))
        return FALSE;
    in->client->ops->device(in->client, bytes, len, FALSE);
    return TRUE;
}

/* ---- the end of RAM ---- */

static gboolean check_complete(const MappedIncoming *in, guint64 sent, GError **error)
{
    if (in->pages_come != sent) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("RAM_END: %" PRIu64 " pages were sent, %" PRIu64 " have come"), sent,
                    in->pages_come);
        return FALSE;
    }
    if (in->postcopy && in->missing > 0) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("RAM_END: %" PRIu64 " pages are still missing"), in->missing);
        return FALSE;
    }
    return TRUE;
}

static const MappedFeed *find_bulk(const MappedIncoming *in, guint number)
{
    for (guint i = 0; i < in->bulk->len; i++) {
        const MappedFeed *feed = in->bulk->pdata[i];

        if (lane_number(feed->lane) == number)
            return feed;
    }
    return NULL;
}

/* TRUE with *ret_all FALSE: pages are still on their way. */
static gboolean have_all_come(const MappedIncoming *in, const RamEnd *end, gboolean *ret_all,
                              GError **error)
{
    *ret_all = lane_consumed_seq(in->lane) >= end->preempt_seq &&
               !mapped_incoming_is_placing(in);
    for (guint i = 0; i < end->n_bulk; i++) {
        const MappedFeed *feed = find_bulk(in, i + 1);

        if (!feed && end->bulk_seq[i] > 0) {
            g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                        _("RAM_END: there is no bulk channel %u"), i + 1);
            return FALSE;
        }
        *ret_all &= !feed || lane_consumed_seq(feed->lane) >= end->bulk_seq[i];
    }
    return TRUE;
}

static gboolean take_ram_end(MappedIncoming *in, GBytes *body, gboolean *ret_done, GError **error)
{
    gboolean all;
    RamEnd end;

    if (!ram_end_body_decode(body, &end, error) ||
        !mapped_incoming_check(in, MAPPED_INCOMING_EV_RAM_END, error) ||
        !have_all_come(in, &end, &all, error))
        return FALSE;
    if (!all)
        return TRUE;
    *ret_done = TRUE;
    return check_complete(in, end.pages, error) &&
           mapped_incoming_enter(in, MAPPED_INCOMING_EV_RAM_END, error);
}

/* ---- the main channel's frames, in order ---- */

static gboolean take_frame(MappedIncoming *in, FrameType type, GBytes *body, gboolean *ret_done,
                           GError **error)
{
    switch (type) {
    case FRAME_BLOCKS:
        *ret_done = TRUE;
        return mapped_incoming_take_blocks(in, body, error);
    case FRAME_PHASE:
        return take_phase(in, body, ret_done, error);
    case FRAME_DISCARD:
        *ret_done = TRUE;
        return mapped_incoming_take_discard(in, body, error);
    case FRAME_DATA:
        return take_data(in, body, ret_done, error);
    case FRAME_RAM_END:
        return take_ram_end(in, body, ret_done, error);
    default:
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL, _("%s is not for a memory client"),
                    frame_type_name(type));
        return FALSE;
    }
}

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
    } else if (!done && !take_frame(in, type, body, &done, error)) {
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
