/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/relay-hosts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- wires ---- */

gboolean copy(int from, int to)
{
    guint8 buf[32 * 1024];
    gssize n = recv(from, buf, sizeof buf, MSG_DONTWAIT);
    gssize done = 0;

    if (n == 0 || (n < 0 && errno != EAGAIN))
        return FALSE;
    while (done < n) {
        gssize sent = send(to, buf + done, n - done, MSG_NOSIGNAL);

        if (sent < 0)
            return FALSE;
        done += sent;
    }
    return TRUE;
}

static gpointer wire_run(gpointer data)
{
    Wire *wire = data;

    gboolean ended[2] = { FALSE, FALSE };

    while (!g_atomic_int_get(&wire->over) && !(ended[0] && ended[1])) {
        struct pollfd fds[2];

        if (g_atomic_int_get(&wire->silent)) {
            g_usleep(5000);
            continue;
        }
        for (guint i = 0; i < 2; i++)
            fds[i] = (struct pollfd){ ended[i] ? -1 : wire->inner[i], POLLIN, 0 };
        poll(fds, 2, 20);
        for (guint i = 0; i < 2; i++) {
            if (ended[i] || !fds[i].revents || copy(wire->inner[i], wire->inner[1 - i]))
                continue;
            ended[i] = TRUE;
            shutdown(wire->inner[1 - i], SHUT_WR);
        }
    }
    shutdown(wire->inner[0], SHUT_RDWR);
    shutdown(wire->inner[1], SHUT_RDWR);
    return NULL;
}

static Wire *wire_new(void)
{
    Wire *wire = g_new0(Wire, 1);
    int pair[2];

    for (guint i = 0; i < 2; i++) {
        sockets_tcp_pair(pair);
        wire->outer[i] = pair[0];
        wire->inner[i] = pair[1];
    }
    wire->thread = g_thread_new("wire", wire_run, wire);
    return wire;
}

void wire_free(Wire *wire)
{
    if (!wire)
        return;
    g_atomic_int_set(&wire->over, TRUE);
    g_thread_join(wire->thread);
    close(wire->inner[0]);
    close(wire->inner[1]);
    g_free(wire);
}

void cut(Hosts *h, ChannelKind kind)
{
    g_clear_pointer(&h->wires[kind], wire_free);
}

Wire *lay(Hosts *h, ChannelKind kind)
{
    cut(h, kind);
    h->wires[kind] = wire_new();
    return h->wires[kind];
}

/* ---- what the daemons do ---- */

static gboolean wants_preempt(gpointer data)
{
    return ((End *)data)->wants_preempt;
}

/* Of bulk channels only the first is opened here. */
static guint16 number_of(ChannelKind kind)
{
    return kind == CHANNEL_BULK ? 1 : 0;
}

void connect_peer(Hosts *h)
{
    Wire *wire = lay(h, CHANNEL_MAIN);

    h->source->replies = 0;
    relay_command(h->destination->relay, RELAY_ACCEPT_PEER, wire->outer[1], "127.0.0.1", NULL);
    relay_command(h->source->relay, RELAY_CONNECT_PEER, wire->outer[0], "localhost", h->source);
}

void reconnect(Hosts *h, ChannelKind kind)
{
    Wire *wire = lay(h, kind);

    relay_command(h->destination->relay, RELAY_ACCEPT_PEER, wire->outer[1], "127.0.0.1", NULL);
    relay_channel_command(h->source->relay, RELAY_RECONNECT_CHANNEL, kind, number_of(kind),
                          wire->outer[0], "localhost", NULL);
}

void begin(Hosts *h, const EndSpec *spec)
{
    h->source = end_new(SESSION_SOURCE, spec);
    h->destination = end_new(SESSION_DESTINATION, spec);
}

void attach_both(Hosts *h)
{
    attach_source(h->source);
    wait_until(has_connected, h->source, "QemuConnected");
    wait_until(is_active, h->source, "source active");
    wait_until(is_active, h->destination, "destination active");
}

static void open_channel(Hosts *h, ChannelKind kind)
{
    Wire *wire = lay(h, kind);

    h->source->replies = 0;
    relay_command(h->destination->relay, RELAY_ACCEPT_PEER, wire->outer[1], "127.0.0.1", NULL);
    relay_channel_command(h->source->relay, RELAY_CONNECT_CHANNEL, kind, number_of(kind),
                          wire->outer[0], "localhost", h->source);
    wait_until(was_answered, h->source, "ConnectChannel's answer");
    assert_null(h->source->last_error);
}

void open_preempt(Hosts *h)
{
    wait_until(wants_preempt, h->source, "a preempt channel wanted");
    open_channel(h, CHANNEL_PREEMPT);
}

void open_bulk(Hosts *h)
{
    assert_true(h->source->wants_bulk > 0);
    open_channel(h, CHANNEL_BULK);
}

void begin_active(Hosts *h, const EndSpec *spec)
{
    begin(h, spec);
    connect_peer(h);
    wait_until(needs_qemu, h->destination, "QemuNeeded");
    attach_destination(h->destination);
    wait_until(was_answered, h->source, "ConnectPeer's answer");
    assert_null(h->source->last_error);
    if (spec->features & SESSION_FEATURE_RAM)
        open_preempt(h);
    if (spec->bulk > 0)
        open_bulk(h);
    attach_both(h);
}

void hosts_clear(Hosts *h)
{
    end_free(h->source);
    end_free(h->destination);
    for (guint i = 0; i < CHANNEL_KIND_MAX; i++)
        wire_free(h->wires[i]);
}
/* ---- waiting ---- */

gboolean lost_main(gpointer data)
{
    const End *end = data;

    return end->lost[CHANNEL_MAIN] > end->resumed[CHANNEL_MAIN];
}

gboolean lost_preempt(gpointer data)
{
    const End *end = data;

    return end->lost[CHANNEL_PREEMPT] > end->resumed[CHANNEL_PREEMPT];
}

gboolean has_main(gpointer data)
{
    return !lost_main(data);
}

gboolean has_preempt(gpointer data)
{
    return !lost_preempt(data);
}

gboolean both_ended(gpointer data)
{
    const Hosts *h = data;

    return h->source->ended && h->destination->ended;
}

/* ---- streams ---- */

Streams stream(Hosts *h, guint64 there, guint64 back)
{
    Streams s = { stream_end_start(h->source->qemu, 1, there, 2),
                  stream_end_start(h->destination->qemu, 2, back, 1) };

    h->source->qemu = h->destination->qemu = -1;
    return s;
}

void assert_arrived(Hosts *h, Streams *s)
{
    wait_until(both_ended, h, "the end of both");
    stream_end_wait(s->a);
    stream_end_wait(s->b);
    assert_string_equal(h->source->history->str, "setup active completed");
    assert_string_equal(h->destination->history->str, "setup active completed");
    assert_true(stream_end_is_good(s->a, s->b->len));
    assert_true(stream_end_is_good(s->b, s->a->len));
    stream_end_free(s->a);
    stream_end_free(s->b);
}
