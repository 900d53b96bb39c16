/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the mapped destination does about each frame of the main channel that brings no pages. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "ram/mapped/frames.h"
#include "ram/mapped/incoming_priv.h"
#include "ram/ram_end.h"

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

static gboolean check_complete(const MappedIncoming *in, const RamEnd *end, GError **error)
{
    if (!ram_end_check_pages(end, in->pages_come, error))
        return FALSE;
    if (in->postcopy && in->missing > 0) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("RAM_END: %" PRIu64 " pages are still missing"), in->missing);
        return FALSE;
    }
    return TRUE;
}

/* TRUE with *ret_all FALSE: pages are still on their way. */
static gboolean have_all_come(const MappedIncoming *in, const RamEnd *end, gboolean *ret_all,
                              GError **error)
{
    g_autofree const Lane **bulk = g_new(const Lane *, in->bulk->len);

    for (guint i = 0; i < in->bulk->len; i++)
        bulk[i] = ((const MappedFeed *)in->bulk->pdata[i])->lane;
    if (!ram_end_have_all_come(end, in->lane, bulk, in->bulk->len, ret_all, error))
        return FALSE;
    *ret_all &= !mapped_incoming_is_placing(in);
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
    return check_complete(in, &end, error) &&
           mapped_incoming_enter(in, MAPPED_INCOMING_EV_RAM_END, error);
}

/* ---- all of them ---- */

gboolean mapped_incoming_take_frame(MappedIncoming *in, FrameType type, GBytes *body,
                                    gboolean *ret_done, GError **error)
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
