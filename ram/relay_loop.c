/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The relay's thread: waits for all descriptors at once, then gives each its turn. */
#include "config.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <poll.h>

#include "ram/pump.h"
#include "ram/relay_priv.h"

enum { POLL_COMMANDS, POLL_LISTEN, POLL_QEMU, POLL_LINK, POLL_CANDIDATES };

#define POLL_MAX (POLL_CANDIDATES + RELAY_CANDIDATES_MAX)

typedef struct {
    struct pollfd fds[POLL_MAX];
    guint n;
    gint64 deadline_us; /* the nearest, or G_MAXINT64 */
} Waiting;

/* A descriptor with nothing to wait for stays out: poll() reports a hang-up also when it was not
 * asked for, and would do so for ever. */
static void wait_for(Waiting *w, guint slot, int fd, short events)
{
    w->fds[slot].fd = events ? fd : -1;
    w->fds[slot].events = events;
}

static void wait_until(Waiting *w, gint64 deadline_us)
{
    if (deadline_us && deadline_us < w->deadline_us)
        w->deadline_us = deadline_us;
}

static short link_events(Link *link, gboolean want_write)
{
    return tls_channel_poll_events(link->channel, TRUE, want_write);
}

static short qemu_events(Relay *relay)
{
    const guint8 *bytes;
    short events = 0;

    if (session_wants_qemu(relay->session))
        events |= POLLIN;
    if (session_qemu_output(relay->session, &bytes) > 0)
        events |= POLLOUT;
    return events;
}

static void prepare(Relay *relay, Waiting *w)
{
    gboolean listening = session_state(relay->session) == SESSION_AWAIT_QEMU;
    const guint8 *bytes;

    w->n = POLL_CANDIDATES + relay->candidates->len;
    w->deadline_us = G_MAXINT64;
    wait_for(w, POLL_COMMANDS, mailbox_fd(relay->commands), POLLIN);
    wait_for(w, POLL_LISTEN, relay->listen_fd, listening ? POLLIN : 0);
    wait_for(w, POLL_QEMU, relay->qemu_fd, qemu_events(relay));
    wait_for(w, POLL_LINK, -1, 0);
    if (relay->link) {
        gboolean output = relay->link->state == LINK_OPEN &&
                          session_output(relay->session, &bytes) > 0;

        wait_for(w, POLL_LINK, tls_channel_fd(relay->link->channel),
                 link_events(relay->link, output));
        wait_until(w, relay->link->deadline_us);
    }
    for (guint i = 0; i < relay->candidates->len; i++) {
        Link *link = relay->candidates->pdata[i];

        wait_for(w, POLL_CANDIDATES + i, tls_channel_fd(link->channel),
                 link_events(link, link->last_words != NULL));
        wait_until(w, link->deadline_us);
    }
}

static int timeout_ms(const Waiting *w)
{
    gint64 left;

    if (w->deadline_us == G_MAXINT64)
        return -1;
    left = w->deadline_us - g_get_monotonic_time();
    return left <= 0 ? 0 : (int)MIN(left / 1000 + 1, G_MAXINT);
}

static gboolean is_due(const Link *link)
{
    return link->deadline_us && g_get_monotonic_time() >= link->deadline_us;
}

static void take_commands(Relay *relay)
{
    RelayCommand *command;

    while ((command = mailbox_receive(relay->commands))) {
        relay_take_command(relay, command);
        relay_act(relay);
    }
}

/* Backwards: a link that leaves takes its place with it. */
static void turn_candidates(Relay *relay, const Waiting *w)
{
    for (guint i = w->n - POLL_CANDIDATES; i-- > 0 && i < relay->candidates->len;) {
        Link *link = relay->candidates->pdata[i];

        if (w->fds[POLL_CANDIDATES + i].revents || is_due(link))
            relay_greet_candidate(relay, link);
        relay_act(relay);
    }
}

static void turn_deadline(Relay *relay)
{
    g_autofree char *reason = NULL;

    if (!relay->link || !is_due(relay->link))
        return;
    relay->link->deadline_us = 0;
    reason = g_strdup_printf(relay->link->state == LINK_HANDSHAKE
                                 ? _("the peer %s did not answer the TLS handshake in time")
                                 : _("the peer %s did not answer in time"),
                             relay->link->address);
    session_on_channel_lost(relay->session, reason);
    relay_act(relay);
}

static gboolean turn_link_in(Relay *relay, gboolean ready)
{
    gboolean more = FALSE;

    if (!relay->link || !(ready || tls_channel_pending(relay->link->channel) > 0))
        return FALSE;
    if (relay->link->state == LINK_HANDSHAKE)
        relay_shake_hands(relay);
    else
        more = pump_channel_in(relay->link, relay->session);
    relay_act(relay);
    return more;
}

static gboolean turn_qemu_in(Relay *relay, gboolean ready)
{
    gboolean more;

    if (relay->qemu_fd < 0 || !ready)
        return FALSE;
    more = pump_qemu_in(relay->qemu_fd, relay->session);
    relay_act(relay);
    return more;
}

/* Tried without asking poll() first: most of the time it goes, and a page is out a turn earlier. */
static gboolean turn_qemu_out(Relay *relay)
{
    gboolean more;

    if (relay->qemu_fd < 0)
        return FALSE;
    more = pump_qemu_out(relay->qemu_fd, relay->session);
    relay_act(relay);
    return more;
}

static gboolean turn_link_out(Relay *relay)
{
    gboolean more;

    if (!relay->link || relay->link->state != LINK_OPEN)
        return FALSE;
    session_settle(relay->session);
    more = pump_channel_out(relay->link, relay->session);
    relay_act(relay);
    if (relay->link && relay->finishing && !more) {
        const guint8 *bytes;

        if (session_output(relay->session, &bytes) == 0)
            link_say_bye(relay->link);
    }
    return more;
}

/* Once true it stays so; everything that moves bytes has had its turn. */
static void watch_return_path(Relay *relay)
{
    SessionStats stats;

    if (relay->return_path_reported)
        return;
    session_get_stats(relay->session, &stats);
    if (relay->side == SESSION_SOURCE ? stats.bytes_to_qemu : stats.bytes_from_qemu) {
        relay->return_path_reported = TRUE;
        relay_report(relay, relay_report_new(RELAY_REPORT_RETURN_PATH));
    }
}

gpointer relay_run(gpointer data)
{
    Relay *relay = data;
    gboolean more = FALSE;

    while (!relay->stopped) {
        Waiting w;

        prepare(relay, &w);
        if (poll(w.fds, w.n, more ? 0 : timeout_ms(&w)) < 0 && errno != EINTR)
            g_error("poll: %s", g_strerror(errno));

        turn_candidates(relay, &w);
        if (w.fds[POLL_COMMANDS].revents)
            take_commands(relay);
        if (w.fds[POLL_LISTEN].revents)
            relay_accept_qemu(relay);
        more = turn_link_in(relay, w.fds[POLL_LINK].revents != 0);
        more |= turn_qemu_out(relay);
        more |= turn_qemu_in(relay, w.fds[POLL_QEMU].revents != 0);
        more |= turn_link_out(relay);
        turn_deadline(relay);
        watch_return_path(relay);
    }
    return NULL;
}
