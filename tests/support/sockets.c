/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHUNK (128 * 1024)
#define WAIT_S 20

static int must(int result, const char *what)
{
    if (result < 0)
        g_error("%s: %s", what, g_strerror(errno));
    return result;
}

void sockets_tcp_pair(int ret_fds[2])
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t len = sizeof address;
    int listener = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    must(listen(listener, 1), "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &len), "getsockname");
    ret_fds[0] = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    must(connect(ret_fds[0], (struct sockaddr *)&address, len), "connect");
    ret_fds[1] = must(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept");
    close(listener);
}

void sockets_unix_pair(int ret_fds[2])
{
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_fds), "socketpair");
}

static struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    g_assert(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    return address;
}

int sockets_unix_listen(const char *path)
{
    struct sockaddr_un address = unix_address(path);
    int fd = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

    unlink(path);
    must(bind(fd, (struct sockaddr *)&address, sizeof address), "bind");
    must(listen(fd, 1), "listen");
    return fd;
}

int sockets_unix_connect(const char *path)
{
    struct sockaddr_un address = unix_address(path);
    int fd = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

    must(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    return fd;
}

static void fill(guint8 *buf, guint64 *state)
{
    guint64 x = *state;

    for (gsize i = 0; i < CHUNK; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(buf + i, &x, 8);
    }
    *state = x;
}

static gpointer writer(gpointer data)
{
    StreamEnd *end = data;
    g_autofree guint8 *buf = g_malloc(CHUNK);
    guint64 state = end->send_seed + 1, left = end->len;

    while (left > 0) {
        gsize len = MIN(left, CHUNK), done = 0;

        fill(buf, &state);
        while (done < len) {
            ssize_t n = send(end->fd, buf + done, len - done, MSG_NOSIGNAL);

            if (n < 0) {
                end->write_broke = TRUE;
                return NULL;
            }
            done += n;
        }
        left -= len;
    }
    shutdown(end->fd, SHUT_WR);
    return NULL;
}

static gpointer reader(gpointer data)
{
    StreamEnd *end = data;
    g_autofree guint8 *buf = g_malloc(CHUNK);
    g_autofree guint8 *expected = g_malloc(CHUNK);
    guint64 state = end->receive_seed + 1;
    gsize at = CHUNK;
    ssize_t n;

    for (;;) {
        if (at == CHUNK) {
            fill(expected, &state);
            at = 0;
        }
        n = recv(end->fd, buf, CHUNK - at, 0);
        if (n <= 0)
            break;
        if (memcmp(buf, expected + at, n) != 0)
            end->wrong = TRUE;
        at += n;
        end->received += n;
    }
    end->read_broke = n < 0;
    return NULL;
}

StreamEnd *stream_end_start(int fd, guint32 send_seed, guint64 len, guint32 receive_seed)
{
    StreamEnd *end = g_new0(StreamEnd, 1);

    end->fd = fd;
    end->send_seed = send_seed;
    end->receive_seed = receive_seed;
    end->len = len;
    end->writer = g_thread_new("writer", writer, end);
    end->reader = g_thread_new("reader", reader, end);
    return end;
}

gboolean stream_end_is_good(const StreamEnd *end, guint64 expected)
{
    return !end->write_broke && !end->read_broke && !end->wrong && end->received == expected;
}

void stream_end_wait(StreamEnd *end)
{
    if (end->writer)
        g_thread_join(end->writer);
    if (end->reader)
        g_thread_join(end->reader);
    end->writer = end->reader = NULL;
}

void stream_end_free(StreamEnd *end)
{
    shutdown(end->fd, SHUT_RDWR);
    stream_end_wait(end);
    close(end->fd);
    g_free(end);
}

static gboolean on_tick(gpointer data)
{
    return G_SOURCE_CONTINUE;
}

void wait_until(gboolean (*done)(gpointer), gpointer data, const char *what)
{
    gint64 deadline = g_get_monotonic_time() + WAIT_S * G_USEC_PER_SEC;
    /* So that the context comes back although nothing happens. */
    guint tick = g_timeout_add(100, on_tick, NULL);

    while (!done(data)) {
        if (g_get_monotonic_time() > deadline)
            g_error("%s: not after %d seconds", what, WAIT_S);
        g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(tick);
}

gboolean socket_ends_within(int fd, guint ms)
{
    gint64 deadline = g_get_monotonic_time() + (gint64)ms * 1000;
    guint8 buf[4096];

    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };
        gint64 left = deadline - g_get_monotonic_time();
        ssize_t n;

        if (left < 0 || poll(&p, 1, (int)(left / 1000) + 1) == 0)
            return FALSE;
        n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return TRUE;
    }
}
