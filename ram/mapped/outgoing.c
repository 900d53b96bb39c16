/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mapped source's table of transitions, its life, and the functions that feed it. */
#include "config.h"

#include "ram/mapped/outgoing.h"

#include <glib/gi18n.h>

#include "ram/mapped/outgoing_priv.h"
#include "ram/mapped/refusals.h"

/* ---- the table ---- */

#define IN(state) (1u << MAPPED_OUT_##state)
#define STOPPED (IN(PRE_SWITCHOVER) | IN(DEVICE))
#define BEFORE_RUN (IN(NONE) | IN(SETUP) | IN(ACTIVE) | STOPPED | COLO)
#define COLO (IN(CHECKPOINT) | IN(COLO))
#define RECOVERING (IN(POSTCOPY_RECOVER_SETUP) | IN(POSTCOPY_RECOVER))
#define POSTCOPY (IN(POSTCOPY_ACTIVE) | RECOVERING)
#define ENDED (IN(POSTCOPY_PAUSED) | IN(COMPLETED) | IN(FAILED) | IN(CANCELLED))
#define LIVE (BEFORE_RUN | POSTCOPY | IN(CANCELLING) | IN(FAILOVER))

#define SETTLED (ENDED | IN(CANCELLING) | IN(FAILOVER))

#define SAME MAPPED_OUT_STATE_MAX

typedef struct {
    guint from; /* states */
    MappedOutEvent event;
    MappedOutState next;
    MappedOutAct act;
} MappedOutRow;

