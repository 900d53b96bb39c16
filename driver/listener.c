/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/listener.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "driver/listen_socket.h"
#include "util/autofd.h"
#include "util/log.h"

/* Connections taken in one wake-up, before others have their turn. */
#define BATCH 16u

/* Without descriptors or memory accept() fails at once, again and again: wait a second. */
#define REST_SECONDS 1u

struct Listener {
    int fd;
    ProxyClientKind kind;
    gboolean read_only;
    char *path;
    char *address;
    ListenerFunc func;
    gpointer data;
    gboolean accepting;
    guint watch_id;
    guint rest_id;
};

static void update(Listener *l);

static gboolean rested(gpointer data)
{
    Listener *l = data;

    l->rest_id = 0;
    update(l);
    return G_SOURCE_REMOVE;
}

/* The connection is gone again, or the network had an error of its own for it: not ours. */
static gboolean passing_error(int e)
{
    return e == EINTR || e == ECONNABORTED || e == EPERM || e == EPROTO || e == ENETDOWN ||
           e == ENETUNREACH || e == EHOSTDOWN || e == EHOSTUNREACH || e == ENONET;
}

static void rest(Listener *l)
{
    log_warning(NULL, _("cannot accept a connection on %1$s: %2$s"), l->address,
                g_strerror(errno));
    g_clear_handle_id(&l->watch_id, g_source_remove);
    l->rest_id = g_timeout_add_seconds(REST_SECONDS, rested, l);
}

static void tune(const Listener *l, int fd)
{
    const int on = 1;

    if (l->kind == PROXY_CLIENT_UNIX)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static gboolean on_connection(gint listening, GIOCondition condition, gpointer data)
{
    Listener *l = data;

    for (guint i = 0; i < BATCH && l->accepting; i++) {
        int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            tune(l, fd);
            l->func(l, fd, l->data);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (!passing_error(errno)) {
            rest(l);
            return G_SOURCE_REMOVE;
        }
    }
    return G_SOURCE_CONTINUE;
}

static void update(Listener *l)
{
    if (!l->accepting)
        g_clear_handle_id(&l->watch_id, g_source_remove);
    else if (!l->watch_id && !l->rest_id)
        l->watch_id = g_unix_fd_add(l->fd, G_IO_IN, on_connection, l);
}

Listener *listener_new(int fd, ProxyClientKind kind, gboolean read_only, const char *path,
                       ListenerFunc func, gpointer data)
{
    Listener *l = g_new0(Listener, 1);

    l->fd = fd;
    l->kind = kind;
    l->read_only = read_only;
    l->path = g_strdup(path);
    l->address = listen_socket_address(fd, FALSE);
    l->func = func;
    l->data = data;
    return l;
}

void listener_free(Listener *l)
{
    if (!l)
        return;
    g_clear_handle_id(&l->watch_id, g_source_remove);
    g_clear_handle_id(&l->rest_id, g_source_remove);
    if (l->path)
        listen_socket_remove(l->fd, l->path);
    autofd_clear(&l->fd);
    g_free(l->path);
    g_free(l->address);
    g_free(l);
}

void listener_set_accepting(Listener *l, gboolean accepting)
{
    l->accepting = accepting;
    update(l);
}

ProxyClientKind listener_kind(const Listener *l)
{
    return l->kind;
}

gboolean listener_read_only(const Listener *l)
{
    return l->read_only;
}

const char *listener_address(const Listener *l)
{
    return l->address;
}
