/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination's table of transitions, and which channel's frame comes next. */
#include "config.h"

#include "ram/incoming.h"

#include <glib/gi18n.h>

#include "ram/incoming_priv.h"

/* Frames of each channel that are placed in one go: each is up to 64 KiB. */
#define ROUNDS_MAX 4

/* ---- the table ---- */

#define IN(state) (1u << INCOMING_##state)
#define ANY                                                                                    \
    (IN(NONE) | IN(ADVISE) | IN(DISCARD) | IN(LISTENING) | IN(RUNNING) | IN(END))
#define SAME INCOMING_STATE_MAX

static const struct {
    guint from; /* states */
    IncomingEvent event;
    IncomingState next;
} rows[] = {
    { ANY, INCOMING_EV_DATA, SAME },
    { ANY, INCOMING_EV_QEMU_CHANNEL, SAME },
    { IN(NONE), INCOMING_EV_ADVISE, INCOMING_ADVISE },
    { IN(ADVISE), INCOMING_EV_DISCARD, INCOMING_DISCARD },
    /* A recovery has neither of them; a guest that is idle has nothing to discard. */
    { IN(NONE) | IN(ADVISE) | IN(DISCARD), INCOMING_EV_BLOCKS, INCOMING_LISTENING },
    { IN(LISTENING), INCOMING_EV_RUNNING, INCOMING_RUNNING },
    { IN(LISTENING) | IN(RUNNING) | IN(END), INCOMING_EV_REQUEST, SAME },
    { IN(RUNNING), INCOMING_EV_PAGES, SAME },
    { IN(RUNNING), INCOMING_EV_URGENT_PAGES, SAME },
    { IN(RUNNING), INCOMING_EV_RAM_END, INCOMING_END },
};

gboolean incoming_has_row(IncomingState state, IncomingEvent event, IncomingState *ret_next)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].event == event && (rows[i].from & (1u << state))) {
            *ret_next = rows[i].next == SAME ? state : rows[i].next;
            return TRUE;
        }
    }
    return FALSE;
}

const char *incoming_state_name(IncomingState state)
{
    static const char *const names[] = { "none",      "advise",  "discard",
                                         "listening", "running", "end" };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == INCOMING_STATE_MAX);
    return names[state];
}

const char *incoming_event_name(IncomingEvent event)
{
    static const char *const names[] = {
        "DATA",
        "PHASE advise",
        "PHASE discard",
        "BLOCKS",
        "PHASE running",
        "PAGES",
        "PAGES on the preempt channel",
        "RAM_END",
        "QEMU_CHANNEL",
        "a request",
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == INCOMING_EVENT_MAX);
    return names[event];
}

gboolean incoming_enter(Incoming *in, IncomingEvent event, GError **error)
{
    if (incoming_has_row(in->state, event, &in->state))
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL, _("%s is not expected in state %s"),
                incoming_event_name(event), incoming_state_name(in->state));
    return FALSE;
}

/* ---- life ---- */

Incoming *incoming_new(Session *session)
{
    Incoming *in = g_new0(Incoming, 1);

    in->session = session;
    in->blocks = ram_blocks_new();
    in->sink = in->main.sink = in->urgent.sink = qemu_sink_new(in->blocks, TRUE);
    in->urgent.is_urgent = TRUE;
    in->return_path = qemu_return_new();
    in->resumed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                        (GDestroyNotify)bitmap_free);
    in->asked = page_set_new();
    in->discards = discards_new();
    g_queue_init(&in->requests);
    frame_queue_init(&in->queue);
    return in;
}

void incoming_free(Incoming *in)
{
    if (!in)
        return;
    /* Its thread notes what it places. */
    uffd_placer_free(in->placer);
    for (guint i = 0; in->received && i < ram_blocks_count(in->blocks); i++)
        bitmap_free(in->received[i]);
    g_free(in->received);
    incoming_feed_clear(&in->main);
    incoming_feed_clear(&in->urgent);
    for (guint i = 0; i < in->n_bulk; i++)
        incoming_feed_clear(&in->bulk[i]);
    qemu_sink_free(in->sink);
    qemu_sink_free(in->preempt_sink);
    ram_blocks_free(in->blocks);
    qemu_return_free(in->return_path);
    g_hash_table_unref(in->resumed);
    page_set_free(in->asked);
    discards_free(in->discards);
    g_queue_clear_full(&in->requests, g_free);
    frame_queue_clear(&in->queue);
    placing_free(in->placing);
    placed_record_free(in->record);
    g_free(in->placing_why);
    g_free(in->warning);
    g_free(in);
}

