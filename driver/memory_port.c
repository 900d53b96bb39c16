/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/memory_port.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>

#include "client/handover.h"
#include "driver/listen_socket.h"
#include "driver/memory_job.h"
#include "util/autofd.h"
#include "util/log.h"

/* Clients that have not said yet what they want. */
#define CALLERS_MAX 64
#define HELLO_TIMEOUT_S 10
/* Out of descriptors, most likely: trying again at once would only spin. */
#define ACCEPT_PAUSE_S 1

struct MemoryPort {
    MigrationSet *set;
    char *path;
    int fd;
    guint watch;
    guint pause; /* timer, after accept failed */
    GPtrArray *callers;
};

typedef struct {
    MemoryPort *port;
    int fd;
    uid_t uid;
    char *name; /* for log lines */
    guint watch;
    guint timer;
} Caller;

static void caller_free(gpointer data)
{
    Caller *caller = data;

    g_clear_handle_id(&caller->watch, g_source_remove);
    g_clear_handle_id(&caller->timer, g_source_remove);
    autofd_clear(&caller->fd);
    g_free(caller->name);
    g_free(caller);
}

static char *describe(int fd, uid_t *ret_uid)
{
    struct ucred who = { 0 };
    socklen_t len = sizeof who;

    *ret_uid = (uid_t)-1;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
        return g_strdup("?");
    *ret_uid = who.uid;
    return g_strdup_printf("process %d, uid %u", (int)who.pid, (guint)who.uid);
}

/* ---- the first message ---- */

/* 0: nothing is there yet. -1: it is no good. Descriptors have no place in it. */
static gssize receive(int fd, guint8 *buf, gsize size, GError **error)
{
    struct iovec iov = { buf, size };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    gssize n;

    do {
        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (n < 0)
        g_set_error_literal(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno),
                            g_strerror(errno));
    else if (n == 0)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_CLOSED, _("it has gone"));
    else if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            _("its first message is too long, or has descriptors"));
    else
        return n;
    return -1;
}

static gboolean check_hello(const HandoverMessage *message, GError **error)
{
    if (message->type != HANDOVER_HELLO) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("the first message is %s, must be %s"), handover_type_name(message->type),
                    handover_type_name(HANDOVER_HELLO));
        return FALSE;
    }
    if (message->hello.version != HANDOVER_VERSION) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("it speaks version %u of the hand-over protocol, this virtpostcopyd %d: "
                      "use the libpostcopy-client of the same release"),
                    (guint)message->hello.version, HANDOVER_VERSION);
        return FALSE;
    }
    return TRUE;
}

/* TRUE with *ret_begun FALSE: it has said nothing yet. */
static gboolean listen_to(Caller *caller, gboolean *ret_begun, GError **error)
{
    g_autofree guint8 *buf = g_malloc(HANDOVER_MESSAGE_MAX);
    g_autofree HandoverMessage *message = g_new0(HandoverMessage, 1);
    char why[HANDOVER_ERROR_MAX];
    gssize n = receive(caller->fd, buf, HANDOVER_MESSAGE_MAX, error);

    *ret_begun = n > 0;
    if (n <= 0)
        return n == 0;
    if (!handover_decode(buf, (gsize)n, 0, message, why)) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, why);
        return FALSE;
    }
    if (!check_hello(message, error))
        return FALSE;
    memory_job_begin(caller->port->set, autofd_steal(&caller->fd), caller->uid, caller->name,
                     message);
    return TRUE;
}

static gboolean on_hello(gint fd, GIOCondition condition, gpointer data)
{
    Caller *caller = data;
    g_autoptr(GError) error = NULL;
    gboolean begun;

    if (listen_to(caller, &begun, &error) && !begun)
        return G_SOURCE_CONTINUE;
    if (error) {
        log_warning(NULL, "memory client (%s): %s", caller->name, error->message);
        memory_job_refuse(caller->fd, error->message);
    }
    caller->watch = 0;
    g_ptr_array_remove_fast(caller->port->callers, caller);
    return G_SOURCE_REMOVE;
}

static gboolean on_silent(gpointer data)
{
    Caller *caller = data;

    log_warning(NULL, "memory client (%s): it said nothing for %d s", caller->name,
                HELLO_TIMEOUT_S);
    caller->timer = 0;
    g_ptr_array_remove_fast(caller->port->callers, caller);
    return G_SOURCE_REMOVE;
}

/* ---- listening ---- */

static void take_caller(MemoryPort *port, int fd)
{
    Caller *caller = g_new0(Caller, 1);

    caller->port = port;
    caller->fd = fd;
    caller->name = describe(fd, &caller->uid);
    g_ptr_array_add(port->callers, caller);
    if (port->callers->len > CALLERS_MAX) {
        memory_job_refuse(fd, _("too many memory clients are connecting; try again"));
        g_ptr_array_remove_fast(port->callers, caller);
        return;
    }
    caller->watch = g_unix_fd_add(fd, G_IO_IN, on_hello, caller);
    caller->timer = g_timeout_add_seconds(HELLO_TIMEOUT_S, on_silent, caller);
}

static gboolean on_connection(gint fd, GIOCondition condition, gpointer data);

static gboolean on_pause_over(gpointer data)
{
    MemoryPort *port = data;

    port->pause = 0;
    port->watch = g_unix_fd_add(port->fd, G_IO_IN, on_connection, port);
    return G_SOURCE_REMOVE;
}

static gboolean on_connection(gint fd, GIOCondition condition, gpointer data)
{
    MemoryPort *port = data;
    int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (connection >= 0) {
        take_caller(port, connection);
        return G_SOURCE_CONTINUE;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
        return G_SOURCE_CONTINUE;
    log_error(NULL, "%s: %s", port->path, g_strerror(errno));
    port->watch = 0;
    port->pause = g_timeout_add_seconds(ACCEPT_PAUSE_S, on_pause_over, port);
    return G_SOURCE_REMOVE;
}

MemoryPort *memory_port_new(MigrationSet *set, GError **error)
{
    const Settings *settings = migration_set_settings(set);
    g_autoptr(MemoryPort) port = g_new0(MemoryPort, 1);
    gid_t group;

    port->set = set;
    port->fd = -1;
    port->callers = g_ptr_array_new_with_free_func(caller_free);
    port->path = g_build_filename(migration_set_run_dir(set), HANDOVER_SOCKET, NULL);
    if (!listen_socket_group("memory_sock_group", settings->memory_sock_group, &group, error))
        return NULL;
    port->fd = listen_socket_packets(port->path, settings->memory_sock_perms, group, error);
    if (port->fd < 0)
        return NULL;
    port->watch = g_unix_fd_add(port->fd, G_IO_IN, on_connection, port);
    return g_steal_pointer(&port);
}

void memory_port_free(MemoryPort *port)
{
    if (!port)
        return;
    g_clear_handle_id(&port->watch, g_source_remove);
    g_clear_handle_id(&port->pause, g_source_remove);
    if (port->fd >= 0)
        listen_socket_remove(port->fd, port->path);
    autofd_clear(&port->fd);
    g_ptr_array_unref(port->callers);
    g_free(port->path);
    g_free(port);
}
