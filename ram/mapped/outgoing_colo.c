/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checkpoints at the mapped source: the guest stops, what it has written since the last one goes
 * over, then its devices' state, and PHASE commit. When the destination has acknowledged that,
 * its guest is the checkpoint, and the one here goes on. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/mapped/frames.h"
#include "ram/mapped/outgoing_priv.h"

gboolean mapped_out_check_checkpoints(MappedOutgoing *o, GError **error)
{
    if (!o->params.checkpoints || (session_features(o->session) & SESSION_FEATURE_COLO))
        return TRUE;
    g_set_error_literal(error, RAM_ERROR, RAM_ERROR_INVALID,
                        _("the other host's libvirt-postcopy takes no checkpoints"));
    return FALSE;
}

/* ---- what the client asks for ---- */

gboolean mapped_out_act_ask_checkpoint(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (!o->params.checkpoints) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                            _("a checkpoint was asked for that the parameters do not allow"));
        return FALSE;
    }
    o->checkpoint_asked = TRUE;
    return TRUE;
}

/* The guest here has stopped for good: should this process die, it must not run again. */
gboolean mapped_out_act_failover(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (o->stats.checkpoints == 0) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                            _("a failover was asked for before the first checkpoint is complete"));
        return FALSE;
    }
    o->step = SWITCH_NONE;
    mapped_out_ask_no_return(o);
    return TRUE;
}

/* ---- a checkpoint ---- */

static void stop_guest(MappedOutgoing *o)
{
    o->step = SWITCH_STOP;
    o->switch_began_us = o->now_us;
    o->client->ops->pause(o->client);
    o->pause_sent = TRUE;
}

/* For the first the destination copies all of its memory, while the guest here goes on. */
gboolean mapped_out_act_checkpoint(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    o->checkpoint_asked = FALSE;
    o->paused = o->device_whole = FALSE;
    g_byte_array_set_size(o->device, 0);
    mapped_out_put_phase(o, MAPPED_PHASE_CHECKPOINT);
    if (o->stats.checkpoints > 0) {
        stop_guest(o);
        return TRUE;
    }
    o->run_mark = session_sent_bytes(o->session) + o->queue.bytes;
    o->step = SWITCH_BEGIN;
    return TRUE;
}

gboolean mapped_out_act_committed(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    o->stats.checkpoints++;
    o->step = SWITCH_NONE;
    o->pause_sent = FALSE;
    o->stats.downtime_us = (guint64)MAX(in->now_us - o->switch_began_us, 1);
    o->next_checkpoint_us = o->params.checkpoint_interval_ms
                                ? in->now_us + (gint64)o->params.checkpoint_interval_ms * 1000
                                : G_MAXINT64;
    o->client->ops->resume(o->client, _("the checkpoint is complete"));
    return TRUE;
}

static void commit(MappedOutgoing *o)
{
    frame_queue_put_data(&o->queue, o->device->data, o->device->len);
    mapped_out_put_phase(o, MAPPED_PHASE_COMMIT);
    o->run_mark = session_sent_bytes(o->session) + o->queue.bytes;
    o->step = SWITCH_COMMIT;
}

/* What was queued up to run_mark. */
static gboolean is_acked(const MappedOutgoing *o)
{
    return frame_queue_is_empty(&o->queue) && session_acked_bytes(o->session) >= o->run_mark;
}

static void step_once(MappedOutgoing *o)
{
    MappedOutInput in = { .now_us = o->now_us };

    switch (o->step) {
    case SWITCH_BEGIN:
        page_sender_send(o->sender, o->now_us);
        if (is_acked(o))
            stop_guest(o);
        break;
    case SWITCH_STOP:
        page_sender_send(o->sender, o->now_us);
        if (o->paused && o->sync != SYNC_ASKED) {
            o->sync = SYNC_DRAIN;
            o->step = SWITCH_SYNC;
        }
        break;
    case SWITCH_SYNC:
        if (mapped_out_sync(o))
            o->step = SWITCH_PAGES;
        break;
    case SWITCH_PAGES:
        page_sender_send(o->sender, o->now_us);
        if (dirty_map_count(o->map) == 0 && mapped_out_is_drained(o))
            o->step = SWITCH_DEVICE;
        break;
    case SWITCH_DEVICE:
        if (o->device_whole)
            commit(o);
        break;
    case SWITCH_COMMIT:
        if (is_acked(o))
            mapped_out_event(o, MAPPED_OUT_EV_COMMITTED, &in, NULL);
        break;
    default:
        break;
    }
}

static void begin(MappedOutgoing *o)
{
    MappedOutInput in = { .now_us = o->now_us };

    if (o->state == MAPPED_OUT_COLO &&
        (o->checkpoint_asked || o->now_us >= o->next_checkpoint_us))
        mapped_out_event(o, MAPPED_OUT_EV_CHECKPOINT, &in, NULL);
}

/* What has begun to go over of a checkpoint that will not be complete is let through first: on
 * no channel anything is under way then. */
static void fail_over(MappedOutgoing *o)
{
    if (!o->failover_sent) {
        page_sender_send(o->sender, o->now_us);
        if (!mapped_out_is_drained(o) || !o->given_up)
            return;
        mapped_out_put_phase(o, MAPPED_PHASE_FAILOVER);
        o->failover_sent = TRUE;
    }
    frame_queue_send(&o->queue, o->session, page_sender_main_flow(o->sender), o->now_us);
    if (o->eof_sent || !frame_queue_is_empty(&o->queue))
        return;
    o->eof_sent = TRUE;
    session_on_qemu_eof(o->session, NULL);
}

void mapped_out_run_checkpoints(MappedOutgoing *o)
{
    SwitchStep before;

    if (o->failure)
        return;
    if (o->state == MAPPED_OUT_FAILOVER)
        fail_over(o);
    begin(o);
    do {
        before = o->step;
        if (o->state == MAPPED_OUT_CHECKPOINT)
            step_once(o);
    } while (o->step != before && !o->failure);
}