void incoming_set_lane(Incoming *in, Lane *lane)
{
    in->lane = in->urgent.lane = lane;
}

void incoming_add_bulk(Incoming *in, Lane *lane)
{
    Feed *feed;

    g_return_if_fail(in->n_bulk < CHANNEL_BULK_MAX);
    feed = &in->bulk[in->n_bulk++];
    *feed = (Feed){ .lane = lane, .sink = in->sink };
    if (in->main.reader)
        feed->reader = incoming_make_reader(in);
}

/* ---- the channels' frames, in order ---- */

/* The next frame of the main channel, unless its pages are to be placed (then it becomes the feed's).
 * Only while the sink is idle: what is put there goes between sections. */
static gboolean next_main_frame(Incoming *in, GError **error)
{
    FrameType type;
    GBytes *body;

    if (in->main.in_body || in->control_done)
        return TRUE;
    body = session_received(in->session, &type);
    if (!body)
        return TRUE;
    if (type == FRAME_PAGES && incoming_awaits_placing(in, in->now_us))
        return TRUE;
    if (type == FRAME_PAGES)
        return incoming_enter(in, INCOMING_EV_PAGES, error) &&
               incoming_begin_pages(in, &in->main, body, error);
    /* A page that is collected belongs before it, too. */
    if (in->owner || in->main.collector.placing || !qemu_sink_is_idle(in->sink))
        return TRUE;
    return incoming_take_frame(in, type, body, &in->control_done, error);
}

static gboolean next_urgent_frame(Incoming *in, GError **error)
{
    FrameType type;
    GBytes *body;

    /* The package comes first: its last piece is on the main channel before PHASE running. */
    if (!in->lane || in->state < INCOMING_RUNNING || in->urgent.in_body)
        return TRUE;
    if ((in->wants_preempt && !in->preempt_sink) || incoming_awaits_placing(in, in->now_us))
        return TRUE;
    body = lane_received(in->lane, &type);
    if (!body)
        return TRUE;
    /* A host page that has begun on one connection is ended there. */
    if (in->preempt_sink && !incoming_in_host_page(&in->urgent))
        in->urgent.sink = in->preempt_sink;
    return incoming_enter(in, INCOMING_EV_URGENT_PAGES, error) &&
           incoming_begin_pages(in, &in->urgent, body, error);
}

static gboolean next_bulk_frame(Incoming *in, Feed *feed, GError **error)
{
    FrameType type;
    GBytes *body;

    if (in->state < INCOMING_RUNNING || feed->in_body || incoming_awaits_placing(in, in->now_us))
        return TRUE;
    body = lane_received(feed->lane, &type);
    return !body || (incoming_enter(in, INCOMING_EV_PAGES, error) &&
                     incoming_begin_pages(in, feed, body, error));
}

static gboolean next_bulk_frames(Incoming *in, GError **error)
{
    for (guint i = 0; i < in->n_bulk; i++) {
        if (!next_bulk_frame(in, &in->bulk[i], error))
            return FALSE;
    }
    return TRUE;
}

/* What is written is handed on: it can be acknowledged. */
static gboolean feed_is_written(const Feed *feed)
{
    return feed->body_done && (!feed->on_stream || qemu_sink_is_idle(feed->sink)) &&
           incoming_direct_is_idle(feed);
}

static gboolean main_is_written(const Incoming *in)
{
    return in->control_done ? qemu_sink_is_idle(in->sink) : feed_is_written(&in->main);
}

static gboolean any_is_written(const Incoming *in)
{
    gboolean any = main_is_written(in) || feed_is_written(&in->urgent);

    for (guint i = 0; i < in->n_bulk && !any; i++)
        any = feed_is_written(&in->bulk[i]);
    return any;
}

static void consume_feed(Feed *feed)
{
    if (!feed_is_written(feed))
        return;
    feed->body_done = feed->in_body = FALSE;
    lane_consume(feed->lane);
}

