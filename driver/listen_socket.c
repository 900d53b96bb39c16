/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/listen_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/autofd.h"

#define BACKLOG 128
#define LOCK_TRIES 100u /* a tenth of a second each */

static gboolean fail(GError **error, const char *what, const char *name)
{
    int saved = errno;

    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved), "%s %s: %s", what, name,
                g_strerror(saved));
    return FALSE;
}

/* --- unix --- */

static gboolean unix_address(const char *path, struct sockaddr_un *ret, GError **error)
{
    gsize len = strlen(path);

    if (len == 0 || len >= sizeof ret->sun_path) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("socket path %1$s has %2$zu bytes, %3$zu are possible"), path, len,
                    sizeof ret->sun_path - 1);
        return FALSE;
    }
    memset(ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    memcpy(ret->sun_path, path, len + 1);
    return TRUE;
}

/* The lock is on the directory, so that it leaves nothing behind; it goes with the descriptor. */
static int lock_directory(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    autofd fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        fail(error, _("cannot open directory"), dir);
        return -1;
    }
    for (guint i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return autofd_steal(&fd);
        if (errno != EWOULDBLOCK)
            break;
        g_usleep(G_USEC_PER_SEC / 10);
    }
    fail(error, _("cannot lock directory"), dir);
    return -1;
}

/* A connect() decides: a file that nobody listens on refuses it. */
static gboolean remove_stale(const char *path, const struct sockaddr_un *address, int type,
                             GError **error)
{
    autofd probe = -1;
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? TRUE : fail(error, _("cannot look at"), path);
    if (!S_ISSOCK(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS, _("%1$s is there and is not a socket"),
                    path);
        return FALSE;
    }
    probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return fail(error, _("cannot make a socket for"), path);
    if (connect(probe, (const struct sockaddr *)address, sizeof *address) == 0 ||
        errno != ECONNREFUSED) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_ADDRESS_IN_USE,
                    _("somebody else listens on %1$s already"), path);
        return FALSE;
    }
    return unlink(path) == 0 || errno == ENOENT ? TRUE : fail(error, _("cannot remove"), path);
}

/* Nobody can connect before listen(), so group and mode are in force from the start. */
static gboolean bind_unix(int fd, const struct sockaddr_un *address, mode_t mode, gid_t group,
                          GError **error)
{
    const char *path = address->sun_path;
    mode_t old = umask(0177);
    int bound = bind(fd, (const struct sockaddr *)address, sizeof *address);

    umask(old);
    if (bound < 0)
        return fail(error, _("cannot bind to"), path);
    if (group != (gid_t)-1 && lchown(path, (uid_t)-1, group) < 0)
        fail(error, _("cannot set the group of"), path);
    else if (chmod(path, mode) < 0)
        fail(error, _("cannot set the permissions of"), path);
    else if (listen(fd, BACKLOG) < 0)
        fail(error, _("cannot listen on"), path);
    else
        return TRUE;
    unlink(path);
    return FALSE;
}

static int listen_unix(const char *path, int type, mode_t mode, gid_t group, GError **error)
{
    struct sockaddr_un address;
    autofd lock = -1;
    autofd fd = -1;

    if (!unix_address(path, &address, error))
        return -1;
    lock = lock_directory(path, error);
    if (lock < 0 || !remove_stale(path, &address, type, error))
        return -1;
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        fail(error, _("cannot make a socket for"), path);
        return -1;
    }
    if (!bind_unix(fd, &address, mode, group, error))
        return -1;
    return autofd_steal(&fd);
}

int listen_socket_unix(const char *path, mode_t mode, gid_t group, GError **error)
{
    return listen_unix(path, SOCK_STREAM, mode, group, error);
}

int listen_socket_packets(const char *path, mode_t mode, gid_t group, GError **error)
{
    return listen_unix(path, SOCK_SEQPACKET, mode, group, error);
}

gboolean listen_socket_group(const char *setting, const char *name, gid_t *ret, GError **error)
{
    struct group *group;

    *ret = (gid_t)-1;
    if (!name)
        return TRUE;
    errno = 0;
    group = getgrnam(name);
    if (!group) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("%1$s \"%2$s\": there is no such group"), setting, name);
        return FALSE;
    }
    *ret = group->gr_gid;
    return TRUE;
}

