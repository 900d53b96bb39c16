/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copying while the guest runs: rounds, syncs between them, and when it is time to switch over. */
#include "config.h"

#include "ram/mapped/outgoing_priv.h"

guint64 mapped_out_remaining(const MappedOutgoing *o)
{
    return dirty_map_count(o->map) * ram_blocks_target_page(o->blocks);
}

gboolean mapped_out_is_drained(const MappedOutgoing *o)
{
    return frame_queue_is_empty(&o->queue) && page_sender_is_idle(o->sender) &&
           page_sender_is_acked(o->sender);
}

/* ---- a sync ---- */

static guint64 sent_bytes(const MappedOutgoing *o)
{
    RamStats stats = { 0 };

    page_sender_get_stats(o->sender, &stats);
    return stats.encoded_bytes;
}

/* Slower, if that is wanted: what was written since the last sync against what was sent. */
static void end_period(MappedOutgoing *o, guint64 dirtied)
{
    guint64 sent = sent_bytes(o);
    gint64 us = MAX(o->now_us - o->period_began_us, 1);

    o->stats.dirty_rate = (guint64)((double)dirtied * G_USEC_PER_SEC / (double)us);
    if (o->params.auto_converge && o->state == MAPPED_OUT_ACTIVE &&
        auto_converge_on_period(&o->converge, dirtied * ram_blocks_target_page(o->blocks),
                                sent - o->period_sent))
        o->client->ops->throttle(o->client, o->converge.percent);
    if (o->xbzrle)
        xbzrle_encoder_end_period(o->xbzrle);
    o->period_sent = sent;
    o->period_began_us = o->now_us;
}

static void sync_now(MappedOutgoing *o)
{
    g_autoptr(GError) error = NULL;
    guint64 dirtied;

    mapped_out_forget_window(o);
    notifier_list_tell(o->notifiers, NOTIFY_BEFORE_SYNC, NULL);
    if (!dirty_map_sync(o->map, &dirtied, &error)) {
        mapped_out_fail(o, error->message);
        return;
    }
    notifier_list_tell(o->notifiers, NOTIFY_AFTER_SYNC, NULL);
    o->stats.dirty_syncs++;
    end_period(o, dirtied);
}

static void drain(MappedOutgoing *o)
{
    page_sender_send(o->sender, o->now_us);
    if (!mapped_out_is_drained(o))
        return;
    downtime_on_drained(&o->downtime, page_sender_acked_bytes(o->sender), o->now_us);
    if (o->log && o->log->asks_client) {
        o->sync = SYNC_ASKED;
        o->client->ops->log_sync(o->client);
    } else {
        o->sync = SYNC_DUE;
    }
}

gboolean mapped_out_sync(MappedOutgoing *o)
{
    if (o->sync == SYNC_DRAIN)
        drain(o);
    if (o->sync != SYNC_DUE)
        return FALSE;
    o->sync = SYNC_NONE;
    sync_now(o);
    return !o->failure;
}

/* ---- a round ---- */

static gboolean is_small(const MappedOutgoing *o)
{
    return mapped_out_remaining(o) <=
           downtime_threshold(&o->downtime, o->params.downtime_limit_ms, o->params.max_bandwidth);
}

static void switch_over(MappedOutgoing *o)
{
    MappedOutInput in = { .now_us = o->now_us };

    mapped_out_event(o, o->params.checkpoints ? MAPPED_OUT_EV_CHECKPOINT : MAPPED_OUT_EV_SWITCH,
                     &in, NULL);
}

/* After a sync, with what it has found. */
static void begin_round(MappedOutgoing *o)
{
    if (is_small(o))
        switch_over(o);
    else
        o->stats.dirty_rounds++;
}

static void send_round(MappedOutgoing *o)
{
    page_sender_send(o->sender, o->now_us);
    downtime_update(&o->downtime, page_sender_acked_bytes(o->sender), o->now_us);
    if (is_small(o))
        o->sync = SYNC_DRAIN;
}

void mapped_out_iterate(MappedOutgoing *o)
{
    if (o->state != MAPPED_OUT_ACTIVE || o->failure)
        return;
    if ((o->postcopy_asked || o->checkpoint_asked) && o->sync < SYNC_ASKED) {
        o->sync = SYNC_NONE;
        switch_over(o);
        return;
    }
    if (o->sync == SYNC_NONE)
        send_round(o);
    if (mapped_out_sync(o))
        begin_round(o);
}
