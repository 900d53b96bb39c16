/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/raw-peer.h"

#include <glib-unix.h>
#include <poll.h>

#include "ram/link.h"
#include "tests/support/psk.h"
#include "tests/support/sockets.h"

TlsChannel *raw_peer(End *destination)
{
    g_autoptr(TlsCredentials) creds = psk_credentials(TLS_ENDPOINT_CLIENT, 1);
    TlsChannelConfig config = { .endpoint = TLS_ENDPOINT_CLIENT, .alpn = LINK_ALPN };
    TlsChannel *channel;
    int tcp[2];

    sockets_tcp_pair(tcp);
    g_assert(g_unix_set_fd_nonblocking(tcp[0], TRUE, NULL));
    relay_command(destination->relay, RELAY_ACCEPT_PEER, tcp[1], "raw", NULL);
    channel = tls_channel_new(tcp[0], creds, &config, NULL);
    for (;;) {
        g_autoptr(GError) error = NULL;
        struct pollfd p = { tcp[0], 0, 0 };

        if (tls_channel_handshake(channel, &error))
            return channel;
        if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            g_error("%s", error->message);
        p.events = tls_channel_poll_events(channel, TRUE, FALSE);
        poll(&p, 1, 1000);
    }
}

void raw_read(TlsChannel *channel, guint8 *buf, gsize len)
{
    while (len > 0) {
        gssize n = tls_channel_read(channel, buf, len, NULL);
        struct pollfd p = { tls_channel_fd(channel), POLLIN, 0 };

        if (n > 0) {
            buf += n;
            len -= n;
        } else if (n == 0 || poll(&p, 1, 10000) == 0) {
            g_error("no answer");
        }
    }
}

void raw_write(TlsChannel *channel, GBytes *bytes)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(bytes, &len);

    if (tls_channel_write(channel, data, len, NULL) != (gssize)len ||
        !tls_channel_flush(channel, NULL))
        g_error("the peer does not take %zu bytes", len);
    g_bytes_unref(bytes);
}

char *raw_answer(TlsChannel *channel)
{
    g_auto(FrameReader) reader;

    frame_reader_init(&reader, FALSE);
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_auto(Frame) frame = { 0 };
        g_auto(ErrorBody) body = { 0 };
        struct pollfd p = { tls_channel_fd(channel), POLLIN, 0 };
        gboolean complete;
        guint8 *space;
        gsize room = frame_reader_space(&reader, &space);
        gssize n = tls_channel_read(channel, space, room, &error);

        if (n < 0 && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
            if (poll(&p, 1, 10000) == 0)
                g_error("no answer");
            continue;
        }
        if (n <= 0)
            return NULL;
        g_assert(frame_reader_advance(&reader, n, &frame, &complete, NULL));
        if (complete && error_body_decode(frame.body, &body, NULL))
            return g_strdup_printf("%s: %s", hello_error_name(body.code), body.text);
    }
}
