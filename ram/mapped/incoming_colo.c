/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checkpoints at the mapped destination: the first is a migration whose guest then runs on both
 * hosts; what comes after it goes into a second copy of the memory (ram/mapped/colo_cache.h), and
 * becomes the guest's when all of it is here. The devices' state is kept with it: what has begun
 * to come and does not end changes nothing.
 *
 * Copying all of the memory takes a while: it is done in steps, one in each run of the machine. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/mapped/client_log.h"
#include "ram/mapped/frames.h"
#include "ram/mapped/incoming_priv.h"
#include "ram/mapped/pagemap_log.h"

/* Bytes that are copied in one run. */
#define STEP_MAX (G_GUINT64_CONSTANT(8) << 20)

gboolean mapped_incoming_make_log(MappedIncoming *in, const MemoryLayout *layout, GError **error)
{
    if (!layout->params.checkpoints)
        return TRUE;
    in->log = layout->log == MEMORY_LOG_CLIENT ? client_log_new(layout, error)
                                               : pagemap_log_new(layout, error);
    in->checkpoint = g_byte_array_new();
    return in->log != NULL;
}

void mapped_incoming_drop_cache(MappedIncoming *in)
{
    g_clear_pointer(&in->cache, colo_cache_free);
    g_clear_pointer(&in->log, dirty_log_free);
    g_clear_pointer(&in->checkpoint, g_byte_array_unref);
}

static gboolean is_of_checkpoint(const MappedIncoming *in)
{
    return in->state == MAPPED_INCOMING_CHECKPOINT ||
           in->state == MAPPED_INCOMING_CHECKPOINT_DEVICE;
}

/* ---- what comes ---- */

/* The first: the guest has never run here, and the source's does not stand still for this. */
static gboolean fill_some(MappedIncoming *in, GError **error)
{
    gboolean done = FALSE;

    if (in->state != MAPPED_INCOMING_FILL) {
        if (!mapped_incoming_enter(in, MAPPED_INCOMING_EV_FIRST_CHECKPOINT, error))
            return FALSE;
        in->cache = colo_cache_new(in->memory, in->log, error);
        if (!in->cache)
            return FALSE;
    }
    if (!colo_cache_fill(in->cache, STEP_MAX, &done, error))
        return FALSE;
    if (done)
        return mapped_incoming_enter(in, MAPPED_INCOMING_EV_FILLED, error);
    mapped_incoming_wake_at(in, in->now_us);
    return TRUE;
}

gboolean mapped_incoming_begin_checkpoint(MappedIncoming *in, gboolean *ret_done, GError **error)
{
    if (!in->log) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                            _("the source makes checkpoints, and the memory client of the "
                              "destination has not asked for them"));
        return FALSE;
    }
    g_byte_array_set_size(in->checkpoint, 0);
    if (in->state != MAPPED_INCOMING_ADVISE && in->state != MAPPED_INCOMING_FILL) {
        *ret_done = TRUE;
        return mapped_incoming_enter(in, MAPPED_INCOMING_EV_PHASE_CHECKPOINT, error);
    }
    if (!fill_some(in, error))
        return FALSE;
    *ret_done = in->state == MAPPED_INCOMING_CHECKPOINT;
    return TRUE;
}

gboolean mapped_incoming_keep_device(MappedIncoming *in, GBytes *body, gboolean *ret_done,
                                     GError **error)
{
    gsize len;
    const guint8 *bytes = g_bytes_get_data(body, &len);

    *ret_done = FALSE;
    if (!is_of_checkpoint(in))
        return TRUE;
    *ret_done = TRUE;
    if (len > MEMORY_DEVICE_MAX - in->checkpoint->len) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("DATA: more than %d bytes of device state"), MEMORY_DEVICE_MAX);
        return FALSE;
    }
    g_byte_array_append(in->checkpoint, bytes, (guint)len);
    return mapped_incoming_enter(in, MAPPED_INCOMING_EV_DATA, error);
}

/* ---- commit ---- */

static void restart(MappedIncoming *in)
{
    in->awaits = AWAITS_RUNNING;
    in->run_asked = TRUE;
    in->client->ops->device(in->client, in->checkpoint->data, in->checkpoint->len, TRUE);
    in->client->ops->run(in->client);
}

