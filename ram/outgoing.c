/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source's table of transitions, and the functions that feed it. */
#include "config.h"

#include "ram/outgoing.h"

#include <glib/gi18n.h>

#include "ram/outgoing_priv.h"

/* What a source that can be paced keeps staged: enough for its bursts, which are a tenth of a second. */
#define STAGE_TARGET (64 * 1024 * 1024)
/* And at most while nobody has told it how fast to go. A QEMU (7.2) that has found its stream fast takes all
 * the RAM that it could send within its downtime limit for the last round, in which it cannot pause and
 * recover: so it must not find it faster than the link. */
#define STAGE_BEFORE_PACE (8 * 1024 * 1024)

/* And where its memory can be read: what is not staged is no further away. It is drained as fast as pages are
 * sent, so that it is through when they are. */
#define STAGE_WITH_MEMORY (8 * 1024 * 1024)

/* ---- the table ---- */

#define IN(state) (1u << OUTGOING_##state)
#define BEFORE_END                                                                             \
    (IN(NONE) | IN(SETUP) | IN(ACTIVE) | IN(DEVICE) | IN(POSTCOPY_ACTIVE) | IN(POSTCOPY_RECOVER))
#define ENDED                                                                                  \
    (IN(POSTCOPY_PAUSED) | IN(COMPLETED) | IN(FAILED) | IN(CANCELLED))
/* The stream's elements go on as they are. */
#define PASSING (IN(SETUP) | IN(ACTIVE) | IN(DEVICE) | IN(POSTCOPY_RECOVER))

#define SAME OUTGOING_STATE_MAX

typedef struct {
    guint from; /* states */
    OutgoingEvent event;
    OutgoingState next;
    OutgoingAct act;
} OutgoingRow;

