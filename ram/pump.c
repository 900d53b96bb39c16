/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/pump.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <sys/socket.h>

/* A turn's share: a page that is waited for waits for a turn of everything else. */
#define TURN_READS_MAX 16
#define TURN_BYTES_MAX (96 * 1024)
#define TURN_QEMU_WRITES_MAX 4

/* ---- the channel's machine ---- */

static void machine_lost(const PumpChannel *c, const char *reason)
{
    if (c->lane)
        lane_on_channel_lost(c->lane, reason);
    else
        session_on_channel_lost(c->session, reason);
}

static void machine_bad_frame(const PumpChannel *c, const GError *cause)
{
    if (c->lane)
        lane_on_bad_frame(c->lane, cause);
    else
        session_on_bad_frame(c->session, cause);
}

static void machine_frame(const PumpChannel *c, const Frame *frame)
{
    if (c->lane)
        lane_on_frame(c->lane, frame);
    else
        session_on_frame(c->session, frame);
}

static gsize machine_output(const PumpChannel *c, const guint8 **ret_bytes)
{
    return c->lane ? lane_output(c->lane, ret_bytes) : session_output(c->session, ret_bytes);
}

static void machine_output_done(const PumpChannel *c, gsize len)
{
    if (c->lane)
        lane_output_done(c->lane, len);
    else
        session_output_done(c->session, len);
}

gboolean pump_channel_has_output(const PumpChannel *c)
{
    const guint8 *bytes;

    return machine_output(c, &bytes) > 0;
}

/* ---- the channel ---- */

static void channel_lost(const PumpChannel *c, const char *why)
{
    g_autofree char *reason = g_strdup_printf(_("lost the peer %s: %s"), c->link->address, why);

    machine_lost(c, reason);
}

/* In TLS 1.3 a client hears only after its own handshake that the server refuses it. */
static void channel_failed(const PumpChannel *c, const GError *error)
{
    if (error->domain != TLS_ERROR || error->code == TLS_ERROR_IO) {
        channel_lost(c, error->message);
        return;
    }
    c->link->tls_refused = TRUE;
    machine_lost(c, error->message);
}

static void take_bytes(const PumpChannel *c, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_auto(Frame) frame = { 0 };
    gboolean complete;

    if (!frame_reader_advance(&c->link->reader, len, &frame, &complete, &error)) {
        c->link->deaf = TRUE;
        machine_bad_frame(c, error);
    } else if (complete) {
        machine_frame(c, &frame);
    }
}

gboolean pump_channel_in(const PumpChannel *c)
{
    for (guint i = 0; i < TURN_READS_MAX; i++) {
        g_autoptr(GError) error = NULL;
        guint8 *space;
        gsize room;
        gssize n;

        if (c->link->deaf) {
            if (!link_drop_input(c->link))
                channel_lost(c, _("closed"));
            return FALSE;
        }
        room = frame_reader_space(&c->link->reader, &space);
        n = tls_channel_read(c->link->channel, space, room, &error);
        if (n < 0) {
            if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                channel_failed(c, error);
            return FALSE;
        }
        if (n == 0) {
            channel_lost(c, frame_reader_in_frame(&c->link->reader)
                                ? _("it closed the channel in the middle of a frame")
                                : _("it closed the channel before the end"));
            return FALSE;
        }
        take_bytes(c, n);
    }
    return TRUE;
}

/* A peer that went away has perhaps said why before, and that is the better reason. */
static void write_failed(const PumpChannel *c, const GError *error)
{
    pump_channel_in(c);
    channel_failed(c, error);
}

gboolean pump_channel_out(const PumpChannel *c)
{
    g_autoptr(GError) error = NULL;
    gsize moved = 0;

    while (moved < TURN_BYTES_MAX) {
        const guint8 *bytes;
        gsize len = machine_output(c, &bytes);
        gssize n;

        if (len == 0)
            break;
        n = tls_channel_write(c->link->channel, bytes, len, &error);
        if (n < 0) {
            if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                write_failed(c, error);
            return FALSE;
        }
        machine_output_done(c, n);
        moved += n;
    }
    if (tls_channel_unsent(c->link->channel) > 0 &&
        !tls_channel_flush(c->link->channel, &error) &&
        !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        write_failed(c, error);
    return moved >= TURN_BYTES_MAX;
}

/* ---- QEMU ---- */

/* A source QEMU is ended by libvirt as soon as the destination has everything, perhaps before it
 * has read the last words of the return path. For its stream that is an end like any other: the
 * destination QEMU knows whether it had all. One that closes on the stream itself is broken. So is
 * QEMU's preempt connection at either end: pages that are missing are the main connection's to
 * complain about. */
static gboolean is_plain_end(const PumpQemu *qemu, const Session *session, int err)
{
    return (qemu->connection == QEMU_PREEMPT || session_side(session) == SESSION_SOURCE) &&
           (err == EPIPE || err == ECONNRESET);
}

gboolean pump_qemu_in(PumpQemu *qemu, Engine *engine, Session *session, guint8 *buf, gint64 now_us)
{
    ssize_t n;

    if (!engine_wants(engine, qemu->connection))
        return FALSE;
    do {
        n = recv(qemu->fd, buf, PUMP_QEMU_BUF, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        qemu->bytes_in += n;
        engine_on_data(engine, qemu->connection, buf, n, now_us);
        return n == PUMP_QEMU_BUF;
    }
    if (n < 0 && errno == EAGAIN) {
        engine_on_idle(engine, qemu->connection, now_us);
        return FALSE;
    }
    if (n == 0 || is_plain_end(qemu, session, errno)) {
        qemu->ended = TRUE;
        engine_on_eof(engine, qemu->connection, now_us);
    } else {
        session_on_qemu_broken(session, g_strerror(errno), NULL);
    }
    return FALSE;
}

void pump_engine_failed(Session *session, const GError *error)
{
    if (g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE))
        session_on_qemu_broken(session, error->message, NULL);
    else
        session_on_bad_frame(session, error);
}

/* FALSE: it cannot be written to now. */
static gboolean write_once(PumpQemu *qemu, Engine *engine, Session *session)
{
    struct iovec iov[QEMU_SINK_IOV_MAX];
    struct msghdr message = { .msg_iov = iov };
    gsize total = 0;
    ssize_t n;

    message.msg_iovlen = engine_output(engine, qemu->connection, iov);
    if (message.msg_iovlen == 0)
        return FALSE;
    for (guint i = 0; i < message.msg_iovlen; i++)
        total += iov[i].iov_len;
    do {
        n = sendmsg(qemu->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) {
        qemu->bytes_out += n;
        engine_written(engine, qemu->connection, n);
        return (gsize)n == total;
    }
    if (is_plain_end(qemu, session, errno)) {
        engine_written(engine, qemu->connection, total); /* nobody will read it */
        return TRUE;
    }
    if (errno != EAGAIN)
        session_on_qemu_broken(session, g_strerror(errno), NULL);
    return FALSE;
}

gboolean pump_qemu_out(PumpQemu *qemu, Engine *engine, Session *session, gint64 now_us)
{
    for (guint i = 0; i < TURN_QEMU_WRITES_MAX; i++) {
        g_autoptr(GError) error = NULL;

        if (!write_once(qemu, engine, session))
            return FALSE;
        if (!engine_run(engine, now_us, &error)) {
            pump_engine_failed(session, error);
            return FALSE;
        }
    }
    return TRUE;
}
