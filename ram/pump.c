/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/pump.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <sys/socket.h>

#include "ram/uffd/uffd.h"

/* A turn's share: a page that is waited for waits for a turn of everything else. */
#define TURN_QEMU_WRITES_MAX 4

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

/* What has been cancelled or paused at the source must not look like the end of a stream that is whole. */
static void end_of_qemu(PumpQemu *qemu, Engine *engine, Session *session, gint64 now_us)
{
    OutgoingEnd end = qemu->connection == QEMU_MAIN ? engine_end_here(engine) : OUTGOING_END_WHOLE;

    switch (end) {
    case OUTGOING_END_WHOLE:
        engine_on_eof(engine, qemu->connection, now_us);
        break;
    case OUTGOING_END_CANCELLED:
        session_on_cancel(session, _("the source QEMU has ended the migration"), NULL);
        break;
    case OUTGOING_END_BROKEN:
        session_on_qemu_broken(session, _("its stream ended before its end"), NULL);
        break;
    }
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
        end_of_qemu(qemu, engine, session, now_us);
    } else {
        session_on_qemu_broken(session, g_strerror(errno), NULL);
    }
    return FALSE;
}

void pump_engine_failed(Session *session, const GError *error)
{
    if (g_error_matches(error, RAM_ERROR, RAM_ERROR_STATE) || error->domain == UFFD_ERROR)
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
