/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One disk channel: a TLS connection of its own that carries what a QEMU says on a connection for
 * its disks (NBD), unread. A thread of its own opens it (HELLO, HELLO_ACK), pumps, and closes both
 * connections at the end. */
#pragma once

#include "ram/link.h"
#include "tls/proof.h"
#include "tls/session.h"

typedef struct DiskChannel DiskChannel;

typedef struct {
    SessionSide side;
    guint8 session[HELLO_SESSION_LEN];
    guint64 features; /* of the main channel */
    guint64 window;   /* for HELLO, which must have one */
    guint16 number;
    guint8 key[CHANNEL_KEY_LEN]; /* source: for the proof; secret */
    guint handshake_ms;          /* source: how long TLS may take */
    guint answer_ms;             /* source: the same of the answer to HELLO */
} DiskChannelConfig;

/* Called in the thread; ended is the last that it does but for returning. */
typedef struct {
    void (*opened)(DiskChannel *disk, const Link *link, gpointer data);
    void (*ended)(DiskChannel *disk, gpointer data);
} DiskChannelHandlers;

/* Takes link and fd, also on error. Source: link is a connection before its handshake; destination:
 * one whose HELLO was judged well, and that waits for the answer. fd: connected to this side's
 * QEMU. */
DiskChannel *disk_channel_new(const DiskChannelConfig *config, Link *link, int fd,
                              const DiskChannelHandlers *handlers, gpointer data, GError **error);
/* Tells the thread to close everything; ended follows. Any thread. */
void disk_channel_stop(DiskChannel *disk);
/* Stops the thread and waits for it. */
void disk_channel_free(DiskChannel *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskChannel, disk_channel_free)

guint16 disk_channel_number(const DiskChannel *disk);
/* On the TCP socket since TLS began, as of a moment ago. Any thread. */
void disk_channel_wire_bytes(DiskChannel *disk, guint64 *ret_sent, guint64 *ret_received);
/* Once it has ended: why before both QEMUs have ended their directions; NULL: they have, or it was
 * stopped. */
const char *disk_channel_reason(const DiskChannel *disk);
