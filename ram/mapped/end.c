/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/end.h"

#include <glib/gi18n.h>
#include <unistd.h>

#include "ram/mapped/client_link.h"
#include "ram/mapped/client_log.h"
#include "ram/mapped/incoming.h"
#include "ram/mapped/outgoing.h"
#include "ram/mapped/pagemap_log.h"
#include "ram/uffd/clients.h"

struct MappedEnd {
    Session *session;
    PageSenderConfig config; /* source */
    Lane *lane;
    Lane *bulk[CHANNEL_BULK_MAX];
    guint n_bulk;
    ClientLink *link;        /* NULL: no client yet, or none any more */
    gboolean attached;       /* it has handed everything over, and that is good */
    gboolean refused;        /* or it is not */
    gboolean dropped;        /* what it still has to hear is of no account */
    GuestMemory *memory;     /* source, once attached */
    MappedOutgoing *outgoing; /* the same */
    MappedIncoming *incoming; /* destination */
    gint64 now_us;           /* of the call that is under way */
};

static gboolean is_source(const MappedEnd *end)
{
    return session_side(end->session) == SESSION_SOURCE;
}

MappedEnd *mapped_end_new(Session *session, const PageSenderConfig *config)
{
    MappedEnd *end = g_new0(MappedEnd, 1);

    end->session = session;
    if (is_source(end))
        end->config = *config;
    else
        end->incoming = mapped_incoming_new(session);
    return end;
}

void mapped_end_free(MappedEnd *end)
{
    if (!end)
        return;
    mapped_outgoing_free(end->outgoing);
    mapped_incoming_free(end->incoming);
    guest_memory_free(end->memory);
    client_link_free(end->link);
    g_free(end);
}

void mapped_end_set_lane(MappedEnd *end, Lane *lane)
{
    end->lane = lane;
    if (end->outgoing)
        mapped_outgoing_set_lane(end->outgoing, lane);
    if (end->incoming)
        mapped_incoming_set_lane(end->incoming, lane);
}

void mapped_end_add_bulk(MappedEnd *end, Lane *lane)
{
    g_return_if_fail(end->n_bulk < CHANNEL_BULK_MAX);
    end->bulk[end->n_bulk++] = lane;
    if (end->outgoing)
        mapped_outgoing_add_bulk(end->outgoing, lane);
    if (end->incoming)
        mapped_incoming_add_bulk(end->incoming, lane);
}

/* ---- the client's end ---- */

/* There is no machine (yet) that could say so. */
static void fail(MappedEnd *end, const GError *why)
{
    SessionState state = session_state(end->session);

    if (session_state_is_end(state))
        return;
    if (state == SESSION_AWAIT_QEMU)
        session_on_qemu_refused(end->session, why->message, NULL);
    else
        session_on_cancel(end->session, why->message, NULL);
}

gboolean mapped_end_attach(MappedEnd *end, int fd, GError **error)
{
    if (end->link || end->attached || end->refused) {
        close(fd);
        g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                            _("there is a memory client already"));
        return FALSE;
    }
    end->link = client_link_new(fd, is_source(end), error);
    return end->link != NULL;
}

static DirtyLog *make_log(MappedEnd *end, const MemoryLayout *layout, GError **error)
{
    return layout->log == MEMORY_LOG_CLIENT ? client_log_new(layout, error)
                                            : pagemap_log_new(layout, error);
}

static gboolean make_source(MappedEnd *end, MemoryLayout *layout, GError **error)
{
    MappedOutgoingConfig config = { .sender = end->config };
    DirtyLog *log = NULL;

    end->memory = guest_memory_new(layout, error);
    if (!end->memory)
        return FALSE;
    if (layout->log != MEMORY_LOG_NONE) {
        log = make_log(end, layout, error);
        if (!log)
            return FALSE;
    }
    end->outgoing = mapped_outgoing_new(&config, end->memory, log,
                                        client_link_client(end->link), end->session);
    if (end->lane)
        mapped_outgoing_set_lane(end->outgoing, end->lane);
    for (guint i = 0; i < end->n_bulk; i++)
        mapped_outgoing_add_bulk(end->outgoing, end->bulk[i]);
    return TRUE;
}

/* The client has handed over everything: there is something to work with. */
static void make_machine(MappedEnd *end, MemoryLayout *layout)
{
    g_autoptr(GError) error = NULL;

    end->attached = is_source(end)
                        ? make_source(end, layout, &error)
                        : mapped_incoming_attach(end->incoming, layout,
                                                 client_link_client(end->link), &error);
    end->refused = !end->attached;
    if (end->refused)
        fail(end, error);
}

gboolean mapped_end_is_ready(const MappedEnd *end)
{
    return end->attached;
}

gboolean mapped_end_is_parting(const MappedEnd *end)
{
    return end->link && !end->dropped && !client_link_is_drained(end->link);
}

void mapped_end_drop(MappedEnd *end)
{
    end->dropped = TRUE;
}