static const MappedOutRow rows[] = {
    /* getting ready */
    { IN(NONE), MAPPED_OUT_EV_START, MAPPED_OUT_SETUP, mapped_out_act_start },
    { IN(POSTCOPY_RECOVER_SETUP), MAPPED_OUT_EV_START, MAPPED_OUT_POSTCOPY_RECOVER,
      mapped_out_act_recover },
    { IN(SETUP), MAPPED_OUT_EV_ADVISED, SAME, mapped_out_act_advised },
    { IN(SETUP), MAPPED_OUT_EV_READY, MAPPED_OUT_ACTIVE, mapped_out_act_ready },

    /* the guest runs here */
    { IN(ACTIVE) | STOPPED | IN(CHECKPOINT), MAPPED_OUT_EV_SYNCED, SAME, mapped_out_act_synced },
    { IN(ACTIVE), MAPPED_OUT_EV_FREE_HINTS, SAME, mapped_out_act_free_hints },
    { IN(NONE) | IN(SETUP) | STOPPED | POSTCOPY | COLO, MAPPED_OUT_EV_FREE_HINTS, SAME,
      mapped_out_act_nothing },
    { IN(NONE) | IN(SETUP) | IN(ACTIVE) | COLO, MAPPED_OUT_EV_START_POSTCOPY, SAME,
      mapped_out_act_start_postcopy },
    { STOPPED | POSTCOPY, MAPPED_OUT_EV_START_POSTCOPY, SAME, mapped_out_act_nothing },
    { LIVE, MAPPED_OUT_EV_PARAMS, SAME, mapped_out_act_params },

    /* the switch-over */
    { IN(ACTIVE), MAPPED_OUT_EV_SWITCH, MAPPED_OUT_PRE_SWITCHOVER, mapped_out_act_switch },
    { STOPPED | IN(CHECKPOINT), MAPPED_OUT_EV_PAUSED, SAME, mapped_out_act_paused },
    { STOPPED | IN(CHECKPOINT), MAPPED_OUT_EV_DEVICE, SAME, mapped_out_act_device },
    { IN(DEVICE) | IN(FAILOVER), MAPPED_OUT_EV_GIVEN_UP, SAME, mapped_out_act_given_up },
    { IN(PRE_SWITCHOVER), MAPPED_OUT_EV_CONTINUE, MAPPED_OUT_DEVICE, mapped_out_act_nothing },
    { IN(DEVICE) | IN(POSTCOPY_ACTIVE), MAPPED_OUT_EV_CONTINUE, SAME, mapped_out_act_nothing },
    { IN(DEVICE), MAPPED_OUT_EV_RUN, MAPPED_OUT_POSTCOPY_ACTIVE, mapped_out_act_nothing },

    /* it runs over there */
    { IN(DEVICE) | IN(POSTCOPY_ACTIVE), MAPPED_OUT_EV_REQUEST, SAME, mapped_out_act_request },
    { IN(POSTCOPY_ACTIVE), MAPPED_OUT_EV_DISCARDED, SAME, mapped_out_act_discarded },
    { IN(POSTCOPY_RECOVER), MAPPED_OUT_EV_RECEIVED, SAME, mapped_out_act_received },
    { IN(POSTCOPY_RECOVER), MAPPED_OUT_EV_RECOVERED, MAPPED_OUT_POSTCOPY_ACTIVE,
      mapped_out_act_recovered },

    /* it stays here, and is followed */
    { IN(NONE) | IN(SETUP) | IN(ACTIVE) | COLO, MAPPED_OUT_EV_ASK_CHECKPOINT, SAME,
      mapped_out_act_ask_checkpoint },
    { IN(ACTIVE) | IN(COLO), MAPPED_OUT_EV_CHECKPOINT, MAPPED_OUT_CHECKPOINT,
      mapped_out_act_checkpoint },
    { IN(CHECKPOINT), MAPPED_OUT_EV_COMMITTED, MAPPED_OUT_COLO, mapped_out_act_committed },
    { COLO, MAPPED_OUT_EV_FAILOVER, MAPPED_OUT_FAILOVER, mapped_out_act_failover },
    /* whatever becomes of the session, the guest is the destination's */
    { IN(FAILOVER), MAPPED_OUT_EV_FAILED, MAPPED_OUT_COMPLETED, mapped_out_act_completed },
    { IN(FAILOVER), MAPPED_OUT_EV_CANCELLED, MAPPED_OUT_COMPLETED, mapped_out_act_completed },

    /* ends */
    { BEFORE_RUN, MAPPED_OUT_EV_CANCEL, MAPPED_OUT_CANCELLING, mapped_out_act_cancel },
    { POSTCOPY, MAPPED_OUT_EV_CANCEL, SAME, mapped_out_act_cancel },
    { LIVE, MAPPED_OUT_EV_CLIENT_FAILED, SAME, mapped_out_act_client_failed },
    { LIVE, MAPPED_OUT_EV_COMPLETED, MAPPED_OUT_COMPLETED, mapped_out_act_completed },
    { BEFORE_RUN, MAPPED_OUT_EV_FAILED, MAPPED_OUT_FAILED, mapped_out_act_failed },
    { BEFORE_RUN | IN(CANCELLING), MAPPED_OUT_EV_CANCELLED, MAPPED_OUT_CANCELLED,
      mapped_out_act_cancelled },
    { IN(CANCELLING), MAPPED_OUT_EV_FAILED, MAPPED_OUT_CANCELLED, mapped_out_act_cancelled },
    { IN(DEVICE) | POSTCOPY, MAPPED_OUT_EV_LOST, MAPPED_OUT_POSTCOPY_PAUSED, mapped_out_act_lost },

    /* what was under way when it ended */
    { ENDED, MAPPED_OUT_EV_REQUEST, SAME, mapped_out_act_nothing },
    { ENDED, MAPPED_OUT_EV_RECEIVED, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_ADVISED, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_PAUSED, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_DEVICE, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_SYNCED, SAME, mapped_out_act_nothing },
    { ENDED | IN(CANCELLING), MAPPED_OUT_EV_GIVEN_UP, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_DISCARDED, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_FREE_HINTS, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_START_POSTCOPY, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_CONTINUE, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_CANCEL, SAME, mapped_out_act_nothing },
    { ENDED, MAPPED_OUT_EV_PARAMS, SAME, mapped_out_act_nothing },
    { ENDED, MAPPED_OUT_EV_CLIENT_FAILED, SAME, mapped_out_act_nothing },
    { ENDED, MAPPED_OUT_EV_COMPLETED, SAME, mapped_out_act_nothing },
    { ENDED, MAPPED_OUT_EV_FAILED, SAME, mapped_out_act_nothing },
    { ENDED, MAPPED_OUT_EV_CANCELLED, SAME, mapped_out_act_nothing },
    { ENDED, MAPPED_OUT_EV_LOST, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_ASK_CHECKPOINT, SAME, mapped_out_act_nothing },
    { SETTLED, MAPPED_OUT_EV_FAILOVER, SAME, mapped_out_act_nothing },
};

