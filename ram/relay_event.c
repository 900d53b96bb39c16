/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the relay's thread does about commands, new connections and the session's wishes. */
#include "config.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ram/relay_priv.h"
#include "util/autofd.h"

static gint64 in_ms(guint ms)
{
    return g_get_monotonic_time() + (gint64)ms * 1000;
}

/* ---- reports ---- */

void relay_report(Relay *relay, RelayReport *report)
{
    mailbox_post(relay->reports, report);
}

static void fill_stats(Relay *relay, RelayStats *stats)
{
    gint64 until = relay->ended_us ? relay->ended_us : g_get_monotonic_time();
    gboolean source = relay->side == SESSION_SOURCE;
    SessionStats s;

    session_get_stats(relay->session, &s);
    if (relay->link)
        link_wire_bytes(relay->link, &relay->wire_sent, &relay->wire_received);
    *stats = (RelayStats){
        .stream_bytes = source ? s.bytes_from_qemu : s.bytes_to_qemu,
        .return_path_bytes = source ? s.bytes_to_qemu : s.bytes_from_qemu,
        .wire_bytes_sent = relay->wire_sent,
        .wire_bytes_received = relay->wire_received,
        .frames_sent = s.frames_sent,
        .frames_received = s.frames_received,
        .window_high_water = s.in_flight_high,
        .elapsed_us = relay->active_us ? until - relay->active_us : 0,
    };
}

void relay_report_stats(Relay *relay)
{
    RelayReport *report = relay_report_new(RELAY_REPORT_STATS);

    fill_stats(relay, &report->stats);
    relay_report(relay, report);
}

static void report_state(Relay *relay)
{
    RelayReport *report = relay_report_new(RELAY_REPORT_STATE);

    report->state = session_state(relay->session);
    report->reason = g_strdup(session_reason(relay->session));
    report->ended_by = session_ended_by(relay->session);
    if (session_state_is_active(report->state) && !relay->active_us)
        relay->active_us = g_get_monotonic_time();
    if (session_state_is_end(report->state))
        relay->ended_us = g_get_monotonic_time();
    fill_stats(relay, &report->stats);
    relay_report(relay, report);
}

static void report_channel_up(Relay *relay)
{
    RelayReport *report = relay_report_new(RELAY_REPORT_CHANNEL_UP);

    report->tls_version = g_strdup(tls_channel_version(relay->link->channel));
    report->tls_cipher = g_strdup(tls_channel_cipher(relay->link->channel));
    report->peer_name = g_strdup(tls_channel_peer_name(relay->link->channel));
    report->address = g_strdup(relay->link->address);
    relay_report(relay, report);
}

static void report_refused(Relay *relay, const char *address, const char *reason)
{
    RelayReport *report = relay_report_new(RELAY_REPORT_CHANNEL_REFUSED);

    report->address = g_strdup(address);
    report->reason = g_strdup(reason);
    relay_report(relay, report);
}

/* Takes error; NULL: done. */
static void reply(Relay *relay, gpointer call, GError *error)
{
    RelayReport *report;

    if (!call) {
        g_clear_error(&error);
        return;
    }
    report = relay_report_new(RELAY_REPORT_REPLY);
    report->call = call;
    report->error = error;
    relay_report(relay, report);
}

static GError *wrong_state(Relay *relay, const char *what)
{
    const char *reason = session_reason(relay->session);

    return g_error_new(JOB_ERROR, JOB_ERROR_WRONG_STATE, _("%s in state %s%s%s"), what,
                       session_state_status(session_state(relay->session)), *reason ? ": " : "",
                       reason);
}

/* ---- the source's channel ---- */

static void connect_peer(Relay *relay, RelayCommand *command)
{
    TlsChannelConfig config = {
        .endpoint = TLS_ENDPOINT_CLIENT,
        .hostname = relay->check_host ? command->text : NULL,
        .alpn = LINK_ALPN,
        .allowed_dns = (const char *const *)relay->allowed_dns,
    };
    GError *error = NULL;

    if (relay->link || session_state(relay->session) != SESSION_SETUP) {
        reply(relay, command->call, wrong_state(relay, _("a peer cannot be connected")));
        return;
    }
    relay->link = link_new(autofd_steal(&command->fd), relay->creds, &config, command->text,
                           in_ms(relay->timeouts.handshake_ms), &error);
    if (!relay->link) {
        session_on_channel_lost(relay->session, error->message);
        reply(relay, command->call,
              g_error_new_literal(JOB_ERROR, JOB_ERROR_TLS, error->message));
        g_error_free(error);
        return;
    }
    relay->connect_call = command->call;
    relay->connect_error = JOB_ERROR_FAILED;
    relay_shake_hands(relay);
}