static const OutgoingRow rows[] = {
    /* up to the switch-over */
    { IN(NONE), OUTGOING_EV_HEADER, OUTGOING_SETUP, outgoing_act_pass },
    { IN(NONE), OUTGOING_EV_RESUMED, OUTGOING_POSTCOPY_RECOVER, outgoing_act_pass },
    { IN(SETUP), OUTGOING_EV_ADVISE, SAME, outgoing_act_advise },
    { IN(SETUP), OUTGOING_EV_RAM_SETUP, OUTGOING_ACTIVE, outgoing_act_pass },
    { IN(SETUP) | IN(ACTIVE) | IN(DEVICE), OUTGOING_EV_FRAMING, SAME, outgoing_act_pass },
    { PASSING, OUTGOING_EV_ELEMENT, SAME, outgoing_act_pass },
    { IN(ACTIVE), OUTGOING_EV_RECORD, SAME, outgoing_act_pass },
    { IN(ACTIVE), OUTGOING_EV_PAGE, SAME, outgoing_act_pass },
    { IN(ACTIVE), OUTGOING_EV_RAM_END, SAME, outgoing_act_precopy_end },

    /* the switch-over */
    { IN(ACTIVE), OUTGOING_EV_DISCARD, OUTGOING_DEVICE, outgoing_act_discard },
    { IN(DEVICE), OUTGOING_EV_DISCARD, SAME, outgoing_act_discard_more },
    { IN(ACTIVE) | IN(DEVICE), OUTGOING_EV_PACKAGE, OUTGOING_DEVICE, outgoing_act_package },
    { IN(DEVICE), OUTGOING_EV_PACKAGE_END, OUTGOING_POSTCOPY_ACTIVE, outgoing_act_run },
    { IN(POSTCOPY_RECOVER), OUTGOING_EV_RESUME, SAME, outgoing_act_resume },
    { IN(POSTCOPY_RECOVER), OUTGOING_EV_FRAMING, OUTGOING_POSTCOPY_ACTIVE, outgoing_act_rerun },

    /* post-copy: the sections are the destination's to make */
    { IN(POSTCOPY_ACTIVE), OUTGOING_EV_FRAMING, SAME, outgoing_act_nothing },
    { IN(POSTCOPY_ACTIVE), OUTGOING_EV_PAGE, SAME, outgoing_act_stage },
    { IN(POSTCOPY_ACTIVE), OUTGOING_EV_ELEMENT, SAME, outgoing_act_pass },
    { IN(POSTCOPY_ACTIVE), OUTGOING_EV_RAM_END, SAME, outgoing_act_ram_end },
    { IN(DEVICE) | IN(POSTCOPY_ACTIVE), OUTGOING_EV_REQUEST, SAME, outgoing_act_request },

    /* QEMU's own preempt connection: opened at once by an old one, at the switch-over by a new one */
    { BEFORE_END, OUTGOING_EV_URGENT_OPENED, SAME, outgoing_act_urgent_opened },
    { IN(DEVICE) | IN(POSTCOPY_ACTIVE) | IN(POSTCOPY_RECOVER), OUTGOING_EV_URGENT_PAGE, SAME,
      outgoing_act_stage_urgent },
    { BEFORE_END, OUTGOING_EV_URGENT_EOS, SAME, outgoing_act_urgent_eos },
    { BEFORE_END, OUTGOING_EV_URGENT_IDLE, SAME, outgoing_act_urgent_idle },
    { BEFORE_END, OUTGOING_EV_URGENT_CLOSED, SAME, outgoing_act_urgent_closed },

    /* ends */
    { BEFORE_END, OUTGOING_EV_UNKNOWN, SAME, outgoing_act_transparent },
    { BEFORE_END, OUTGOING_EV_QEMU_ENDED, SAME, outgoing_act_qemu_ended },
    { BEFORE_END, OUTGOING_EV_COMPLETED, OUTGOING_COMPLETED, outgoing_act_nothing },
    { IN(NONE) | IN(SETUP) | IN(ACTIVE) | IN(DEVICE), OUTGOING_EV_FAILED, OUTGOING_FAILED,
      outgoing_act_nothing },
    { IN(POSTCOPY_ACTIVE) | IN(POSTCOPY_RECOVER), OUTGOING_EV_FAILED, OUTGOING_POSTCOPY_PAUSED,
      outgoing_act_nothing },
    { IN(NONE) | IN(SETUP) | IN(ACTIVE) | IN(DEVICE), OUTGOING_EV_CANCELLED, OUTGOING_CANCELLED,
      outgoing_act_nothing },
    { IN(POSTCOPY_ACTIVE) | IN(POSTCOPY_RECOVER), OUTGOING_EV_CANCELLED, OUTGOING_POSTCOPY_PAUSED,
      outgoing_act_nothing },

    /* after the end: what still comes was under way */
    { ENDED, OUTGOING_EV_REQUEST, SAME, outgoing_act_nothing },
    { ENDED, OUTGOING_EV_QEMU_ENDED, SAME, outgoing_act_nothing },
    { ENDED, OUTGOING_EV_URGENT_PAGE, SAME, outgoing_act_nothing },
    { ENDED, OUTGOING_EV_URGENT_IDLE, SAME, outgoing_act_nothing },
    { ENDED, OUTGOING_EV_URGENT_CLOSED, SAME, outgoing_act_nothing },
    { ENDED, OUTGOING_EV_COMPLETED, SAME, outgoing_act_nothing },
    { ENDED, OUTGOING_EV_FAILED, SAME, outgoing_act_nothing },
    { ENDED, OUTGOING_EV_CANCELLED, SAME, outgoing_act_nothing },
};

static const OutgoingRow *find_row(OutgoingState state, OutgoingEvent event)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].event == event && (rows[i].from & (1u << state)))
            return &rows[i];
    }
    return NULL;
}

gboolean outgoing_has_row(OutgoingState state, OutgoingEvent event, OutgoingState *ret_next)
{
    const OutgoingRow *row = find_row(state, event);

    if (!row)
        return FALSE;
    *ret_next = row->next == SAME ? state : row->next;
    return TRUE;
}

const char *outgoing_state_name(OutgoingState state)
{
    static const char *const names[] = {
        "none", "setup", "active", "device", "postcopy-active", "postcopy-recover",
        "postcopy-paused", "completed", "failed", "cancelled",
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == OUTGOING_STATE_MAX);
    return names[state];
}

const char *outgoing_event_name(OutgoingEvent event)
{
    static const char *const names[] = {
        "a header", "a stream without header", "POSTCOPY_ADVISE", "RAM's START section",
        "POSTCOPY_RAM_DISCARD", "a package", "the end of a package", "POSTCOPY_RESUME",
        "a part of a RAM section", "a page", "a record without page", "the end of RAM",
        "an element", "unknown bytes",
        "a preempt connection", "a page on the preempt connection",
        "the end of the preempt connection's records", "nothing on the preempt connection",
        "the end of the preempt connection",
        "the end of the stream", "REQUEST", "the session's end", "the session's failure",
        "the session's cancellation",
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == OUTGOING_EVENT_MAX);
    return names[event];
}

