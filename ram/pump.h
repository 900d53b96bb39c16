/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Moves bytes between sockets and the machines, as much as goes without waiting, but not more than a
 * turn's share: all return TRUE if they stopped for that reason alone. Errors are told to the machine
 * of the channel, or to the session, which decide. */
#pragma once

#include "ram/engine.h"
#include "ram/link.h"

/* ---- channels: ram/pump_channel.c ---- */

/* A channel: its connection, and its machine: the session for the main one, or a lane. */
typedef struct {
    Link *link; /* NULL: none */
    Session *session;
    Lane *lane;      /* NULL: the main channel, or there is no machine yet */
    char *lost_why;  /* why the last connection was lost, or NULL */
} PumpChannel;

void pump_channel_clear(PumpChannel *channel);

gboolean pump_channel_in(PumpChannel *channel);
gboolean pump_channel_out(PumpChannel *channel);
/* Bytes are waiting to be written on the channel. */
gboolean pump_channel_has_output(const PumpChannel *channel);

/* Its connection is no good any more, or none could be made: tells the machine, which says whether another
 * may take its place (pump_channel_is_lost()). */
void pump_channel_lose(PumpChannel *channel, const char *reason);
/* And that no other will. */
void pump_channel_give_up(PumpChannel *channel, const char *reason);
gboolean pump_channel_is_lost(const PumpChannel *channel);
/* Asks whether the peer is there, unless it is asked already. */
void pump_channel_ping(PumpChannel *channel);

/* ---- QEMU: ram/pump.c ---- */

/* A connection to QEMU. buf: PUMP_QEMU_BUF bytes to read into. */
#define PUMP_QEMU_BUF (128 * 1024)
typedef struct {
    int fd; /* -1: none */
    QemuConnection connection;
    guint64 bytes_in;
    guint64 bytes_out;
    gboolean ended; /* it has closed its direction */
} PumpQemu;

gboolean pump_qemu_in(PumpQemu *qemu, Engine *engine, Session *session, guint8 *buf, gint64 now_us);
gboolean pump_qemu_out(PumpQemu *qemu, Engine *engine, Session *session, gint64 now_us);

/* What engine_run() failed with: the peer has broken a rule, or it is QEMU that cannot be served. */
void pump_engine_failed(Session *session, const GError *error);