void listen_socket_remove(int fd, const char *path)
{
    struct sockaddr_un address;
    socklen_t len = sizeof(int);
    autofd lock = -1;
    int type;

    /* Ours no longer listens when this is called; a successor's would. */
    if (!unix_address(path, &address, NULL) ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        return;
    lock = lock_directory(path, NULL);
    if (lock < 0)
        return;
    shutdown(fd, SHUT_RDWR);
    remove_stale(path, &address, type, NULL);
}

/* --- TCP --- */

static int bind_tcp(const struct addrinfo *ai, GError **error)
{
    autofd fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    char host[NI_MAXHOST] = "?";

    getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    if (fd < 0) {
        fail(error, _("cannot make a socket for"), host);
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        fail(error, _("cannot listen on"), host);
        return -1;
    }
    return autofd_steal(&fd);
}

gboolean listen_socket_tcp(GArray *fds, const char *address, guint16 port, GError **error)
{
    const struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM };
    g_autofree char *service = g_strdup_printf("%u", port);
    g_autoptr(GError) first = NULL;
    struct addrinfo *list = NULL;
    int failed = getaddrinfo(address, service, &hints, &list);
    guint before = fds->len;

    if (failed) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot listen on %1$s port %2$u: %3$s"), address ? address : "*", port,
                    gai_strerror(failed));
        return FALSE;
    }
    for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
        int fd = bind_tcp(ai, first ? NULL : &first);

        if (fd >= 0)
            g_array_append_val(fds, fd);
    }
    freeaddrinfo(list);
    /* A host without IPv6 still has a wildcard address of it in the list. */
    if (fds->len > before && (!first || !g_error_matches(first, G_IO_ERROR,
                                                         G_IO_ERROR_ADDRESS_IN_USE)))
        return TRUE;
    for (guint i = before; i < fds->len; i++)
        autofd_clear(&g_array_index(fds, int, i));
    g_array_set_size(fds, before);
    g_propagate_prefixed_error(error, g_steal_pointer(&first), _("port %1$u: "), port);
    return FALSE;
}

/* --- what others have made --- */

typedef union {
    struct sockaddr any;
    struct sockaddr_un un;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_storage storage;
} Address;

static gboolean own_address(int fd, Address *ret)
{
    socklen_t len = sizeof *ret;

    memset(ret, 0, sizeof *ret);
    return getsockname(fd, &ret->any, &len) == 0;
}

char *listen_socket_address(int fd, gboolean peer)
{
    Address a = { 0 };
    socklen_t len = sizeof a;
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if ((peer ? getpeername(fd, &a.any, &len) : getsockname(fd, &a.any, &len)) < 0)
        return g_strdup_printf("descriptor %d", fd);
    if (a.any.sa_family == AF_UNIX)
        return g_strdup(a.un.sun_path[0] ? a.un.sun_path : "unix socket without a path");
    if (getnameinfo(&a.any, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return g_strdup_printf("descriptor %d", fd);
    return g_strdup_printf(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static int socket_option(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

gboolean listen_socket_check(int fd, GError **error)
{
    g_autofree char *name = listen_socket_address(fd, FALSE);

    if (socket_option(fd, SO_TYPE) != SOCK_STREAM || socket_option(fd, SO_ACCEPTCONN) != 1) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("%1$s, passed by the service manager, is not a listening stream socket"),
                    name);
        return FALSE;
    }
    return g_unix_set_fd_nonblocking(fd, TRUE, error);
}

/* /var/run is /run on most hosts: names may differ where files do not. */
gboolean listen_socket_is_unix(int fd, const char *path)
{
    Address a;
    struct stat bound, wanted;

    if (!own_address(fd, &a) || a.any.sa_family != AF_UNIX || a.un.sun_path[0] == '\0')
        return FALSE;
    if (g_str_equal(a.un.sun_path, path))
        return TRUE;
    return stat(a.un.sun_path, &bound) == 0 && stat(path, &wanted) == 0 &&
           bound.st_dev == wanted.st_dev && bound.st_ino == wanted.st_ino;
}

gboolean listen_socket_is_port(int fd, guint16 port)
{
    Address a;

    if (!own_address(fd, &a))
        return FALSE;
    if (a.any.sa_family == AF_INET)
        return ntohs(a.in.sin_port) == port;
    return a.any.sa_family == AF_INET6 && ntohs(a.in6.sin6_port) == port;
}
