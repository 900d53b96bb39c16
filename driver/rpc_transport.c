/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets, with descriptors or without, and TLS channels. */
#include "config.h"

#include "driver/rpc_transport.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "driver/rpc_frame.h"
#include "util/autofd.h"

static gssize io_failed(GError **error, const char *what)
{
    int saved = errno;

    if (saved == EAGAIN || saved == EWOULDBLOCK)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, "would block");
    else
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved), "%s: %s", what,
                    g_strerror(saved));
    return -1;
}

static gssize socket_read(RpcTransport *t, void *buf, gsize len, GError **error)
{
    gssize n;

    do
        n = recv(t->fd, buf, len, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? io_failed(error, _("reading")) : n;
}

static gssize socket_write(RpcTransport *t, const void *buf, gsize len, GError **error)
{
    gssize n;

    do
        n = send(t->fd, buf, len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? io_failed(error, _("writing")) : n;
}

/* Every descriptor that came with msg; the kernel has installed them all. Returns their number,
 * of which the first max are in fds, the rest closed. */
static guint collect_fds(struct msghdr *msg, int *fds, guint max)
{
    guint n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        gsize bytes;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        bytes = c->cmsg_len - CMSG_LEN(0);
        for (gsize i = 0; i < bytes / sizeof(int); i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (n < max)
                fds[n] = fd;
            else
                autofd_clear(&fd);
            n++;
        }
    }
    return n;
}

static gboolean socket_read_fd(RpcTransport *t, int *ret_fd, GError **error)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * RPC_FDS_MAX)];
    } control;
    char carrier;
    struct iovec iov = { &carrier, 1 };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof control };
    autofd fd = -1;
    gssize n;
    guint n_fds;

    do
        n = recvmsg(t->fd, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        io_failed(error, _("receiving a descriptor"));
        return FALSE;
    }
    if (n == 0) {
        g_set_error_literal(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_CLOSED,
                            _("RPC frame: the connection ended before the frame's descriptors"));
        return FALSE;
    }
    n_fds = collect_fds(&msg, &fd, 1);
    if (n_fds != 1 || (msg.msg_flags & MSG_CTRUNC)) {
        g_set_error(error, RPC_FRAME_ERROR, RPC_FRAME_ERROR_FDS,
                    msg.msg_flags & MSG_CTRUNC
                        ? _("RPC frame: a descriptor's control message was cut short (%1$u came)")
                        : _("RPC frame: one descriptor was expected, %1$u came"),
                    n_fds);
        return FALSE;
    }
    *ret_fd = autofd_steal(&fd);
    return TRUE;
}

static gboolean socket_write_fd(RpcTransport *t, int fd, GError **error)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    char carrier = 0;
    struct iovec iov = { &carrier, 1 };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof control.space };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    gssize n;

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    do
        n = sendmsg(t->fd, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        io_failed(error, _("sending a descriptor"));
        return FALSE;
    }
    return TRUE;
}

static gboolean socket_flush(RpcTransport *t, GError **error)
{
    return TRUE;
}

static gsize socket_pending(RpcTransport *t)
{
    return 0;
}

static GIOCondition socket_events(RpcTransport *t, gboolean want_read, gboolean want_write)
{
    return (want_read ? G_IO_IN : 0) | (want_write ? G_IO_OUT : 0);
}

static void socket_close(RpcTransport *t)
{
    autofd_clear(&t->fd);
    g_free(t);
}

static const RpcTransportOps plain_ops = {
    .read = socket_read,
    .write = socket_write,
    .flush = socket_flush,
    .pending = socket_pending,
    .events = socket_events,
    .close = socket_close,
};

static const RpcTransportOps unix_ops = {
    .read = socket_read,
    .write = socket_write,
    .read_fd = socket_read_fd,
    .write_fd = socket_write_fd,
    .flush = socket_flush,
    .pending = socket_pending,
    .events = socket_events,
    .close = socket_close,
};

RpcTransport *rpc_transport_new_socket(int fd, gboolean can_pass_fds)
{
    RpcTransport *t = g_new0(RpcTransport, 1);

    t->ops = can_pass_fds ? &unix_ops : &plain_ops;
    t->fd = fd;
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    return t;
}

typedef struct {
    RpcTransport base;
    TlsChannel *channel;
} TlsTransport;

static TlsChannel *channel_of(RpcTransport *t)
{
    return ((TlsTransport *)t)->channel;
}

static gssize tls_read(RpcTransport *t, void *buf, gsize len, GError **error)
{
    return tls_channel_read(channel_of(t), buf, len, error);
}

static gssize tls_write(RpcTransport *t, const void *buf, gsize len, GError **error)
{
    return tls_channel_write(channel_of(t), buf, len, error);
}

static gboolean tls_flush(RpcTransport *t, GError **error)
{
    return tls_channel_flush(channel_of(t), error);
}

static gsize tls_pending(RpcTransport *t)
{
    return tls_channel_pending(channel_of(t));
}

static GIOCondition tls_events(RpcTransport *t, gboolean want_read, gboolean want_write)
{
    short events = tls_channel_poll_events(channel_of(t), want_read, want_write);

    return (events & POLLIN ? G_IO_IN : 0) | (events & POLLOUT ? G_IO_OUT : 0);
}

static void tls_close(RpcTransport *t)
{
    tls_channel_bye(channel_of(t));
    tls_channel_free(channel_of(t));
    g_free(t);
}

static const RpcTransportOps tls_ops = {
    .read = tls_read,
    .write = tls_write,
    .flush = tls_flush,
    .pending = tls_pending,
    .events = tls_events,
    .close = tls_close,
};

RpcTransport *rpc_transport_new_tls(TlsChannel *channel)
{
    TlsTransport *t = g_new0(TlsTransport, 1);

    t->base.ops = &tls_ops;
    t->base.fd = tls_channel_fd(channel);
    t->channel = channel;
    return &t->base;
}
