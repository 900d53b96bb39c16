/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Listening sockets: made as libvirt's daemons make them, or recognised among those that the
 * service manager has passed. All are non-blocking and close on exec. Start-up only: these may
 * wait for a moment. */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

/* A unix socket at path with these permission bits and, unless it is -1, that group. A socket file
 * is replaced if nobody listens on it; -1 if somebody does, or anything else is there. Two daemons
 * that start at the same time take turns (a lock on the directory). */
int listen_socket_unix(const char *path, mode_t mode, gid_t group, GError **error);

/* The same for sockets of packets (SOCK_SEQPACKET). */
int listen_socket_packets(const char *path, mode_t mode, gid_t group, GError **error);

/* The group of that name, -1 if it is NULL. setting: for the message. */
gboolean listen_socket_group(const char *setting, const char *name, gid_t *ret, GError **error);

/* Ends the listening of fd, and removes path unless somebody else listens there by now. */
void listen_socket_remove(int fd, const char *path);

/* One socket for each address family; appends at least one int to fds. address NULL: every one. */
gboolean listen_socket_tcp(GArray *fds, const char *address, guint16 port, GError **error);

/* Is fd a listening stream socket at all? The error says what it is bound to. */
gboolean listen_socket_check(int fd, GError **error);

/* Is it bound to this path (by whatever name), or this port? */
gboolean listen_socket_is_unix(int fd, const char *path);
gboolean listen_socket_is_port(int fd, guint16 port);

/* "/run/libvirt/virtpostcopyd-sock", "0.0.0.0:16514", "[::]:16514"; of the other end if peer. */
char *listen_socket_address(int fd, gboolean peer);