static const MappedOutRow *find_row(MappedOutState state, MappedOutEvent event)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].event == event && (rows[i].from & (1u << state)))
            return &rows[i];
    }
    return NULL;
}

gboolean mapped_out_has_row(MappedOutState state, MappedOutEvent event, MappedOutState *ret_next)
{
    const MappedOutRow *row = find_row(state, event);

    if (!row)
        return FALSE;
    *ret_next = row->next == SAME ? state : row->next;
    return TRUE;
}

const char *mapped_out_state_name(MappedOutState state)
{
    static const char *const names[] = {
        "none", "setup", "active", "pre-switchover", "device", "postcopy-active",
        "postcopy-paused", "postcopy-recover-setup", "postcopy-recover", "completed", "failed",
        "cancelling", "cancelled", "checkpoint", "colo", "failover",
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == MAPPED_OUT_STATE_MAX);
    return names[state];
}

const char *mapped_out_event_name(MappedOutEvent event)
{
    static const char *const names[] = {
        "the session's beginning", "both sides' being ready", "the switch-over",
        "the point of no return", "the received bitmaps", "\"advised\"", "\"paused\"",
        "\"device\"", "\"synced\"", "\"given-up\"", "\"discarded\"", "\"free-hints\"",
        "\"start-postcopy\"", "\"continue\"", "\"cancel\"", "\"params\"", "\"failed\"", "REQUEST", "RECEIVED",
        "the session's end", "the session's failure", "the session's cancellation",
        "the session's loss", "the time for a checkpoint", "the checkpoint's commit",
        "\"checkpoint\"", "\"failover\"",
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == MAPPED_OUT_EVENT_MAX);
    return names[event];
}

/* ---- events ---- */

void mapped_out_enter(MappedOutgoing *o, MappedOutState state)
{
    if (state == o->state)
        return;
    o->state = state;
    if (!o->client_gone)
        o->client->ops->state(o->client, mapped_out_state_name(state));
}

gboolean mapped_out_event(MappedOutgoing *o, MappedOutEvent event, const MappedOutInput *in,
                          GError **error)
{
    const MappedOutRow *row = find_row(o->state, event);
    MappedOutState before = o->state;

    if (!row) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_STATE, _("%s is not expected in state %s"),
                    mapped_out_event_name(event), mapped_out_state_name(o->state));
        return FALSE;
    }
    if (!row->act(o, in, error))
        return FALSE;
    /* The action may have gone on by itself. */
    if (row->next != SAME && o->state == before)
        mapped_out_enter(o, row->next);
    return TRUE;
}

void mapped_out_fail(MappedOutgoing *o, const char *text)
{
    if (!o->failure)
        o->failure = g_strdup(text);
}

