/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the rows of the mapped source's table do, one step each. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/mapped/frames.h"
#include "ram/mapped/outgoing_priv.h"
#include "ram/mapped/refusals.h"

gboolean mapped_out_act_nothing(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    return TRUE;
}

/* ---- getting ready ---- */

gboolean mapped_out_act_start(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (!o->log) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("the memory client has handed over no dirty log: what its guest writes "
                      "would be lost"));
        return FALSE;
    }
    if (!mapped_out_check_checkpoints(o, error) ||
        !memory_refusals_check(guest_memory_layout(o->memory),
                               o->params.postcopy && !o->params.checkpoints, error) ||
        !notifier_list_tell(o->notifiers, NOTIFY_PROBE, error) ||
        !notifier_list_tell(o->notifiers, NOTIFY_ADVISE, error) ||
        !mapped_out_put_blocks(o, MAPPED_BEGINS, error))
        return FALSE;
    o->began_us = in->now_us;
    mapped_out_put_phase(o, MAPPED_PHASE_ADVISE);
    o->advise_mark = session_sent_bytes(o->session) + o->queue.bytes;
    o->client->ops->advise(o->client);
    return TRUE;
}

gboolean mapped_out_act_advised(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    o->advised = TRUE;
    return TRUE;
}

static gboolean make_encoder(MappedOutgoing *o, GError **error)
{
    /* Whoever asks for it again begins anew: the other side has all the pages. */
    if (o->params.xbzrle_cache == 0 && o->xbzrle) {
        xbzrle_encoder_stats(o->xbzrle, &o->stats.xbzrle);
        g_clear_pointer(&o->xbzrle, xbzrle_encoder_free);
    }
    if (o->params.xbzrle_cache == 0 || !(session_features(o->session) & SESSION_FEATURE_XBZRLE))
        return TRUE;
    if (o->xbzrle)
        return xbzrle_encoder_resize(o->xbzrle, o->params.xbzrle_cache, error);
    o->xbzrle = xbzrle_encoder_new(o->params.xbzrle_cache, ram_blocks_target_page(o->blocks),
                                   error);
    return o->xbzrle != NULL;
}

gboolean mapped_out_act_ready(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    g_autoptr(GError) refused = NULL;

    o->stats.setup_us = (guint64)(in->now_us - o->began_us);
    o->period_began_us = in->now_us;
    if (!make_encoder(o, &refused))
        mapped_out_fail(o, refused->message);
    return TRUE;
}

gboolean mapped_out_act_recover(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    guint n = ram_blocks_count(o->blocks);

    o->began_us = in->now_us;
    o->received = g_new0(Bitmap *, n);
    o->received_upto = g_new0(guint64, n);
    return mapped_out_put_blocks(o, MAPPED_RECOVERS, error);
}

/* ---- the guest runs here ---- */

static gboolean refuse_answer(const char *what, GError **error)
{
    g_set_error(error, RAM_ERROR, RAM_ERROR_STATE, _("\"%s\" answers nothing"), what);
    return FALSE;
}

gboolean mapped_out_act_synced(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (o->sync != SYNC_ASKED)
        return refuse_answer("synced", error);
    o->sync = SYNC_DUE;
    return TRUE;
}

static gboolean drop_range(MappedOutgoing *o, guint block, const MemoryRange *range, GError **error)
{
    guint64 target = ram_blocks_target_page(o->blocks);
    guint64 before = dirty_map_count(o->map);

    if (!dirty_map_drop(o->map, block, range->start / target, range->length / target, error))
        return FALSE;
    o->stats.hinted_pages += before - MIN(before, dirty_map_count(o->map));
    return TRUE;
}

gboolean mapped_out_act_free_hints(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    mapped_out_forget_window(o);
    if (o->sync != SYNC_NONE || dirty_map_is_ignored(o->map, in->event->block))
        return TRUE;
    for (guint i = 0; i < in->event->n_ranges; i++) {
        if (!drop_range(o, in->event->block, &in->event->ranges[i], error))
            return FALSE;
    }
    return TRUE;
}

gboolean mapped_out_act_start_postcopy(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (!o->params.postcopy || o->params.checkpoints) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_STATE,
                    _("a switch to post-copy was asked for that the parameters do not allow"));
        return FALSE;
    }
    if (!memory_refusals_check(guest_memory_layout(o->memory), TRUE, error))
        return FALSE;
    o->postcopy_asked = TRUE;
    return TRUE;
}