/* What either guest has written is known now. */
static gboolean begin_flush(MappedIncoming *in, MappedIncomingEvent event, GError **error)
{
    ColoCacheStats stats;

    if (!colo_cache_commit(in->cache, error))
        return FALSE;
    colo_cache_get_stats(in->cache, &stats);
    in->stats.diverged_pages = stats.pages_diverged;
    return mapped_incoming_enter(in, event, error);
}

static gboolean begin_commit(MappedIncoming *in, GError **error)
{
    MappedIncomingEvent event =
        in->run_asked ? MAPPED_INCOMING_EV_COMMIT : MAPPED_INCOMING_EV_FIRST_COMMIT;

    if (!mapped_incoming_check(in, event, error))
        return FALSE;
    if (!in->run_asked)
        return begin_flush(in, event, error);
    in->awaits = AWAITS_PAUSED;
    in->client->ops->pause(in->client);
    return mapped_incoming_enter(in, event, error);
}

static gboolean flush_some(MappedIncoming *in, GError **error)
{
    gboolean done = FALSE;

    if (!colo_cache_flush(in->cache, STEP_MAX, &done, error))
        return FALSE;
    if (!done)
        return TRUE;
    if (!mapped_incoming_enter(in, MAPPED_INCOMING_EV_FLUSHED, error))
        return FALSE;
    restart(in);
    return TRUE;
}

gboolean mapped_incoming_take_commit(MappedIncoming *in, GError **error)
{
    gboolean ok;

    switch (in->state) {
    case MAPPED_INCOMING_STOP:
        ok = begin_flush(in, MAPPED_INCOMING_EV_STOPPED, error);
        break;
    case MAPPED_INCOMING_FLUSH:
        ok = flush_some(in, error);
        break;
    default:
        ok = begin_commit(in, error);
    }
    if (ok && in->awaits == AWAITS_NOTHING)
        mapped_incoming_wake_at(in, in->now_us);
    return ok;
}

void mapped_incoming_on_stopped(MappedIncoming *in)
{
    if (!in->log->asks_client)
        return;
    in->awaits = AWAITS_SYNCED;
    in->client->ops->log_sync(in->client);
}

/* ---- failover ---- */

gboolean mapped_incoming_take_failover(MappedIncoming *in, GError **error)
{
    if (is_of_checkpoint(in) && !in->run_asked) {
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                            _("PHASE failover before the first checkpoint is complete"));
        return FALSE;
    }
    if (!mapped_incoming_enter(in, MAPPED_INCOMING_EV_PHASE_FAILOVER, error))
        return FALSE;
    in->failed_over = TRUE;
    mapped_incoming_drop_cache(in);
    return TRUE;
}

gboolean mapped_incoming_can_fail_over(const MappedIncoming *in)
{
    return in->cache && in->run_asked;
}

/* What has begun to become the guest's is of neither checkpoint until it is whole. */
static gboolean finish_flush(MappedIncoming *in, GError **error)
{
    gboolean done;

    if (!colo_cache_flush(in->cache, G_MAXUINT64, &done, error) ||
        !mapped_incoming_enter(in, MAPPED_INCOMING_EV_FLUSHED, error))
        return FALSE;
    restart(in);
    return TRUE;
}

MemoryEndOutcome mapped_incoming_end_checkpoints(MappedIncoming *in, SessionState state,
                                                 const char *reason, char **ret_text)
{
    g_autoptr(GError) error = NULL;
    MemoryEndOutcome outcome = MEMORY_END_FAILED_OVER;

    *ret_text = NULL;
    if (in->client_failed)
        outcome = MEMORY_END_FAILED;
    else if (state == SESSION_CANCELLED && !in->failed_over)
        outcome = MEMORY_END_CANCELLED;
    else if (in->state == MAPPED_INCOMING_STOP)
        in->client->ops->resume(in->client, reason);
    else if (in->state == MAPPED_INCOMING_FLUSH && !finish_flush(in, &error)) {
        outcome = MEMORY_END_FAILED;
        *ret_text = g_strdup_printf(_("the last checkpoint cannot be finished: %s"),
                                    error->message);
    }
    mapped_incoming_drop_cache(in);
    return outcome;
}