static MappedOutEvent event_of(MemoryEventType type)
{
    switch (type) {
    case MEMORY_EV_ADVISED:
        return MAPPED_OUT_EV_ADVISED;
    case MEMORY_EV_PAUSED:
        return MAPPED_OUT_EV_PAUSED;
    case MEMORY_EV_DEVICE:
        return MAPPED_OUT_EV_DEVICE;
    case MEMORY_EV_SYNCED:
        return MAPPED_OUT_EV_SYNCED;
    case MEMORY_EV_GIVEN_UP:
        return MAPPED_OUT_EV_GIVEN_UP;
    case MEMORY_EV_DISCARDED:
        return MAPPED_OUT_EV_DISCARDED;
    case MEMORY_EV_FREE_HINTS:
        return MAPPED_OUT_EV_FREE_HINTS;
    case MEMORY_EV_START_POSTCOPY:
        return MAPPED_OUT_EV_START_POSTCOPY;
    case MEMORY_EV_CONTINUE:
        return MAPPED_OUT_EV_CONTINUE;
    case MEMORY_EV_CANCEL:
        return MAPPED_OUT_EV_CANCEL;
    case MEMORY_EV_PARAMS:
        return MAPPED_OUT_EV_PARAMS;
    case MEMORY_EV_CHECKPOINT:
        return MAPPED_OUT_EV_ASK_CHECKPOINT;
    case MEMORY_EV_FAILOVER:
        return MAPPED_OUT_EV_FAILOVER;
    case MEMORY_EV_FAILED:
    case MEMORY_EV_GONE:
        return MAPPED_OUT_EV_CLIENT_FAILED;
    default:
        return MAPPED_OUT_EVENT_MAX;
    }
}

static void tell_failure(MappedOutgoing *o);

void mapped_outgoing_on_client_read(MappedOutgoing *o)
{
    dirty_map_forget_noted(o->map);
}

void mapped_outgoing_on_client(MappedOutgoing *o, MemoryEvent *event, gint64 now_us)
{
    MappedOutEvent what = event_of(event->type);
    MappedOutInput in = { .event = event, .now_us = now_us };
    g_autoptr(GError) error = NULL;

    o->now_us = now_us;
    if (event->type == MEMORY_EV_GONE)
        o->client_gone = TRUE;
    /* What has gone over there cannot be called back. */
    if (what == MAPPED_OUT_EV_CANCEL && o->step == SWITCH_DONE && (!o->postcopy || o->ram_end_sent))
        return;
    if (what == MAPPED_OUT_EVENT_MAX) {
        g_autofree char *text = g_strdup_printf(_("a source's memory client cannot say \"%s\""),
                                                memory_event_name(event->type));

        mapped_out_fail(o, text);
    } else if (!mapped_out_event(o, what, &in, &error)) {
        mapped_out_fail(o, error->message);
    }
    tell_failure(o);
}

void mapped_outgoing_on_session_end(MappedOutgoing *o, SessionState state, gint64 now_us)
{
    MappedOutInput in = { .reason = session_reason(o->session), .now_us = now_us };
    MappedOutEvent event = state == SESSION_COMPLETED   ? MAPPED_OUT_EV_COMPLETED
                           : state == SESSION_CANCELLED ? MAPPED_OUT_EV_CANCELLED
                                                        : MAPPED_OUT_EV_FAILED;
    gboolean runs_there = o->step == SWITCH_DONE || (POSTCOPY & (1u << o->state));

    o->now_us = now_us;
    if (event != MAPPED_OUT_EV_COMPLETED && runs_there)
        event = MAPPED_OUT_EV_LOST;
    mapped_out_event(o, event, &in, NULL);
}

/* ---- life ---- */

static void add_blocks(MappedOutgoing *o)
{
    guint64 target = ram_blocks_target_page(o->blocks);

    for (guint i = 0; i < ram_blocks_count(o->blocks); i++) {
        if (guest_memory_region(o->memory, i)->flags & MEMORY_IGNORED) {
            dirty_map_ignore(o->map, i);
            continue;
        }
        page_scan_add(o->scan, i, dirty_map_bitmap(o->map, i),
                      ram_blocks_host_page(o->blocks, i) / target);
    }
}