void relay_shake_hands(Relay *relay)
{
    g_autoptr(GError) error = NULL;

    if (!tls_channel_handshake(relay->link->channel, &error)) {
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            return;
        if (!g_error_matches(error, TLS_ERROR, TLS_ERROR_IO))
            relay->connect_error = JOB_ERROR_TLS;
        session_on_channel_lost(relay->session, error->message);
        return;
    }
    relay->link->state = LINK_OPEN;
    relay->link->deadline_us = in_ms(relay->timeouts.hello_ack_ms);
    relay->connect_error = JOB_ERROR_REFUSED;
    report_channel_up(relay);
    session_on_channel_up(relay->session, NULL);
}

/* ConnectPeer is answered when the peer has decided, one way or the other. */
static void answer_connect(Relay *relay)
{
    SessionState state = session_state(relay->session);
    gpointer call = relay->connect_call;

    if (state == SESSION_SETUP || state == SESSION_HELLO_SENT || !call)
        return;
    relay->connect_call = NULL;
    if (!session_state_is_end(state)) {
        relay->link->deadline_us = 0;
        reply(relay, call, NULL);
        return;
    }
    if (state == SESSION_CANCELLED)
        relay->connect_error = JOB_ERROR_CANCELLED;
    reply(relay, call,
          g_error_new_literal(JOB_ERROR, relay->connect_error, session_reason(relay->session)));
}

/* ---- the destination's candidates ---- */

static void accept_peer(Relay *relay, RelayCommand *command)
{
    TlsChannelConfig config = {
        .endpoint = TLS_ENDPOINT_SERVER,
        .alpn = LINK_ALPN,
        .allowed_dns = (const char *const *)relay->allowed_dns,
    };
    g_autoptr(GError) error = NULL;
    Link *link;

    reply(relay, command->call, NULL);
    if (session_state_is_end(session_state(relay->session))) {
        report_refused(relay, command->text, _("the migration is over"));
        return;
    }
    if (relay->candidates->len >= RELAY_CANDIDATES_MAX) {
        report_refused(relay, command->text, _("too many channels are being set up"));
        return;
    }
    link = link_new(autofd_steal(&command->fd), relay->creds, &config, command->text,
                    in_ms(relay->timeouts.handshake_ms), &error);
    if (link)
        g_ptr_array_add(relay->candidates, link);
    else
        report_refused(relay, command->text, error->message);
}

static gboolean drop_candidate(Relay *relay, Link *link, const char *reason)
{
    if (reason)
        report_refused(relay, link->address, reason);
    g_ptr_array_remove(relay->candidates, link);
    return FALSE;
}

static gboolean refuse_candidate(Relay *relay, Link *link, const GError *why)
{
    report_refused(relay, link->address, why->message);
    link_refuse(link, why, in_ms(relay->timeouts.linger_ms));
    return link_see_off(link) || drop_candidate(relay, link, NULL);
}

static gboolean promote_candidate(Relay *relay, Link *link, const HelloBody *hello)
{
    g_autoptr(GError) error = NULL;

    if (!session_judge_hello(relay->session, hello, &error))
        return refuse_candidate(relay, link, error);

    g_ptr_array_set_free_func(relay->candidates, NULL);
    g_ptr_array_remove(relay->candidates, link);
    g_ptr_array_set_free_func(relay->candidates, (GDestroyNotify)link_free);
    relay->link = link;
    link->state = LINK_OPEN;
    link->deadline_us = 0;
    report_channel_up(relay);
    session_on_hello(relay->session, hello, NULL);
    return FALSE;
}

gboolean relay_greet_candidate(Relay *relay, Link *link)
{
    g_auto(HelloBody) hello = { 0 };
    g_autoptr(GError) error = NULL;
    gboolean late = g_get_monotonic_time() >= link->deadline_us;

    if (link->state == LINK_REFUSED)
        return (!late && link_see_off(link)) || drop_candidate(relay, link, NULL);
    if (link_greet(link, &hello, &error))
        return promote_candidate(relay, link, &hello);
    if (error->domain == HELLO_ERROR)
        return refuse_candidate(relay, link, error);
    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        return drop_candidate(relay, link, error->message);
    if (late)
        return drop_candidate(relay, link,
                              link->state == LINK_HANDSHAKE
                                  ? _("the TLS handshake took too long")
                                  : _("no HELLO in time"));
    return TRUE;
}

