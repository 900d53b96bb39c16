/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who a client is: found out when it connects, told to upstream by CONNECT_SET_IDENTITY.
 *
 * Without that upstream takes every client for this daemon, which is root (facts: libvirt-rpc.md
 * 3.1). */
#pragma once

#include "driver/proxy.h"

#define IDENTITY_PROCEDURE 419 /* CONNECT_SET_IDENTITY of program remote */

/* What the kernel says of the other end of a unix socket: credentials, start time of the process,
 * SELinux context. Does not wait. */
void identity_take(int fd, ProxyPeer *peer);

/* The names of uid and gid. May wait for a directory service: not for the main thread. */
void identity_find_names(ProxyPeer *peer);

/* The call's payload; free with g_byte_array_unref(). It has no field that is not known: a plain
 * TCP client has none at all, as with libvirtd itself. */
GByteArray *identity_encode(const ProxyPeer *peer);

/* Field 22 of a /proc/PID/stat line, 0 if there is none. Pure. */
guint64 identity_parse_start_time(const char *stat);
