/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking the socket out of a GIO connection, which closes its own descriptor when it goes. */
#pragma once

#include <fcntl.h>
#include <gio/gio.h>

/* A descriptor of the caller's own, close-on-exec so that no helper inherits it; -1 with errno. */
static inline int connection_dup_fd(GSocketConnection *connection)
{
    GSocket *socket = g_socket_connection_get_socket(connection);

    return fcntl(g_socket_get_fd(socket), F_DUPFD_CLOEXEC, 0);
}
