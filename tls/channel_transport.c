/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "tls/channel_priv.h"

/* gnutls makes a flight of a handful of pieces, a record of one. */
#define IOV_CHUNK 16

void tls_transport_init(TlsTransport *transport, int fd)
{
    *transport = (TlsTransport){ .fd = fd, .out = g_byte_array_new() };
}

void tls_transport_set_busy(TlsTransport *transport)
{
    transport->gather = TLS_GATHER;
    if (!transport->in)
        transport->in = g_malloc(TLS_READ_AHEAD);
}

void tls_transport_clear(TlsTransport *transport)
{
    g_clear_pointer(&transport->in, g_free);
    g_clear_pointer(&transport->out, g_byte_array_unref);
}

gsize tls_transport_unsent(const TlsTransport *transport)
{
    /* Nothing waits on a socket that broke. */
    return transport->send_errno ? 0 : transport->out->len - transport->out_head;
}

/* Bytes the socket took (0: it is full), or -1 with send_errno set. Never blocks, whatever the
 * mode of the descriptor, and a closed peer is an errno, not a SIGPIPE. */
static gssize send_some(TlsTransport *transport, struct iovec *iov, int n_iov)
{
    const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)n_iov };
    ssize_t n;

    do
        n = sendmsg(transport->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return 0;
    transport->send_errno = errno;
    return -1;
}

int tls_transport_flush(TlsTransport *transport)
{
    GByteArray *out = transport->out;

    if (transport->send_errno)
        return transport->send_errno;
    while (transport->out_head < out->len) {
        struct iovec iov = { out->data + transport->out_head, out->len - transport->out_head };
        gssize n = send_some(transport, &iov, 1);

        if (n < 0)
            return transport->send_errno;
        if (n == 0)
            return EAGAIN;
        transport->out_head += (gsize)n;
    }
    g_byte_array_set_size(out, 0);
    transport->out_head = 0;
    return 0;
}

/* Keeps all of iov but its first skip bytes. */
static void keep_rest(TlsTransport *transport, const giovec_t *iov, int n_iov, gsize skip)
{
    /* What is sent already must not pile up if there is always a rest. */
    if (transport->out_head > transport->out->len / 2) {
        g_byte_array_remove_range(transport->out, 0, (guint)transport->out_head);
        transport->out_head = 0;
    }
    for (int i = 0; i < n_iov; i++) {
        gsize gone = MIN(skip, iov[i].iov_len);

        skip -= gone;
        if (gone < iov[i].iov_len)
            g_byte_array_append(transport->out, (const guint8 *)iov[i].iov_base + gone,
                                (guint)(iov[i].iov_len - gone));
    }
}

/* A socket that broke is not gnutls' business: it would stop, and never read the alert in which the
 * peer said why it closed. Who uses the transport looks at send_errno. */
static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *iov, int n_iov)
{
    TlsTransport *transport = ptr;
    struct iovec chunk[IOV_CHUNK];
    int n_chunk = MIN(n_iov, IOV_CHUNK);
    gsize total = 0;
    gssize sent = 0;

    for (int i = 0; i < n_iov; i++)
        total += iov[i].iov_len;
    for (int i = 0; i < n_chunk; i++)
        chunk[i] = (struct iovec){ iov[i].iov_base, iov[i].iov_len };
    if (!transport->send_errno && !transport->gather && tls_transport_unsent(transport) == 0)
        sent = send_some(transport, chunk, n_chunk);
    if (!transport->send_errno)
        keep_rest(transport, iov, n_iov, (gsize)sent);
    return (ssize_t)total;
}

static ssize_t receive(TlsTransport *transport, void *buf, size_t len)
{
    ssize_t n;

    do
        n = recv(transport->fd, buf, len, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    transport->ended = n == 0 && len > 0;
    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        transport->dry = TRUE;
        errno = EAGAIN;
    } else {
        transport->recv_errno = errno;
    }
    return -1;
}

/* gnutls asks for the head of each record, and then for its body. */
static ssize_t pull(gnutls_transport_ptr_t ptr, void *buf, size_t len)
{
    TlsTransport *transport = ptr;

    if (!transport->in)
        return receive(transport, buf, len);
    if (transport->in_head == transport->in_len) {
        ssize_t n = receive(transport, transport->in, TLS_READ_AHEAD);

        if (n <= 0)
            return n;
        transport->in_head = 0;
        transport->in_len = (gsize)n;
    }
    len = MIN(len, transport->in_len - transport->in_head);
    memcpy(buf, transport->in + transport->in_head, len);
    transport->in_head += len;
    return (ssize_t)len;
}

/* gnutls asks now and then if something has come, and must not think that ptr is a descriptor. */
static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned int ms)
{
    TlsTransport *transport = ptr;
    struct pollfd pfd = { .fd = transport->fd, .events = POLLIN };

    (void)ms; /* nothing here waits */
    if (transport->in_head < transport->in_len)
        return 1;
    return poll(&pfd, 1, 0);
}

void tls_transport_attach(TlsTransport *transport, gnutls_session_t session)
{
    gnutls_transport_set_ptr(session, transport);
    gnutls_transport_set_vec_push_function(session, push);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
}
