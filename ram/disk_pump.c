/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/disk_pump.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <sys/socket.h>

/* A turn's share: whoever wants to stop the thread must not wait for long. */
#define TURN_ROUNDS_MAX 16

void disk_pump_init(DiskPump *pump, TlsChannel *channel, int fd)
{
    *pump = (DiskPump){ .channel = channel, .fd = fd };
    pump->out.buf = g_malloc(DISK_PUMP_BUF);
    pump->in.buf = g_malloc(DISK_PUMP_BUF);
}

void disk_pump_clear(DiskPump *pump)
{
    g_clear_pointer(&pump->out.buf, g_free);
    g_clear_pointer(&pump->in.buf, g_free);
}

/* ---- one direction ---- */

static gsize way_has(const DiskWay *way)
{
    return way->end - way->begin;
}

/* Where the next bytes go; 0: it is full. */
static gsize way_space(DiskWay *way, guint8 **ret_space)
{
    if (way->begin == way->end)
        way->begin = way->end = 0;
    *ret_space = way->buf + way->end;
    return DISK_PUMP_BUF - way->end;
}

static gboolean would_block(const GError *error)
{
    return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
}

/* ---- QEMU's side. It may close as it likes, the NBD client or server that it is: what is not
 * orderly about that, the other QEMU knows by what it has got. ---- */

static gboolean is_gone(int err)
{
    return err == EPIPE || err == ECONNRESET;
}

static gboolean qemu_broken(GError **error)
{
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                _("QEMU's disk connection is broken: %s"), g_strerror(errno));
    return FALSE;
}

static void qemu_leaves(DiskPump *pump)
{
    pump->qemu_gone = TRUE;
    pump->out.ended = TRUE;
}

static gboolean read_qemu(DiskPump *pump, gboolean *moved, GError **error)
{
    guint8 *space;
    gsize room = way_space(&pump->out, &space);
    ssize_t n;

    if (pump->out.ended || room == 0)
        return TRUE;
    do {
        n = recv(pump->fd, space, room, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        pump->out.end += n;
        *moved = TRUE;
    } else if (n == 0) {
        pump->out.ended = *moved = TRUE;
    } else if (is_gone(errno)) {
        qemu_leaves(pump);
        *moved = TRUE;
    } else if (errno != EAGAIN) {
        return qemu_broken(error);
    }
    return TRUE;
}

/* The end is told when all before it is written. */
static void end_qemu(DiskPump *pump, gboolean *moved)
{
    if (!pump->in.ended || pump->in.told || way_has(&pump->in) > 0)
        return;
    /* It may have closed before. */
    shutdown(pump->fd, SHUT_WR);
    pump->in.told = *moved = TRUE;
}

static gboolean write_qemu(DiskPump *pump, gboolean *moved, GError **error)
{
    ssize_t n;

    while (way_has(&pump->in) > 0 && !pump->qemu_gone) {
        n = send(pump->fd, pump->in.buf + pump->in.begin, way_has(&pump->in),
                 MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            pump->in.begin += n;
            *moved = TRUE;
        } else if (is_gone(errno)) {
            qemu_leaves(pump);
            *moved = TRUE;
        } else if (errno == EAGAIN) {
            return TRUE;
        } else if (errno != EINTR) {
            return qemu_broken(error);
        }
    }
    if (pump->qemu_gone)
        pump->in.begin = pump->in.end;
    end_qemu(pump, moved);
    return TRUE;
}

/* ---- the peer's side ---- */

static gboolean read_peer(DiskPump *pump, gboolean *moved, GError **error)
{
    while (!pump->in.ended) {
        g_autoptr(GError) cause = NULL;
        guint8 *space;
        gsize room = way_space(&pump->in, &space);
        gssize n = room > 0 ? tls_channel_read(pump->channel, space, room, &cause) : -1;

        if (room == 0 || would_block(cause))
            return TRUE;
        if (n < 0) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return FALSE;
        }
        pump->in.end += n;
        pump->in.ended = n == 0;
        *moved = TRUE;
    }
    return TRUE;
}

/* close_notify, and when that is out the end of the TCP stream. */
static gboolean end_peer(DiskPump *pump, gboolean *moved, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (!tls_channel_flush(pump->channel, &cause)) {
        if (would_block(cause))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    if (!pump->out.ended || pump->out.told || way_has(&pump->out) > 0)
        return TRUE;
    tls_channel_bye(pump->channel);
    /* Else the rest goes with the next turn, in which bye() says nothing more. */
    if (tls_channel_unsent(pump->channel) == 0) {
        shutdown(tls_channel_fd(pump->channel), SHUT_WR);
        pump->out.told = *moved = TRUE;
    }
    return TRUE;
}

static gboolean write_peer(DiskPump *pump, gboolean *moved, GError **error)
{
    while (way_has(&pump->out) > 0) {
        g_autoptr(GError) cause = NULL;
        gssize n = tls_channel_write(pump->channel, pump->out.buf + pump->out.begin,
                                     way_has(&pump->out), &cause);

        if (n < 0 && !would_block(cause)) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return FALSE;
        }
        if (n < 0)
            return TRUE;
        pump->out.begin += n;
        *moved = TRUE;
    }
    return end_peer(pump, moved, error);
}

/* ---- both ---- */

gboolean disk_pump_turn(DiskPump *pump, gboolean *ret_more, GError **error)
{
    *ret_more = TRUE;
    for (guint i = 0; i < TURN_ROUNDS_MAX && *ret_more; i++) {
        *ret_more = FALSE;
        if (!read_qemu(pump, ret_more, error) || !write_peer(pump, ret_more, error) ||
            !read_peer(pump, ret_more, error) || !write_qemu(pump, ret_more, error))
            return FALSE;
    }
    return TRUE;
}

void disk_pump_poll(const DiskPump *pump, struct pollfd *ret_qemu, struct pollfd *ret_peer)
{
    short qemu = 0;
    short peer = tls_channel_poll_events(pump->channel,
                                         !pump->in.ended && way_has(&pump->in) == 0,
                                         way_has(&pump->out) > 0);

    if (!pump->out.ended && way_has(&pump->out) == 0)
        qemu |= POLLIN;
    if (way_has(&pump->in) > 0)
        qemu |= POLLOUT;
    /* A descriptor with nothing to wait for stays out: a hang-up is reported unasked, for ever. */
    *ret_qemu = (struct pollfd){ .fd = qemu ? pump->fd : -1, .events = qemu };
    *ret_peer = (struct pollfd){ .fd = peer ? tls_channel_fd(pump->channel) : -1, .events = peer };
}

gboolean disk_pump_is_over(const DiskPump *pump)
{
    return pump->out.told && pump->in.told;
}
