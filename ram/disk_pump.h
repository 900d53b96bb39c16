/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk connection's bytes, from QEMU's socket to the peer over TLS and back, as they are.
 *
 * Each direction goes on until its own end: an end of QEMU's becomes close_notify, the peer's
 * becomes the end of what QEMU reads. Never blocks, keeps DISK_PUMP_BUF bytes of each direction at
 * most, and owns neither of the two. One thread only, as for all TLS. */
#pragma once

#include <poll.h>

#include "tls/channel.h"

#define DISK_PUMP_BUF (256 * 1024)

/* One direction. */
typedef struct {
    guint8 *buf;
    gsize begin; /* what waits: from here */
    gsize end;   /* to here */
    gboolean ended; /* nothing more comes */
    gboolean told;  /* and the receiving side has heard of that */
} DiskWay;

typedef struct {
    TlsChannel *channel;
    int fd; /* QEMU's: a stream socket */
    DiskWay out; /* to the peer */
    DiskWay in;  /* to QEMU */
    gboolean qemu_gone; /* it reads no more: what comes for it is dropped */
} DiskPump;

void disk_pump_init(DiskPump *pump, TlsChannel *channel, int fd);
void disk_pump_clear(DiskPump *pump);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DiskPump, disk_pump_clear)

/* Moves what can be moved without waiting, or a turn's share of it. *ret_more: there may be more at
 * once; else wait first. FALSE: the peer is lost, or QEMU's socket is broken. An end of QEMU's, in
 * whatever way, is none of these. */
gboolean disk_pump_turn(DiskPump *pump, gboolean *ret_more, GError **error);

/* What to wait for. */
void disk_pump_poll(const DiskPump *pump, struct pollfd *ret_qemu, struct pollfd *ret_peer);

/* Both directions have ended, and both sides were told. */
gboolean disk_pump_is_over(const DiskPump *pump);