/* ---- events ---- */

static gboolean is_stream_event(OutgoingEvent event)
{
    return event < OUTGOING_EV_URGENT_OPENED;
}

/* No row. Of QEMU's stream that means that it is not what this machine knows, and is passed on; the
 * peer, which speaks a protocol of this project, has broken it. */
static gboolean refuse(Outgoing *o, OutgoingEvent event, const OutgoingInput *in, GError **error)
{
    g_autofree char *text =
        g_strdup_printf(_("%s is not expected in state %s"), outgoing_event_name(event),
                        outgoing_state_name(o->state));

    if (event == OUTGOING_EV_REQUEST) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_PROTOCOL, text);
        return FALSE;
    }
    if (event == OUTGOING_EV_URGENT_PAGE)
        outgoing_lose_page(o);
    if (is_stream_event(event)) {
        OutgoingInput unknown = *in;

        unknown.text = text;
        outgoing_act_transparent(o, &unknown, NULL);
    }
    return TRUE;
}

gboolean outgoing_event(Outgoing *o, OutgoingEvent event, const OutgoingInput *in, GError **error)
{
    const OutgoingRow *row;

    /* What is not read any more has no events of its own. */
    if (o->transparent && is_stream_event(event))
        return outgoing_act_pass(o, in, error);
    row = find_row(o->state, event);
    if (!row)
        return refuse(o, event, in, error);
    if (!row->act(o, in, error))
        return FALSE;
    if (row->next != SAME && !(o->transparent && is_stream_event(event)))
        o->state = row->next;
    return TRUE;
}

/* ---- life ---- */

Outgoing *outgoing_new(const OutgoingConfig *config, RamBlocks *blocks, RamSource *source,
                       Session *session)
{
    PageSenderConfig sender = {
        .window = config->window,
        .compress = config->compress,
        .worker = config->worker,
    };
    Outgoing *o = g_new0(Outgoing, 1);

    o->config = *config;
    o->blocks = blocks;
    o->source = source;
    o->session = session;
    o->transparent = TRUE; /* until there is a lane */
    outgoing_supply_init(&o->supply, o);
    o->sender = page_sender_new(&sender, &o->supply.base, blocks, session);
    o->wanted = page_set_new();
    o->direct = direct_new(blocks);
    g_queue_init(&o->urgent);
    g_queue_init(&o->to_read);
    frame_queue_init(&o->queue);
    source_rate_init(&o->source_rate);
    return o;
}

void outgoing_free(Outgoing *o)
{
    if (!o)
        return;
    for (guint i = 0; i < o->n_sent; i++)
        bitmap_free(o->sent[i]);
    g_free(o->sent);
    page_sender_free(o->sender);
    direct_free(o->direct);
    g_queue_clear_full(&o->to_read, g_free);
    g_queue_clear_full(&o->urgent, (GDestroyNotify)staged_page_free);
    stage_free(o->stage);
    page_set_free(o->wanted);
    frame_queue_clear(&o->queue);
    g_free(o->warning);
    g_free(o->failure);
    g_free(o);
}

void outgoing_set_lane(Outgoing *o, Lane *lane)
{
    o->lane = lane;
    page_sender_set_lane(o->sender, lane);
    if (o->state == OUTGOING_NONE)
        o->transparent = FALSE;
}

void outgoing_add_bulk(Outgoing *o, Lane *lane)
{
    page_sender_add_bulk(o->sender, lane);
}

/* ---- asking ---- */

/* No more is left with the source than is staged: it shall not be through long before the link is. */
static gboolean is_at_reserve(const Outgoing *o)
{
    guint64 left = o->owed - MIN(o->owed, o->taken);

    return left * ram_blocks_target_page(o->blocks) <= MAX(OUTGOING_RESERVE, stage_bytes(o->stage)) &&
           !(outgoing_is_drained(o) && !outgoing_direct_has_more(o));
}

static guint64 stage_limit_now(const Outgoing *o)
{
    guint64 limit = o->config.stage;

    if (o->config.paced && !o->source_rate.told)
        limit = MIN(limit, STAGE_BEFORE_PACE);
    if (outgoing_is_direct(o) && direct_has_background(o->direct))
        limit = MIN(limit, STAGE_WITH_MEMORY);
    return limit;
}

