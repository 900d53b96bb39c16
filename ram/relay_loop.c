/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The relay's thread: waits for all descriptors at once, then gives each its turn. */
#include "config.h"

#include <errno.h>
#include <poll.h>

#include "ram/relay_priv.h"

enum {
    POLL_COMMANDS,
    POLL_LISTEN,
    POLL_QEMU,
    POLL_QEMU_PREEMPT,
    POLL_MAIN,
    POLL_LANES,
    POLL_WORKER = POLL_LANES + RELAY_LANES_MAX,
    POLL_LEAVING,
    POLL_DISKS,
    POLL_CANDIDATES,
    POLL_ENGINE = POLL_CANDIDATES + RELAY_CANDIDATES_MAX,
    POLL_MAX = POLL_ENGINE + ENGINE_POLL_MAX,
};

typedef struct {
    struct pollfd fds[POLL_MAX];
    guint n;
    guint n_candidates;
    guint n_engine;
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

static short qemu_events(Relay *relay, PumpQemu *qemu)
{
    struct iovec iov[QEMU_SINK_IOV_MAX];
    short events = 0;

    if (qemu->fd < 0)
        return 0;
    if (!qemu->ended && engine_wants(relay->engine, qemu->connection))
        events |= POLLIN;
    if (engine_output(relay->engine, qemu->connection, iov) > 0)
        events |= POLLOUT;
    return events;
}

/* Until the main connection is there, and then for QEMU's preempt connection. */
static gboolean is_listening(const Relay *relay)
{
    return session_state(relay->session) == SESSION_AWAIT_QEMU ||
           session_state_is_active(session_state(relay->session));
}

static void prepare_channel(Waiting *w, guint slot, const RelayChannel *channel)
{
    Link *link = channel->pump.link;

    wait_for(w, slot, -1, 0);
    if (!link)
        return;
    wait_for(w, slot, tls_channel_fd(link->channel),
             link_events(link, link->state == LINK_OPEN &&
                                   pump_channel_has_output(&channel->pump)));
    /* It was received ahead: poll() knows nothing of it. */
    if (tls_channel_pending(link->channel) > 0)
        wait_until(w, 1);
}

static void prepare_candidates(Relay *relay, Waiting *w)
{
    w->n_candidates = relay->candidates->len;
    for (guint i = 0; i < RELAY_CANDIDATES_MAX; i++)
        wait_for(w, POLL_CANDIDATES + i, -1, 0);
    for (guint i = 0; i < w->n_candidates; i++) {
        Link *link = relay->candidates->pdata[i];

        wait_for(w, POLL_CANDIDATES + i, tls_channel_fd(link->channel),
                 link_events(link, link->last_words != NULL));
        wait_until(w, link->deadline_us);
    }
}

/* A memory client's. */
static void prepare_engine(Relay *relay, Waiting *w)
{
    w->n_engine = engine_poll(relay->engine, w->fds + POLL_ENGINE);
    w->n = POLL_ENGINE + w->n_engine;
    if (session_state_is_active(session_state(relay->session)))
        wait_until(w, engine_due_us(relay->engine));
    wait_until(w, relay->memory_until_us);
}

static void prepare(Relay *relay, Waiting *w)
{
    w->deadline_us = G_MAXINT64;
    wait_for(w, POLL_COMMANDS, mailbox_fd(relay->commands), POLLIN);
    wait_for(w, POLL_LISTEN, relay->listen_fd, is_listening(relay) ? POLLIN : 0);
    for (guint i = 0; i < QEMU_CONNECTION_MAX; i++)
        wait_for(w, POLL_QEMU + i, relay->qemu[i].fd, qemu_events(relay, &relay->qemu[i]));
    prepare_channel(w, POLL_MAIN, &relay->main);
    for (guint i = 0; i < RELAY_LANES_MAX; i++)
        prepare_channel(w, POLL_LANES + i, &relay->lanes[i]);
    wait_until(w, relay_channels_due(relay));
    if (session_state_is_active(session_state(relay->session)))
        wait_until(w, engine_due(relay->engine));
    wait_for(w, POLL_WORKER, -1, 0);
    if (relay->worker)
        wait_for(w, POLL_WORKER, compress_worker_fd(relay->worker),
                 engine_waits_for_worker(relay->engine) ? POLLIN : 0);
    wait_for(w, POLL_DISKS, relay->disks.listen_fd, POLLIN);
    wait_until(w, relay_disks_due(relay));
    wait_for(w, POLL_LEAVING, relay->leaving_fd, POLLHUP);
    if (relay->leaving_fd >= 0)
        wait_until(w, relay->leaving_until_us);
    prepare_candidates(relay, w);
    prepare_engine(relay, w);
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
    for (guint i = w->n_candidates; i-- > 0 && i < relay->candidates->len;) {
        Link *link = relay->candidates->pdata[i];

        if (w->fds[POLL_CANDIDATES + i].revents || is_due(link))
            relay_greet_candidate(relay, link);
        relay_act(relay);
    }
}

static void turn_engine(Relay *relay, const Waiting *w)
{
    if (w->n_engine == 0)
        return;
    engine_polled(relay->engine, w->fds + POLL_ENGINE, w->n_engine, g_get_monotonic_time());
    relay_act(relay);
}

static void turn_leaving(Relay *relay, const Waiting *w)
{
    if (relay->leaving_fd >= 0 && ((w->fds[POLL_LEAVING].revents & (POLLHUP | POLLERR)) ||
                                   g_get_monotonic_time() >= relay->leaving_until_us))
        relay_part_from_qemu(relay);
}

/* ---- channels ---- */

static void after_channel(Relay *relay)
{
    relay_watch_lanes(relay);
    relay_act(relay);
}

static gboolean turn_channel_in(Relay *relay, RelayChannel *channel, const Waiting *w, guint slot)
{
    Link *link = channel->pump.link;
    gboolean more = FALSE;

    if (!link || (!w->fds[slot].revents && tls_channel_pending(link->channel) == 0))
        return FALSE;
    if (link->state == LINK_HANDSHAKE)
        relay_shake_hands(relay, channel);
    else
        more = pump_channel_in(&channel->pump);
    after_channel(relay);
    return more;
}

static gboolean turn_channel_out(Relay *relay, RelayChannel *channel)
{
    gboolean more;

    if (!channel->pump.link || channel->pump.link->state != LINK_OPEN)
        return FALSE;
    if (channel->pump.lane)
        lane_settle(channel->pump.lane);
    else
        session_settle(relay->session);
    more = pump_channel_out(&channel->pump);
    after_channel(relay);
    /* Who has come back only to say the end has not said it before the answer. */
    if (!more && channel->pump.link && relay->finishing && !pump_channel_is_lost(&channel->pump) &&
        !pump_channel_has_output(&channel->pump))
        link_say_bye(channel->pump.link);
    return more;
}

/* ---- QEMU ---- */

/* poll() may have been asked before the last bytes came. */
static gboolean must_read(const Relay *relay, const PumpQemu *qemu)
{
    return qemu->fd >= 0 && !qemu->ended &&
           session_state_is_active(session_state(relay->session)) &&
           engine_awaits_idle(relay->engine, qemu->connection);
}

static gboolean turn_qemu_in(Relay *relay, PumpQemu *qemu, gboolean ready)
{
    gboolean more;

    if (qemu->fd < 0 || qemu->ended || !(ready || must_read(relay, qemu)))
        return FALSE;
    more = pump_qemu_in(qemu, relay->engine, relay->session, relay->buf,
                        g_get_monotonic_time());
    relay_act(relay);
    return more;
}

/* Tried without asking poll() first: most of the time it goes, and a page is out a turn earlier. */
static gboolean turn_qemu_out(Relay *relay, PumpQemu *qemu)
{
    gboolean more;

    if (qemu->fd < 0)
        return FALSE;
    more = pump_qemu_out(qemu, relay->engine, relay->session, g_get_monotonic_time());
    relay_act(relay);
    return more;
}

static gboolean turn_bulk_in(Relay *relay, const Waiting *w)
{
    gboolean more = FALSE;

    for (guint i = 1; i < RELAY_LANES_MAX; i++)
        more |= turn_channel_in(relay, &relay->lanes[i], w, POLL_LANES + i);
    return more;
}

static gboolean turn_bulk_out(Relay *relay)
{
    gboolean more = FALSE;

    for (guint i = 1; i < RELAY_LANES_MAX; i++)
        more |= turn_channel_out(relay, &relay->lanes[i]);
    return more;
}

/* What is waited for goes first, in both directions; the background last. */
static gboolean turn(Relay *relay, const Waiting *w)
{
    RelayChannel *preempt = &relay->lanes[RELAY_PREEMPT];
    gboolean more = turn_channel_in(relay, preempt, w, POLL_LANES + RELAY_PREEMPT);

    more |= turn_channel_in(relay, &relay->main, w, POLL_MAIN);
    more |= turn_bulk_in(relay, w);
    turn_engine(relay, w);
    relay_run_engine(relay);
    more |= turn_channel_out(relay, preempt);
    more |= turn_qemu_out(relay, &relay->qemu[QEMU_PREEMPT]);
    more |= turn_qemu_out(relay, &relay->qemu[QEMU_MAIN]);
    more |= turn_qemu_in(relay, &relay->qemu[QEMU_PREEMPT],
                         w->fds[POLL_QEMU_PREEMPT].revents != 0);
    more |= turn_qemu_in(relay, &relay->qemu[QEMU_MAIN], w->fds[POLL_QEMU].revents != 0);
    relay_run_engine(relay);
    more |= turn_channel_out(relay, preempt);
    more |= turn_channel_out(relay, &relay->main);
    more |= turn_bulk_out(relay);
    more |= must_read(relay, &relay->qemu[QEMU_PREEMPT]);
    return more;
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
        if (w.fds[POLL_DISKS].revents && relay->disks.listen_fd >= 0)
            relay_accept_disks(relay);
        more = turn(relay, &w);
        relay_turn_channels(relay);
        relay_turn_disks(relay);
        turn_leaving(relay, &w);
        relay_report_progress(relay);
    }
    return NULL;
}