MappedOutgoing *mapped_outgoing_new(const MappedOutgoingConfig *config, GuestMemory *memory,
                                    DirtyLog *log, MemoryClient *client, Session *session)
{
    const MemoryLayout *layout = guest_memory_layout(memory);
    MappedOutgoing *o = g_new0(MappedOutgoing, 1);
    guint shift = config->clear_shift ? config->clear_shift : MAPPED_CLEAR_SHIFT_DEFAULT;

    o->supply.ops = &mapped_out_supply_ops;
    o->config = *config;
    o->params = layout->params;
    o->memory = memory;
    o->blocks = guest_memory_blocks(memory);
    o->log = log;
    o->client = client;
    o->session = session;
    o->state = layout->recovers ? MAPPED_OUT_POSTCOPY_RECOVER_SETUP : MAPPED_OUT_NONE;
    o->map = dirty_map_new(o->blocks, CLAMP(shift, MAPPED_CLEAR_SHIFT_MIN, MAPPED_CLEAR_SHIFT_MAX),
                           log);
    o->scan = page_scan_new();
    o->holes = hole_look_new(memory);
    o->sender = page_sender_new(&config->sender, &o->supply, o->blocks, session);
    o->requests = request_queue_new(o->blocks);
    o->notifiers = notifier_list_new();
    o->device = g_byte_array_new();
    g_queue_init(&o->recalled);
    frame_queue_init(&o->queue);
    release_list_init(&o->release, o->blocks);
    rate_limit_set(&o->limit, o->params.max_bandwidth);
    auto_converge_init(&o->converge, o->params.throttle_initial, o->params.throttle_increment,
                       o->params.throttle_max);
    add_blocks(o);
    return o;
}

void mapped_outgoing_free(MappedOutgoing *o)
{
    if (!o)
        return;
    page_sender_free(o->sender);
    mapped_out_supply_clear(o);
    for (guint i = 0; o->received && i < ram_blocks_count(o->blocks); i++)
        bitmap_free(o->received[i]);
    g_free(o->received);
    g_free(o->received_upto);
    release_list_clear(&o->release);
    frame_queue_clear(&o->queue);
    g_byte_array_unref(o->device);
    notifier_list_free(o->notifiers);
    request_queue_free(o->requests);
    page_scan_free(o->scan);
    hole_look_free(o->holes);
    dirty_map_free(o->map);
    dirty_log_free(o->log);
    xbzrle_encoder_free(o->xbzrle);
    g_free(o->failure);
    g_free(o);
}

NotifierList *mapped_outgoing_notifiers(MappedOutgoing *o)
{
    return o->notifiers;
}

void mapped_outgoing_set_lane(MappedOutgoing *o, Lane *lane)
{
    o->lane = lane;
    page_sender_set_lane(o->sender, lane);
}

void mapped_outgoing_add_bulk(MappedOutgoing *o, Lane *lane)
{
    o->has_bulk = TRUE;
    page_sender_add_bulk(o->sender, lane);
}

/* ---- running ---- */

/* The peer hears of it as of a QEMU that broke. */
static void tell_failure(MappedOutgoing *o)
{
    if (!o->failure || o->failure_told)
        return;
    o->failure_told = TRUE;
    session_on_qemu_broken(o->session, o->failure, NULL);
}

static void start(MappedOutgoing *o)
{
    MappedOutInput in = { .now_us = o->now_us };
    g_autoptr(GError) error = NULL;
    gboolean waits = o->state == MAPPED_OUT_NONE || o->state == MAPPED_OUT_POSTCOPY_RECOVER_SETUP;

    if (!waits || !o->lane || !session_state_is_active(session_state(o->session)))
        return;
    if (!mapped_out_event(o, MAPPED_OUT_EV_START, &in, &error))
        mapped_out_fail(o, error->message);
}