gboolean outgoing_wants(const Outgoing *o)
{
    if (frame_queue_is_full(&o->queue))
        return FALSE;
    /* Without pages to come there is nothing to be full of; before the first section the way to it must not
     * wait for pages that wait for it. */
    if (!o->stage || o->ram_ended || o->state != OUTGOING_POSTCOPY_ACTIVE)
        return TRUE;
    /* What is staged is a part of a host page: it cannot go before the rest of it is here. */
    if (outgoing_is_drained(o) && !outgoing_direct_has_more(o))
        return TRUE;
    /* Somebody waits for a page that has not come: the way to it leads through what comes before. */
    if (page_set_size(o->wanted) > outgoing_direct_pending(o))
        return stage_bytes(o->stage) + o->urgent_bytes < stage_limit_now(o) + OUTGOING_EXCESS_MAX;
    return stage_bytes(o->stage) + o->urgent_bytes < stage_limit_now(o) && !is_at_reserve(o);
}

gboolean outgoing_awaits_urgent(const Outgoing *o)
{
    return o->ram_ended && !o->ram_end_sent && o->urgent_open;
}

/* As the source comes to its end the stage shall, too: see OUTGOING_RESERVE. */
static guint64 stage_target(const Outgoing *o)
{
    guint64 left = (o->owed - MIN(o->owed, o->taken)) * ram_blocks_target_page(o->blocks);

    return MIN(MIN(STAGE_TARGET, stage_limit_now(o) / 2), left / 2);
}

gboolean outgoing_source_rate(Outgoing *o, gint64 now_us, guint64 *ret_rate)
{
    if (o->state != OUTGOING_POSTCOPY_ACTIVE || o->transparent || o->ram_ended)
        return FALSE;
    if (!source_rate_update(&o->source_rate, now_us, page_sender_plain_bytes(o->sender),
                            stage_bytes(o->stage), stage_target(o)))
        return FALSE;
    *ret_rate = o->source_rate.rate;
    return TRUE;
}

gboolean outgoing_set_memory(Outgoing *o, int fd, const MemoryRange *ranges, gsize n_ranges,
                             GError **error)
{
    return direct_set_memory(o->direct, fd, ranges, n_ranges, error);
}

DirectState outgoing_direct_state(const Outgoing *o, const char **ret_why)
{
    *ret_why = direct_error(o->direct);
    return direct_state(o->direct);
}

OutgoingState outgoing_state(const Outgoing *o)
{
    return o->state;
}

OutgoingEnd outgoing_end_here(const Outgoing *o)
{
    if (o->transparent)
        return OUTGOING_END_WHOLE;
    switch (o->state) {
    case OUTGOING_SETUP:
    case OUTGOING_ACTIVE:
        return o->precopy_ended ? OUTGOING_END_WHOLE : OUTGOING_END_CANCELLED;
    case OUTGOING_DEVICE:
    case OUTGOING_POSTCOPY_RECOVER:
        return OUTGOING_END_BROKEN;
    case OUTGOING_POSTCOPY_ACTIVE:
        return o->ram_ended ? OUTGOING_END_WHOLE : OUTGOING_END_BROKEN;
    default:
        return OUTGOING_END_WHOLE;
    }
}

gboolean outgoing_is_transparent(const Outgoing *o)
{
    return o->transparent;
}

const char *outgoing_warning(const Outgoing *o)
{
    return o->warning;
}

/* A recovery owes what the destination has not received, some of which no QEMU may ever send: what the
 * guest has given back. */
static guint64 remaining_bytes(const Outgoing *o)
{
    guint64 sent = page_sender_pages(o->sender);

    if (o->ram_end_sent || sent > o->owed)
        return 0;
    return (o->owed - sent) * ram_blocks_target_page(o->blocks);
}

void outgoing_get_stats(const Outgoing *o, RamStats *ret_stats)
{
    *ret_stats = o->stats;
    page_sender_get_stats(o->sender, ret_stats);
    ret_stats->stage_bytes = o->stage ? stage_bytes(o->stage) : 0;
    ret_stats->stage_high_water = o->stage ? stage_high_water(o->stage) : 0;
    ret_stats->requests_outstanding = page_set_size(o->wanted);
    ret_stats->memory_bytes_read = direct_bytes_read(o->direct);
    ret_stats->ram_bytes = ram_blocks_bytes(o->blocks);
    ret_stats->ram_remaining_bytes = remaining_bytes(o);
}
