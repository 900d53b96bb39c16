/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the relay's thread does about commands, QEMU's connections and the session's wishes. */
#include "config.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ram/relay_priv.h"
#include "util/autofd.h"

/* What the kernel holds for the destination QEMU stands before a page that is waited for. The kernel
 * doubles it and counts its own book-keeping. */
#define QEMU_SEND_BUFFER (32 * 1024)

/* How long a source QEMU may take to close its end. */
#define LEAVE_QEMU_MS 500

/* ---- the source QEMU ---- */

static void listen_qemu(Relay *relay, RelayCommand *command)
{
    if (relay->listen_fd >= 0 || relay->qemu[QEMU_MAIN].fd >= 0 ||
        session_state(relay->session) > SESSION_AWAIT_QEMU) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("QEMU cannot be listened for")));
        return;
    }
    relay->listen_fd = autofd_steal(&command->fd);
    relay_reply(relay, command->call, NULL);
}

static void accept_failed(Relay *relay, int err)
{
    g_autofree char *reason =
        g_strdup_printf(_("cannot accept QEMU's connection: %s"), g_strerror(err));

    autofd_clear(&relay->listen_fd);
    /* Without a row for it (the main connection is there) it is QEMU that will complain. */
    session_on_qemu_refused(relay->session, reason, NULL);
}

/* The first connection is the main one, the second QEMU's preempt connection. */
static void take_qemu(Relay *relay, int fd)
{
    gint64 now_us = g_get_monotonic_time();

    if (relay->qemu[QEMU_MAIN].fd < 0 && !relay->qemu[QEMU_MAIN].ended) {
        relay->qemu[QEMU_MAIN].fd = fd;
        relay_report(relay, relay_report_new(RELAY_REPORT_QEMU_CONNECTED));
        session_on_qemu_attached(relay->session, NULL);
        return;
    }
    relay->qemu[QEMU_PREEMPT].fd = fd;
    autofd_clear(&relay->listen_fd);
    engine_on_opened(relay->engine, QEMU_PREEMPT, now_us);
}

void relay_accept_qemu(Relay *relay)
{
    int fd = accept4(relay->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0)
        take_qemu(relay, fd);
    else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        accept_failed(relay, errno);
    relay_act(relay);
}

/* ---- the destination QEMU ---- */