static void consume_written(Incoming *in)
{
    if (main_is_written(in)) {
        in->control_done = in->main.body_done = in->main.in_body = FALSE;
        session_consume(in->session);
    }
    consume_feed(&in->urgent);
    for (guint i = 0; i < in->n_bulk; i++)
        consume_feed(&in->bulk[i]);
}

/* Those of the main channel and of the bulk channels, each of which is the first once. */
static gboolean fill_background(Incoming *in, gboolean stream, gint64 now_us, GError **error)
{
    for (guint i = 0; i <= in->n_bulk; i++) {
        guint at = (in->turn + i) % (in->n_bulk + 1);

        if (!incoming_place(in, at == 0 ? &in->main : &in->bulk[at - 1], stream, now_us, error))
            return FALSE;
    }
    in->turn = (in->turn + 1) % (in->n_bulk + 1);
    return TRUE;
}

/* Urgent pages first, then the others. QEMU's sink is filled only when it is empty: pages are
 * borrowed from their frames until they are written. */
static gboolean fill_sinks(Incoming *in, gint64 now_us, GError **error)
{
    gboolean fresh = qemu_sink_is_idle(in->sink);

    return incoming_place(in, &in->urgent, qemu_sink_is_idle(in->urgent.sink), now_us, error) &&
           fill_background(in, fresh, now_us, error);
}

static void end_preempt(Incoming *in)
{
    if (!in->preempt_eos || !in->preempt_sink || in->urgent.in_body ||
        !qemu_sink_is_idle(in->preempt_sink))
        return;
    in->preempt_eos = FALSE;
    qemu_sink_put_eos(in->preempt_sink);
}

gboolean incoming_run(Incoming *in, gint64 now_us, GError **error)
{
    guint rounds = 0;

    in->now_us = now_us;
    in->is_due = FALSE;
    if (!incoming_collect(in, error))
        return FALSE;
    /* A frame that needs no writing (an announcement, pages that are collected, or placed here) makes way at
     * once. */
    do {
        consume_written(in);
        /* What is waited for may have come meanwhile. */
        if (in->placing && ++rounds > ROUNDS_MAX) {
            in->is_due = TRUE;
            break;
        }
        if (!next_urgent_frame(in, error) || !next_main_frame(in, error) ||
            !next_bulk_frames(in, error) || !fill_sinks(in, now_us, error))
            return FALSE;
    } while (any_is_written(in));
    end_preempt(in);
    incoming_send_return(in, now_us);
    return TRUE;
}

/* ---- QEMU's connections ---- */

QemuSink *incoming_main_sink(Incoming *in)
{
    return in->sink;
}

gboolean incoming_wants_preempt(const Incoming *in)
{
    return in->wants_preempt && !in->preempt_sink;
}

void incoming_on_preempt_attached(Incoming *in)
{
    if (!in->preempt_sink)
        in->preempt_sink = qemu_sink_new(in->blocks, FALSE);
}

QemuSink *incoming_preempt_sink(Incoming *in)
{
    return in->preempt_sink;
}

gboolean incoming_preempt_is_over(const Incoming *in)
{
    return in->preempt_closed && !in->preempt_eos && in->preempt_sink && !in->urgent.in_body &&
           qemu_sink_is_idle(in->preempt_sink);
}

/* ---- asking ---- */

IncomingState incoming_state(const Incoming *in)
{
    return in->state;
}

const char *incoming_warning(const Incoming *in)
{
    return in->warning;
}

gboolean incoming_has_pages(const Incoming *in)
{
    return in->pages_placed > 0;
}

static guint64 remaining_bytes(const Incoming *in)
{
    if (!in->owed_known || in->state == INCOMING_END || in->pages_placed > in->pages_owed)
        return 0;
    return (in->pages_owed - in->pages_placed) * ram_blocks_target_page(in->blocks);
}

void incoming_get_stats(const Incoming *in, gint64 now_us, RamStats *ret_stats)
{
    *ret_stats = in->stats;
    ret_stats->requests_outstanding = page_set_size(in->asked);
    if (page_set_size(in->asked) > 0 && now_us > in->blocked_since_us)
        ret_stats->blocked_us += now_us - in->blocked_since_us;
    ret_stats->ram_bytes = ram_blocks_bytes(in->blocks);
    ret_stats->ram_remaining_bytes = remaining_bytes(in);
}
