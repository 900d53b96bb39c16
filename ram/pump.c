/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/pump.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <sys/socket.h>

/* A turn's share. Small enough that the other direction is served often, large enough that poll()
 * costs little beside it. */
#define TURN_READS_MAX 256
#define TURN_QEMU_READS_MAX 8
#define TURN_BYTES_MAX (1024 * 1024)

static void channel_lost(Link *link, Session *session, const char *why)
{
    g_autofree char *reason = g_strdup_printf(_("lost the peer %s: %s"), link->address, why);

    session_on_channel_lost(session, reason);
}

/* In TLS 1.3 a client hears only after its own handshake that the server refuses it. */
static void channel_failed(Link *link, Session *session, const GError *error)
{
    if (error->domain != TLS_ERROR || error->code == TLS_ERROR_IO) {
        channel_lost(link, session, error->message);
        return;
    }
    link->tls_refused = TRUE;
    session_on_channel_lost(session, error->message);
}

static void take_bytes(Link *link, Session *session, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_auto(Frame) frame = { 0 };
    gboolean complete;

    if (!frame_reader_advance(&link->reader, len, &frame, &complete, &error)) {
        link->deaf = TRUE;
        session_on_bad_frame(session, error);
    } else if (complete) {
        session_on_frame(session, &frame);
    }
}

gboolean pump_channel_in(Link *link, Session *session)
{
    for (guint i = 0; i < TURN_READS_MAX; i++) {
        g_autoptr(GError) error = NULL;
        guint8 *space;
        gsize room;
        gssize n;

        if (link->deaf) {
            if (!link_drop_input(link))
                channel_lost(link, session, _("closed"));
            return FALSE;
        }
        room = frame_reader_space(&link->reader, &space);
        n = tls_channel_read(link->channel, space, room, &error);
        if (n < 0) {
            if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                channel_failed(link, session, error);
            return FALSE;
        }
        if (n == 0) {
            channel_lost(link, session,
                         frame_reader_in_frame(&link->reader)
                             ? _("it closed the channel in the middle of a frame")
                             : _("it closed the channel before the end"));
            return FALSE;
        }
        take_bytes(link, session, n);
    }
    return TRUE;
}

/* A peer that went away has perhaps said why before, and that is the better reason. */
static void write_failed(Link *link, Session *session, const GError *error)
{
    pump_channel_in(link, session);
    channel_failed(link, session, error);
}

gboolean pump_channel_out(Link *link, Session *session)
{
    g_autoptr(GError) error = NULL;
    gsize moved = 0;

    while (moved < TURN_BYTES_MAX) {
        const guint8 *bytes;
        gsize len = session_output(session, &bytes);
        gssize n;

        if (len == 0)
            break;
        n = tls_channel_write(link->channel, bytes, len, &error);
        if (n < 0) {
            if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                write_failed(link, session, error);
            return FALSE;
        }
        session_output_done(session, n);
        moved += n;
    }
    if (tls_channel_unsent(link->channel) > 0 && !tls_channel_flush(link->channel, &error) &&
        !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        write_failed(link, session, error);
    return moved >= TURN_BYTES_MAX;
}

/* A source QEMU is ended by libvirt as soon as the destination has everything, perhaps before it
 * has read the last words of the return path. For its stream that is an end like any other: the
 * destination QEMU knows whether it had all. One that closes on the stream itself is broken. */
static gboolean is_plain_end(const Session *session, int err)
{
    return session_side(session) == SESSION_SOURCE && (err == EPIPE || err == ECONNRESET);
}

gboolean pump_qemu_in(int fd, Session *session)
{
    for (guint i = 0; i < TURN_QEMU_READS_MAX; i++) {
        guint8 *space;
        gsize room;
        ssize_t n;

        if (!session_wants_qemu(session))
            return FALSE;
        room = session_qemu_space(session, &space);
        n = recv(fd, space, room, MSG_DONTWAIT);
        if (n > 0) {
            session_on_qemu_data(session, n, NULL);
        } else if (n == 0 || is_plain_end(session, errno)) {
            session_on_qemu_eof(session, NULL);
            return FALSE;
        } else if (errno == EAGAIN) {
            return FALSE;
        } else if (errno != EINTR) {
            session_on_qemu_broken(session, g_strerror(errno), NULL);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean pump_qemu_out(int fd, Session *session)
{
    gsize moved = 0;

    while (moved < TURN_BYTES_MAX) {
        const guint8 *bytes;
        gsize len = session_qemu_output(session, &bytes);
        ssize_t n;

        if (len == 0)
            return FALSE;
        n = send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            session_on_qemu_written(session, n, NULL);
            moved += n;
        } else if (is_plain_end(session, errno)) {
            session_on_qemu_written(session, len, NULL); /* nobody will read it */
        } else if (errno == EAGAIN) {
            return FALSE;
        } else if (errno != EINTR) {
            session_on_qemu_broken(session, g_strerror(errno), NULL);
            return FALSE;
        }
    }
    return TRUE;
}