/* ---- what is to be waited for ---- */

guint mapped_end_poll(const MappedEnd *end, struct pollfd *fds, guint max)
{
    guint n = 1;
    int faults[2 + UFFD_CLIENTS_MAX];

    fds[0] = (struct pollfd){ .fd = -1 };
    if (end->link && client_link_fd(end->link) >= 0) {
        fds[0].events = client_link_poll_events(end->link);
        fds[0].fd = fds[0].events ? client_link_fd(end->link) : -1;
    }
    if (!end->incoming || session_state_is_end(session_state(end->session)))
        return n;
    n += mapped_incoming_poll_fds(end->incoming, faults, MIN(max - n, G_N_ELEMENTS(faults)));
    for (guint i = 1; i < n; i++)
        fds[i] = (struct pollfd){ .fd = faults[i - 1], .events = POLLIN };
    return n;
}

static void look_at_layout(MappedEnd *end)
{
    MemoryLayout *layout = client_link_layout(end->link);

    if (layout && !end->attached && !end->refused &&
        !session_state_is_end(session_state(end->session)))
        make_machine(end, layout);
}

static void on_event(MemoryEvent *event, gpointer data)
{
    MappedEnd *end = data;
    g_autoptr(GError) error = NULL;

    /* It may say something as soon as it has handed over everything. */
    look_at_layout(end);
    if (end->outgoing) {
        mapped_outgoing_on_client(end->outgoing, event, end->now_us);
    } else if (end->attached) {
        mapped_incoming_on_client(end->incoming, event, end->now_us);
    } else if (event->type == MEMORY_EV_GONE) {
        error = g_error_new(RAM_ERROR, RAM_ERROR_STATE, _("the memory client is gone%s%s"),
                            event->text ? ": " : "", event->text ? event->text : "");
        fail(end, error);
    }
}

/* Faults first: somebody waits for them. */
void mapped_end_polled(MappedEnd *end, const struct pollfd *fds, guint n, gint64 now_us)
{
    end->now_us = now_us;
    for (guint i = 1; i < n && end->incoming; i++) {
        if (fds[i].revents)
            mapped_incoming_on_readable(end->incoming, fds[i].fd, now_us);
    }
    if (!end->link)
        return;
    if (fds[0].revents) {
        client_link_run(end->link, on_event, end);
        look_at_layout(end);
    }
    if (end->outgoing && client_link_is_read(end->link))
        mapped_outgoing_on_client_read(end->outgoing);
}

gint64 mapped_end_due_us(const MappedEnd *end)
{
    if (end->outgoing)
        return mapped_outgoing_wake_us(end->outgoing);
    return end->incoming ? mapped_incoming_wake_us(end->incoming) : G_MAXINT64;
}

/* ---- the machine ---- */

gboolean mapped_end_run(MappedEnd *end, gint64 now_us, GError **error)
{
    if (end->outgoing)
        return mapped_outgoing_run(end->outgoing, now_us, error);
    return !end->incoming || mapped_incoming_run(end->incoming, now_us, error);
}

gboolean mapped_end_waits_for_worker(const MappedEnd *end)
{
    return end->outgoing && mapped_outgoing_waits_for_worker(end->outgoing);
}

gboolean mapped_end_is_recovering(const MappedEnd *end)
{
    if (end->incoming)
        return mapped_incoming_is_recovering(end->incoming);
    return end->outgoing && mapped_outgoing_is_recovering(end->outgoing);
}

/* One that has no machine yet has to hear of it as well. */
static void tell_end(MappedEnd *end, SessionState state)
{
    MemoryClient *client = client_link_client(end->link);

    client->ops->end(client,
                     state == SESSION_CANCELLED ? MEMORY_END_CANCELLED : MEMORY_END_FAILED,
                     session_reason(end->session));
}

void mapped_end_on_session_end(MappedEnd *end, SessionState state, gint64 now_us)
{
    if (end->outgoing)
        mapped_outgoing_on_session_end(end->outgoing, state, now_us);
    else if (end->incoming && end->attached)
        mapped_incoming_on_session_end(end->incoming, state, session_reason(end->session));
    else if (end->link)
        tell_end(end, state);
}

const char *mapped_end_phase(const MappedEnd *end)
{
    if (end->incoming)
        return mapped_incoming_state_name(mapped_incoming_state(end->incoming));
    return mapped_out_state_name(end->outgoing ? mapped_outgoing_state(end->outgoing)
                                               : MAPPED_OUT_NONE);
}

void mapped_end_get_stats(const MappedEnd *end, gint64 now_us, RamStats *ret_stats)
{
    *ret_stats = (RamStats){ 0 };
    if (end->incoming)
        mapped_incoming_get_stats(end->incoming, now_us, ret_stats);
    else if (end->outgoing)
        mapped_outgoing_get_stats(end->outgoing, now_us, ret_stats);
}