/* ---- QEMU's end ---- */

static void listen_qemu(Relay *relay, RelayCommand *command)
{
    if (relay->listen_fd >= 0 || relay->qemu_fd >= 0 ||
        session_state(relay->session) > SESSION_AWAIT_QEMU) {
        reply(relay, command->call, wrong_state(relay, _("QEMU cannot be listened for")));
        return;
    }
    relay->listen_fd = autofd_steal(&command->fd);
    reply(relay, command->call, NULL);
}

/* The first connection is the main one and the only one: the listener goes. */
void relay_accept_qemu(Relay *relay)
{
    autofd fd = accept4(relay->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
        return;
    autofd_clear(&relay->listen_fd);
    if (fd < 0) {
        g_autofree char *reason =
            g_strdup_printf(_("cannot accept QEMU's connection: %s"), g_strerror(errno));

        session_on_qemu_refused(relay->session, reason, NULL);
    } else {
        relay->qemu_fd = autofd_steal(&fd);
        relay_report(relay, relay_report_new(RELAY_REPORT_QEMU_CONNECTED));
        session_on_qemu_attached(relay->session, NULL);
    }
    relay_act(relay);
}

static void attach_qemu(Relay *relay, RelayCommand *command)
{
    g_autoptr(GError) error = NULL;

    if (!session_on_qemu_attached(relay->session, &error)) {
        reply(relay, command->call, wrong_state(relay, _("QEMU cannot be attached")));
        return;
    }
    relay->qemu_fd = autofd_steal(&command->fd);
    reply(relay, command->call, NULL);
}

static void refuse_qemu(Relay *relay, RelayCommand *command)
{
    gboolean done = session_on_qemu_refused(relay->session, command->text, NULL);

    reply(relay, command->call,
          done ? NULL : wrong_state(relay, _("QEMU was not asked for")));
}

static void cancel(Relay *relay, RelayCommand *command)
{
    gboolean active = session_state_is_active(session_state(relay->session));

    if (command->type == RELAY_CANCEL || !active)
        session_on_cancel(relay->session, command->text, NULL);
    reply(relay, command->call, NULL);
}

void relay_take_command(Relay *relay, RelayCommand *command)
{
    switch (command->type) {
    case RELAY_CONNECT_PEER:
        connect_peer(relay, command);
        break;
    case RELAY_ACCEPT_PEER:
        accept_peer(relay, command);
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
    autofd_clear(&command->fd);
    g_free(command->text);
    g_free(command);
}

/* ---- what the session wants ---- */

void relay_drop_link(Relay *relay)
{
    if (!relay->link)
        return;
    link_wire_bytes(relay->link, &relay->wire_sent, &relay->wire_received);
    if (relay->link->tls_refused)
        relay->connect_error = JOB_ERROR_TLS;
    g_clear_pointer(&relay->link, link_free);
}

static void finish_channel(Relay *relay)
{
    relay->finishing = TRUE;
    g_ptr_array_set_size(relay->candidates, 0);
    if (relay->link && relay->link->state == LINK_OPEN)
        relay->link->deadline_us = in_ms(relay->timeouts.linger_ms);
    else
        relay_drop_link(relay);
}

void relay_act(Relay *relay)
{
    SessionActions actions;

    while ((actions = session_take_actions(relay->session))) {
        /* QEMU first: nothing that follows is as urgent as its guest. */
        if (actions & SESSION_DO_SHUT_QEMU)
            shutdown(relay->qemu_fd, SHUT_WR);
        if (actions & SESSION_DO_CLOSE_QEMU) {
            autofd_clear(&relay->qemu_fd);
            autofd_clear(&relay->listen_fd);
        }
        if (actions & SESSION_DO_REPORT)
            report_state(relay);
        if (actions & SESSION_DO_FETCH_QEMU)
            relay_report(relay, relay_report_new(RELAY_REPORT_QEMU_NEEDED));
        if (actions & SESSION_DO_FINISH_CHANNEL)
            finish_channel(relay);
        if (actions & SESSION_DO_CLOSE_CHANNEL)
            relay_drop_link(relay);
    }
    answer_connect(relay);
    if (relay->finishing && !relay->link && !relay->stopped) {
        relay->stopped = TRUE;
        relay_report_stats(relay);
    }
}