static void become_ready(MappedOutgoing *o)
{
    MappedOutInput in = { .now_us = o->now_us };

    if (o->state == MAPPED_OUT_SETUP && o->advised && frame_queue_is_empty(&o->queue) &&
        session_acked_bytes(o->session) >= o->advise_mark)
        mapped_out_event(o, MAPPED_OUT_EV_READY, &in, NULL);
}

/* What this run may send: from here on the supply counts it down. */
static void update_budget(MappedOutgoing *o)
{
    RamStats sent = { 0 };

    page_sender_get_stats(o->sender, &sent);
    rate_limit_on_sent(&o->limit, sent.encoded_bytes - o->limit_seen);
    o->limit_seen = sent.encoded_bytes;
    o->budget = rate_limit_room(&o->limit, o->now_us);
    o->limited = FALSE;
}

static void send_queue(MappedOutgoing *o)
{
    frame_queue_send(&o->queue, o->session, page_sender_main_flow(o->sender), o->now_us);
}

static void update_page_rate(MappedOutgoing *o)
{
    guint64 pages = page_sender_pages(o->sender);
    gint64 us = o->now_us - o->rate_began_us;

    if (us < G_USEC_PER_SEC)
        return;
    if (o->rate_began_us != 0)
        o->stats.page_rate = (pages - o->rate_pages) * G_USEC_PER_SEC / (guint64)us;
    o->rate_began_us = o->now_us;
    o->rate_pages = pages;
}

/* One thing leads to the next: each asks by itself whether it is its turn. */
static void advance(MappedOutgoing *o)
{
    start(o);
    send_queue(o);
    become_ready(o);
    mapped_out_iterate(o);
    mapped_out_switch_over(o);
    mapped_out_run_checkpoints(o);
    mapped_out_end_ram(o);
    send_queue(o);
    mapped_out_release(o);
}

gboolean mapped_outgoing_run(MappedOutgoing *o, gint64 now_us, GError **error)
{
    o->now_us = now_us;
    if (!mapped_out_read_peer(o, error))
        return FALSE;
    if (!o->failure && !(ENDED & (1u << o->state)) && o->state != MAPPED_OUT_CANCELLING) {
        page_sender_update(o->sender, now_us);
        update_budget(o);
        update_page_rate(o);
        advance(o);
    }
    tell_failure(o);
    return TRUE;
}

gint64 mapped_outgoing_wake_us(const MappedOutgoing *o)
{
    gint64 us = o->limited ? rate_limit_wake_us(&o->limit) : G_MAXINT64;

    return o->state == MAPPED_OUT_COLO ? MIN(us, o->next_checkpoint_us) : us;
}

/* ---- asking ---- */

gboolean mapped_outgoing_waits_for_worker(const MappedOutgoing *o)
{
    return page_sender_waits_for_worker(o->sender);
}

MappedOutState mapped_outgoing_state(const MappedOutgoing *o)
{
    return o->state;
}

gboolean mapped_outgoing_is_recovering(const MappedOutgoing *o)
{
    return (RECOVERING & (1u << o->state)) != 0;
}

void mapped_outgoing_get_stats(const MappedOutgoing *o, gint64 now_us, RamStats *ret_stats)
{
    *ret_stats = o->stats;
    page_sender_get_stats(o->sender, ret_stats);
    ret_stats->ram_bytes = ram_blocks_bytes(o->blocks);
    ret_stats->ram_remaining_bytes = mapped_out_remaining(o);
    ret_stats->requests_outstanding = request_queue_size(o->requests);
    ret_stats->throttle_percent = o->converge.percent;
    ret_stats->released_bytes = o->release.bytes;
    ret_stats->expected_downtime_us =
        downtime_expected_us(&o->downtime, ret_stats->ram_remaining_bytes);
    if (o->xbzrle)
        xbzrle_encoder_stats(o->xbzrle, &ret_stats->xbzrle);
}
