/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the memory client of a destination answers and says, and what it is told at the end. */
#include "config.h"

#include <glib/gi18n.h>

#include "ram/mapped/incoming_priv.h"
#include "util/autofd.h"

static void unexpected(MappedIncoming *in, const MemoryEvent *event)
{
    g_autofree char *text = g_strdup_printf(_("the memory client says \"%s\" in state %s, where it "
                                              "must not"),
                                            memory_event_name(event->type),
                                            mapped_incoming_state_name(in->state));

    mapped_incoming_fail(in, text);
}

/* FALSE: nobody has asked. */
static gboolean answers(MappedIncoming *in, const MemoryEvent *event, MappedAwaits awaited)
{
    if (in->awaits != awaited) {
        unexpected(in, event);
        return FALSE;
    }
    in->awaits = AWAITS_NOTHING;
    return TRUE;
}

/* What was checked when the client was asked has a row. */
static void enter(MappedIncoming *in, MappedIncomingEvent event)
{
    g_autoptr(GError) error = NULL;

    if (!mapped_incoming_enter(in, event, &error))
        mapped_incoming_fail(in, error->message);
}

static void on_advised(MappedIncoming *in, const MemoryEvent *event)
{
    if (!answers(in, event, AWAITS_ADVISED))
        return;
    in->control_done = TRUE;
    enter(in, MAPPED_INCOMING_EV_ADVISE);
}

static void on_listening(MappedIncoming *in, MemoryEvent *event)
{
    g_autoptr(GError) error = NULL;

    if (!answers(in, event, AWAITS_LISTENING))
        return;
    if (!mapped_incoming_listen(in, autofd_steal(&event->fd), &error))
        mapped_incoming_fail(in, error->message);
    else
        enter(in, MAPPED_INCOMING_EV_LISTENING);
}

/* A guest that runs on all of its memory has all of it, whatever a recovery asks for. */
static void on_running(MappedIncoming *in, const MemoryEvent *event)
{
    if (!answers(in, event, AWAITS_RUNNING))
        return;
    in->control_done = TRUE;
    in->stats.checkpoints += in->state == MAPPED_INCOMING_RESTART;
    for (guint i = 0; !in->postcopy && i < in->layout->n_regions; i++)
        received_map_set(in->received, i, 0,
                         in->layout->regions[i].length / mapped_incoming_target(in));
    enter(in, in->state == MAPPED_INCOMING_RESTART ? MAPPED_INCOMING_EV_RESTARTED
                                                   : MAPPED_INCOMING_EV_RUNNING);
}

static void on_stopped(MappedIncoming *in, const MemoryEvent *event)
{
    if (answers(in, event, AWAITS_PAUSED))
        mapped_incoming_on_stopped(in);
}

/* The end of the session does the rest. */
static void on_failover(MappedIncoming *in, const MemoryEvent *event)
{
    if (in->failed_over)
        return;
    if (!mapped_incoming_can_fail_over(in)) {
        unexpected(in, event);
        return;
    }
    in->failed_over = in->over = TRUE;
    session_on_cancel(in->session, _("the guest of the destination goes on alone"), NULL);
}

static void on_end(MappedIncoming *in, const MemoryEvent *event)
{
    const char *text = event->text ? event->text : _("no reason given");
    g_autofree char *reason = NULL;

    if (event->type == MEMORY_EV_CANCEL) {
        if (in->state == MAPPED_INCOMING_END)
            return;
        in->over = TRUE;
        session_on_cancel(in->session, _("the memory client has cancelled the migration"), NULL);
        return;
    }
    in->client_failed = TRUE;
    reason = g_strdup_printf(event->type == MEMORY_EV_GONE
                                 ? _("the memory client of the destination is gone: %s")
                                 : _("the memory client of the destination failed: %s"),
                             text);
    mapped_incoming_fail(in, reason);
}

void mapped_incoming_on_client(MappedIncoming *in, MemoryEvent *event, gint64 now_us)
{
    if (in->over)
        return;
    in->now_us = now_us;
    switch (event->type) {
    case MEMORY_EV_ADVISED:
        on_advised(in, event);
        return;
    case MEMORY_EV_DISCARDED:
        answers(in, event, AWAITS_DISCARDED);
        return;
    case MEMORY_EV_LISTENING:
        on_listening(in, event);
        return;
    case MEMORY_EV_RUNNING:
        on_running(in, event);
        return;
    case MEMORY_EV_PAUSED:
        on_stopped(in, event);
        return;
    case MEMORY_EV_SYNCED:
        answers(in, event, AWAITS_SYNCED);
        return;
    case MEMORY_EV_FAILOVER:
        on_failover(in, event);
        return;
    case MEMORY_EV_SHARED:
        mapped_incoming_share(in, event);
        return;
    case MEMORY_EV_UNSHARED:
        mapped_incoming_unshare(in, event->id);
        return;
    case MEMORY_EV_VCPUS:
        block_time_set_vcpus(in->times, event->threads, event->n_threads, now_us);
        return;
    case MEMORY_EV_FAILED:
    case MEMORY_EV_CANCEL:
    case MEMORY_EV_GONE:
        on_end(in, event);
        return;
    default:
        unexpected(in, event);
    }
}

/* ---- the end ---- */

/* What the guest has here, not how the session went. */
static MemoryEndOutcome outcome_of(const MappedIncoming *in, SessionState state)
{
    gboolean whole = in->state == MAPPED_INCOMING_END ||
                     (in->state == MAPPED_INCOMING_RUNNING && !in->postcopy);

    if (state == SESSION_COMPLETED || whole)
        return MEMORY_END_COMPLETED;
    if (in->run_asked || in->recovers)
        return MEMORY_END_PAUSED;
    return state == SESSION_CANCELLED ? MEMORY_END_CANCELLED : MEMORY_END_FAILED;
}

void mapped_incoming_on_session_end(MappedIncoming *in, SessionState state, const char *reason)
{
    MemoryEndOutcome outcome = outcome_of(in, state);
    g_autofree char *text = NULL;

    in->over = TRUE;
    /* Whoever hears of the end may use the memory for something else. */
    if (in->placer)
        uffd_placer_stop(in->placer);
    if (!in->client)
        return;
    if (in->failed_over || mapped_incoming_can_fail_over(in))
        outcome = mapped_incoming_end_checkpoints(in, state, reason, &text);
    if (text)
        reason = text;
    in->client->ops->end(in->client, outcome,
                         outcome == MEMORY_END_COMPLETED || !reason || !*reason ? NULL : reason);
    in->client = NULL;
}