/* A short queue is better, a long one no harm: an error means nothing. */
static void shorten_queue(int fd)
{
    int size = QEMU_SEND_BUFFER;

    (void)!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void attach_preempt(Relay *relay, RelayCommand *command)
{
    shorten_queue(command->fd);
    relay->qemu[QEMU_PREEMPT].fd = autofd_steal(&command->fd);
    engine_on_opened(relay->engine, QEMU_PREEMPT, g_get_monotonic_time());
    relay_reply(relay, command->call, NULL);
}

static void attach_qemu(Relay *relay, RelayCommand *command)
{
    g_autoptr(GError) error = NULL;

    if (engine_needs(relay->engine, QEMU_PREEMPT) && relay->qemu[QEMU_MAIN].fd >= 0) {
        attach_preempt(relay, command);
        return;
    }
    if (!session_on_qemu_attached(relay->session, &error)) {
        relay_reply(relay, command->call,
                    relay_wrong_state(relay, _("QEMU cannot be attached")));
        return;
    }
    shorten_queue(command->fd);
    relay->qemu[QEMU_MAIN].fd = autofd_steal(&command->fd);
    relay_reply(relay, command->call, NULL);
}

/* The second time it is QEMU's preempt connection that cannot be had, and QEMU waits for it. */
static void refuse_qemu(Relay *relay, RelayCommand *command)
{
    gboolean done;

    if (engine_needs(relay->engine, QEMU_PREEMPT))
        done = session_on_qemu_broken(relay->session, command->text, NULL);
    else
        done = session_on_qemu_refused(relay->session, command->text, NULL);
    relay_reply(relay, command->call,
                done ? NULL : relay_wrong_state(relay, _("QEMU was not asked for")));
}

static void fetch_preempt(Relay *relay)
{
    if (relay->preempt_needed_reported || !engine_needs(relay->engine, QEMU_PREEMPT) ||
        session_state_is_end(session_state(relay->session)))
        return;
    relay->preempt_needed_reported = TRUE;
    relay_report(relay, relay_report_new(RELAY_REPORT_QEMU_NEEDED));
}

/* ---- the source QEMU's memory ---- */

/* Takes error; NULL: done. */
static void answer_memory(Relay *relay, RelayCommand *command, GError *error)
{
    g_autoptr(GError) owned = error;

    relay_reply(relay, command->call,
                owned ? g_error_new_literal(JOB_ERROR, JOB_ERROR_INVALID_ARGUMENT, owned->message)
                      : NULL);
}

static void set_reading(Relay *relay, RelayCommand *command)
{
    GError *error = NULL;
    gsize len;
    const MemoryRange *ranges = g_bytes_get_data(command->bytes, &len);

    engine_set_memory(relay->engine, autofd_steal(&command->fd), ranges, len / sizeof(MemoryRange),
                      &error);
    answer_memory(relay, command, error);
}

/* ---- the destination QEMU's memory ---- */

static void set_record(Relay *relay, RelayCommand *command)
{
    GError *error = NULL;

    engine_set_record(relay->engine, autofd_steal(&command->fd), &error);
    answer_memory(relay, command, error);
}

static void set_placing(Relay *relay, RelayCommand *command)
{
    PlacingOffer *offer = command->offer;

    /* What becomes of it is told by RELAY_REPORT_PLACING. */
    engine_set_placing(relay->engine, autofd_steal(&command->fd), autofd_steal(&offer->record_fd),
                       offer->ranges, offer->n, NULL);
    answer_memory(relay, command, NULL);
}

static void refuse_placing(Relay *relay, RelayCommand *command)
{
    GError *error = NULL;

    engine_refuse_placing(relay->engine, command->text, &error);
    answer_memory(relay, command, error);
}

/* ---- commands ---- */

static void cancel(Relay *relay, RelayCommand *command)
{
    SessionState state = session_state(relay->session);

    if (state == SESSION_COMPLETED && session_is_lost(relay->session))
        session_on_channel_gone(relay->session, command->text);
    else if (command->type == RELAY_CANCEL || !session_state_is_active(state))
        session_on_cancel(relay->session, command->text, NULL);
    relay_reply(relay, command->call, NULL);
}

void relay_take_command(Relay *relay, RelayCommand *command)
{
    switch (command->type) {
    case RELAY_CONNECT_PEER:
        relay_connect_peer(relay, command);
        break;
    case RELAY_ACCEPT_PEER:
        relay_accept_peer(relay, command);
        break;
    case RELAY_CONNECT_CHANNEL:
        relay_connect_channel(relay, command);
        break;
    case RELAY_RECONNECT_CHANNEL:
        relay_reconnect_channel(relay, command);
        break;
    case RELAY_ABANDON_PEER:
        relay_abandon_peer(relay, command);
        break;
    case RELAY_LISTEN_QEMU:
        listen_qemu(relay, command);
        break;
    case RELAY_ATTACH_QEMU:
        attach_qemu(relay, command);
        break;
    case RELAY_REFUSE_QEMU:
        refuse_qemu(relay, command);
        break;
    case RELAY_ATTACH_MEMORY:
        relay_attach_memory(relay, command);
        break;
    case RELAY_LISTEN_DISKS:
        relay_listen_disks(relay, command);
        break;
    case RELAY_CONNECT_DISKS:
        relay_connect_disks(relay, command);
        break;
    case RELAY_ATTACH_DISKS:
        relay_attach_disks(relay, command);
        break;
    case RELAY_REFUSE_DISKS:
        relay_refuse_disks(relay, command);
        break;
    case RELAY_DISKS_ENDED:
        relay_disks_ended(relay, command->call);
        break;
    case RELAY_SET_READING:
        set_reading(relay, command);
        break;
    case RELAY_SET_RECORD:
        set_record(relay, command);
        break;
    case RELAY_SET_PLACING:
        set_placing(relay, command);
        break;
    case RELAY_REFUSE_PLACING:
        refuse_placing(relay, command);
        break;
    case RELAY_CANCEL:
    case RELAY_GIVE_UP:
        cancel(relay, command);
        break;
    case RELAY_GET_STATS:
        relay_report_stats(relay);
        break;
    case RELAY_STOP:
        relay->stopped = TRUE;
        break;
    }
    relay_command_free(command);
}

/* ---- what the session wants ---- */

/* A source QEMU must learn of the end by its stream first: where its return path's thread is the first to
 * know, QEMU 7.2 may go on writing to nowhere until it thinks that it is done, and can then neither
 * pause nor recover. So what it writes is refused, and only when it has closed its end (or after a
 * while: it may have nothing to write any more) the rest is closed. */
static void leave_source_qemu(Relay *relay)
{
    if (relay->side != SESSION_SOURCE || relay->qemu[QEMU_MAIN].fd < 0)
        return;
    relay->leaving_fd = autofd_steal(&relay->qemu[QEMU_MAIN].fd);
    relay->leaving_until_us = relay_in_ms(LEAVE_QEMU_MS);
    shutdown(relay->leaving_fd, SHUT_RD);
}

void relay_part_from_qemu(Relay *relay)
{
    autofd_clear(&relay->leaving_fd);
    relay_act(relay);
}

static void close_qemu(Relay *relay)
{
    leave_source_qemu(relay);
    for (guint i = 0; i < QEMU_CONNECTION_MAX; i++)
        autofd_clear(&relay->qemu[i].fd);
    autofd_clear(&relay->listen_fd);
}

static void finish_channel(Relay *relay, RelayChannel *channel)
{
    Link *link = channel->pump.link;

    if (link && link->state == LINK_OPEN && !link->is_lost)
        link->deadline_us = relay_in_ms(relay->timeouts.linger_ms);
    else
        relay_drop_link(relay, channel);
}

/* A peer that cannot be told on the main channel, because that is lost, would wait for it in vain. */
static void finish_lane(Relay *relay, Lane *lane)
{
    g_autoptr(GError) why = NULL;

    if (!relay->main.lost_us || session_state(relay->session) == SESSION_COMPLETED) {
        lane_finish(lane);
        return;
    }
    why = g_error_new_literal(SESSION_ERROR, SESSION_ERROR_STATE, session_reason(relay->session));
    lane_on_bad_frame(lane, why);
}

static void finish_channels(Relay *relay)
{
    if (relay->finishing)
        return;
    relay->finishing = TRUE;
    g_ptr_array_set_size(relay->candidates, 0);
    finish_channel(relay, &relay->main);
    for (guint i = 0; i < RELAY_LANES_MAX; i++) {
        if (relay_has_lane(relay, i))
            finish_lane(relay, relay->lanes[i].pump.lane);
        finish_channel(relay, &relay->lanes[i]);
    }
    relay_watch_lanes(relay);
    /* Nothing waits for another connection any more, but a completed side for who has not heard of it. */
    for (guint i = 0; i < RELAY_LANES_MAX; i++)
        relay->lanes[i].lost_us = 0;
    if (session_state(relay->session) != SESSION_COMPLETED)
        relay->main.lost_us = 0;
}

static void make_lane(Relay *relay, RelayChannel *channel)
{
    LaneConfig config = {
        .side = relay->side,
        .kind = channel->kind,
        .channel = channel->number,
        .window = relay->window,
        .features = session_features(relay->session),
    };

    memcpy(config.id, relay->id, sizeof config.id);
    channel->pump.lane = lane_new(&config);
}

/* Both sides have agreed on such channels: there are machines for them. The destination does not know how many
 * the source will open. */
static void make_lanes(Relay *relay)
{
    guint64 features = session_features(relay->session);
    guint n_bulk = relay->side == SESSION_SOURCE ? relay->n_bulk : CHANNEL_BULK_MAX;

    if (relay_has_lane(relay, RELAY_PREEMPT) || !(features & SESSION_FEATURE_RAM))
        return;
    make_lane(relay, &relay->lanes[RELAY_PREEMPT]);
    for (guint i = 1; (features & SESSION_FEATURE_BULK) && i <= n_bulk; i++)
        make_lane(relay, &relay->lanes[i]);
}

static gboolean has_link(const Relay *relay)
{
    if (relay->main.pump.link)
        return TRUE;
    for (guint i = 0; i < RELAY_LANES_MAX; i++) {
        if (relay->lanes[i].pump.link)
            return TRUE;
    }
    return FALSE;
}

void relay_act(Relay *relay)
{
    SessionActions actions;

    relay_report_features(relay);
    while ((actions = session_take_actions(relay->session))) {
        /* QEMU first: nothing that follows is as urgent as its guest. */
        if (actions & SESSION_DO_SHUT_QEMU)
            shutdown(relay->qemu[QEMU_MAIN].fd, SHUT_WR);
        if (actions & SESSION_DO_CLOSE_QEMU)
            close_qemu(relay);
        if (actions & SESSION_DO_REPORT)
            relay_report_state(relay);
        if ((actions & SESSION_DO_FETCH_QEMU) && !relay->memory)
            relay_report(relay, relay_report_new(RELAY_REPORT_QEMU_NEEDED));
        if (actions & (SESSION_DO_FINISH_CHANNEL | SESSION_DO_CLOSE_CHANNEL))
            finish_channels(relay);
        if (actions & SESSION_DO_CLOSE_CHANNEL)
            relay_drop_link(relay, &relay->main);
        if (actions & SESSION_DO_REJOIN)
            relay_lose_channel(relay, &relay->main);
        if (actions & SESSION_DO_REJOINED)
            relay_channel_resumed(relay, &relay->main);
    }
    if (session_state_is_end(session_state(relay->session)))
        relay_close_disks(relay);
    make_lanes(relay);
    relay_answer_connect(relay);
    /* A completed side that has lost its peer stays until that has heard that all is well. */
    if (relay->finishing && !has_link(relay) && !session_is_lost(relay->session) &&
        relay->leaving_fd < 0 && relay_memory_has_parted(relay) &&
        !relay->stopped) {
        relay->stopped = TRUE;
        relay_report_stats(relay);
    }
}

void relay_run_engine(Relay *relay)
{
    g_autoptr(GError) error = NULL;

    relay_watch_memory(relay);
    if (session_state_is_active(session_state(relay->session)) &&
        !engine_run(relay->engine, g_get_monotonic_time(), &error))
        pump_engine_failed(relay->session, error);
    relay_act(relay);
    fetch_preempt(relay);
    if (engine_preempt_is_over(relay->engine) && !relay->preempt_shut) {
        relay->preempt_shut = TRUE;
        shutdown(relay->qemu[QEMU_PREEMPT].fd, SHUT_WR);
    }
}