gboolean mapped_out_act_params(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    const MemoryParams *params = in->event->params;
    gboolean checkpoints = o->params.checkpoints;

    o->params = *params;
    o->params.checkpoints = checkpoints; /* for good */
    rate_limit_set(&o->limit, o->step == SWITCH_DONE ? params->max_postcopy_bandwidth
                                                     : params->max_bandwidth);
    auto_converge_init(&o->converge, params->throttle_initial, params->throttle_increment,
                       params->throttle_max);
    if (!params->auto_converge && auto_converge_stop(&o->converge))
        o->client->ops->throttle(o->client, 0);
    return o->state != MAPPED_OUT_ACTIVE || make_encoder(o, error);
}

/* ---- the switch-over ---- */

gboolean mapped_out_act_switch(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    o->step = SWITCH_STOP;
    o->switch_began_us = in->now_us;
    o->client->ops->pause(o->client);
    o->pause_sent = TRUE;
    mapped_out_enter(o, o->params.pause_before_switchover ? MAPPED_OUT_PRE_SWITCHOVER
                                                          : MAPPED_OUT_DEVICE);
    return TRUE;
}

gboolean mapped_out_act_paused(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (o->paused)
        return refuse_answer("paused", error);
    o->paused = TRUE;
    return TRUE;
}

gboolean mapped_out_act_device(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (!o->paused || o->device_whole)
        return refuse_answer("device", error);
    if (in->event->len > MEMORY_DEVICE_MAX - o->device->len) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("the device state has more than %d bytes"), MEMORY_DEVICE_MAX);
        return FALSE;
    }
    if (in->event->len > 0)
        g_byte_array_append(o->device, in->event->bytes, (guint)in->event->len);
    o->device_whole = in->event->last;
    return TRUE;
}

gboolean mapped_out_act_given_up(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (!o->no_return_asked || o->given_up)
        return refuse_answer("given-up", error);
    o->given_up = TRUE;
    return TRUE;
}

gboolean mapped_out_act_discarded(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    if (o->discards_asked == 0)
        return refuse_answer("discarded", error);
    o->discards_asked--;
    return TRUE;
}

/* ---- ends ---- */

gboolean mapped_out_act_cancel(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    session_on_cancel(o->session, _("cancelled by the memory client"), NULL);
    return TRUE;
}

gboolean mapped_out_act_client_failed(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    const char *text = in->event->text;
    g_autofree char *why = NULL;

    if (text)
        why = g_strdup_printf(_("the memory client: %s"), text);
    else if (o->client_gone)
        why = g_strdup(_("the memory client has closed its connection"));
    else
        why = g_strdup(_("the memory client has failed"));
    mapped_out_fail(o, why);
    return TRUE;
}

static void end_client(MappedOutgoing *o, MemoryEndOutcome outcome, const char *text)
{
    request_queue_empty(o->requests);
    mapped_out_supply_clear(o);
    if (o->listened)
        notifier_list_tell(o->notifiers, NOTIFY_END, NULL);
    o->listened = FALSE;
    if (!o->client_gone)
        o->client->ops->end(o->client, outcome, text && *text ? text : NULL);
}

/* The guest goes on here as if nothing had been. */
static void go_on_here(MappedOutgoing *o, const char *reason)
{
    if (o->client_gone)
        return;
    if (auto_converge_stop(&o->converge))
        o->client->ops->throttle(o->client, 0);
    if (o->pause_sent)
        o->client->ops->resume(o->client, reason);
}

gboolean mapped_out_act_completed(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    mapped_out_enter(o, MAPPED_OUT_COMPLETED);
    end_client(o, MEMORY_END_COMPLETED, NULL);
    return TRUE;
}

gboolean mapped_out_act_failed(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    const char *reason = o->failure ? o->failure : in->reason;

    mapped_out_enter(o, MAPPED_OUT_FAILED);
    go_on_here(o, reason);
    end_client(o, MEMORY_END_FAILED, reason);
    return TRUE;
}

gboolean mapped_out_act_cancelled(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    mapped_out_enter(o, MAPPED_OUT_CANCELLED);
    go_on_here(o, in->reason);
    end_client(o, MEMORY_END_CANCELLED, in->reason);
    return TRUE;
}

gboolean mapped_out_act_lost(MappedOutgoing *o, const MappedOutInput *in, GError **error)
{
    mapped_out_enter(o, MAPPED_OUT_POSTCOPY_PAUSED);
    end_client(o, MEMORY_END_PAUSED, o->failure ? o->failure : in->reason);
    return TRUE;
}
