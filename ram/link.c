/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/link.h"

#include <glib-unix.h>
#include <glib/gi18n.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* As much as is dropped in one go before others have their turn. */
#define DROP_READS_MAX 64

static void tcp_counters(int fd, guint64 *ret_sent, guint64 *ret_received)
{
    struct tcp_info info = { 0 };
    socklen_t len = sizeof info;

    *ret_sent = *ret_received = 0;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return;
    /* What an older kernel does not know stays 0. */
    *ret_sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
    *ret_received = info.tcpi_bytes_received;
}

/* A requested page must not wait for another segment to go with it. Not a TCP socket: nothing to
 * turn off. */
static void send_at_once(int fd)
{
    int on = 1;

    (void)!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

Link *link_new(int fd, TlsCredentials *creds, const TlsChannelConfig *config, const char *address,
               gint64 deadline_us, GError **error)
{
    g_autoptr(Link) link = g_new0(Link, 1);

    send_at_once(fd);
    tcp_counters(fd, &link->wire_sent_before, &link->wire_received_before);
    link->address = g_strdup(address);
    link->deadline_us = deadline_us;
    frame_reader_init(&link->reader, config->endpoint == TLS_ENDPOINT_SERVER);
    if (!g_unix_set_fd_nonblocking(fd, TRUE, error)) {
        close(fd);
        return NULL;
    }
    link->channel = tls_channel_new(fd, creds, config, error);
    if (!link->channel)
        return NULL;
    return g_steal_pointer(&link);
}

void link_free(Link *link)
{
    if (!link)
        return;
    tls_channel_free(link->channel);
    frame_reader_clear(&link->reader);
    g_clear_pointer(&link->last_words, g_bytes_unref);
    g_free(link->address);
    g_free(link);
}

void link_wire_bytes(const Link *link, guint64 *ret_sent, guint64 *ret_received)
{
    tcp_counters(tls_channel_fd(link->channel), ret_sent, ret_received);
    *ret_sent -= MIN(*ret_sent, link->wire_sent_before);
    *ret_received -= MIN(*ret_received, link->wire_received_before);
}

guint64 link_wire_unsent(const Link *link)
{
    struct tcp_info info = { 0 };
    socklen_t len = sizeof info;

    if (getsockopt(tls_channel_fd(link->channel), IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return 0;
    return info.tcpi_notsent_bytes;
}

/* What a peer is told about bytes that are no HELLO. */
static gboolean refuse_bytes(GError *cause, GError **error)
{
    g_set_error_literal(error, HELLO_ERROR, HELLO_ERROR_PROTOCOL, cause->message);
    g_error_free(cause);
    return FALSE;
}

static gboolean read_hello(Link *link, HelloBody *ret_hello, GError **error)
{
    for (;;) {
        g_auto(Frame) frame = { 0 };
        GError *cause = NULL;
        gboolean complete;
        guint8 *space;
        gsize room = frame_reader_space(&link->reader, &space);
        gssize n = tls_channel_read(link->channel, space, room, error);

        if (n < 0)
            return FALSE;
        if (n == 0) {
            g_set_error_literal(error, TLS_ERROR, TLS_ERROR_IO,
                                frame_reader_in_frame(&link->reader)
                                    ? _("closed in the middle of HELLO")
                                    : _("closed before HELLO"));
            return FALSE;
        }
        if (!frame_reader_advance(&link->reader, n, &frame, &complete, &cause)) {
            link->deaf = TRUE;
            return refuse_bytes(cause, error);
        }
        if (complete)
            return hello_body_decode(frame.body, ret_hello, error);
    }
}

gboolean link_greet(Link *link, HelloBody *ret_hello, GError **error)
{
    if (link->state == LINK_HANDSHAKE) {
        if (!tls_channel_handshake(link->channel, error))
            return FALSE;
        link->state = LINK_GREETING;
    }
    return read_hello(link, ret_hello, error);
}

void link_refuse(Link *link, const GError *why, gint64 deadline_us)
{
    link->state = LINK_REFUSED;
    link->deaf = TRUE;
    link->deadline_us = deadline_us;
    link->last_words = frame_new_error(why->code, why->message);
}

/* TRUE: all said. */
static gboolean say_last_words(Link *link)
{
    while (link->last_words) {
        gsize left;
        const guint8 *bytes = g_bytes_get_data(link->last_words, &left);
        gssize n = tls_channel_write(link->channel, bytes, left, NULL);
        GBytes *rest;

        if (n < 0)
            return FALSE;
        rest = (gsize)n < left ? g_bytes_new_from_bytes(link->last_words, n, left - n) : NULL;
        g_bytes_unref(link->last_words);
        link->last_words = rest;
    }
    return tls_channel_flush(link->channel, NULL);
}

void link_say_bye(Link *link)
{
    if (tls_channel_unsent(link->channel) > 0)
        return;
    tls_channel_bye(link->channel);
    if (tls_channel_unsent(link->channel) == 0)
        shutdown(tls_channel_fd(link->channel), SHUT_WR);
}

gboolean link_drop_input(Link *link)
{
    guint8 scratch[4096];

    for (guint i = 0; i < DROP_READS_MAX; i++) {
        g_autoptr(GError) error = NULL;
        gssize n = tls_channel_read(link->channel, scratch, sizeof scratch, &error);

        if (n < 0)
            return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
        if (n == 0)
            return FALSE;
    }
    return TRUE;
}

gboolean link_see_off(Link *link)
{
    if (say_last_words(link))
        link_say_bye(link);
    /* Closing with bytes unread would reset the connection, and the peer might never read why. */
    return link_drop_input(link);
}
