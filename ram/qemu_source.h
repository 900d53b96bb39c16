/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source QEMU as a RAM source: reads its stream, and its preempt connection if it has one, for an
 * outgoing machine; writes the return path, with the requests that the machine makes put between the
 * messages of the destination QEMU. Pure; one thread. */
#pragma once

#include "ram/outgoing.h"

/* QEMU's connections. */
typedef enum {
    QEMU_MAIN,
    QEMU_PREEMPT, /* with postcopy-preempt on at both ends */
    QEMU_CONNECTION_MAX,
} QemuConnection;

typedef struct QemuSource QemuSource;

QemuSource *qemu_source_new(const OutgoingConfig *config, Session *session);
void qemu_source_free(QemuSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuSource, qemu_source_free)

/* The machine it feeds; owned by the source. */
Outgoing *qemu_source_outgoing(QemuSource *source);

/* ---- from QEMU ---- */

gboolean qemu_source_wants(const QemuSource *source, QemuConnection connection);
void qemu_source_on_opened(QemuSource *source, QemuConnection connection, gint64 now_us);
void qemu_source_on_data(QemuSource *source, QemuConnection connection, const guint8 *bytes, gsize len,
                         gint64 now_us);
/* Whether it has to be read until there is nothing on it, and that there is nothing. */
gboolean qemu_source_awaits_idle(const QemuSource *source, QemuConnection connection);
void qemu_source_on_idle(QemuSource *source, QemuConnection connection, gint64 now_us);
/* It has closed the connection, or shut down its direction. */
void qemu_source_on_eof(QemuSource *source, QemuConnection connection, gint64 now_us);

/* ---- to QEMU: the return path, on its main connection ---- */

/* Bytes to write; 0: none. Valid until the next call. */
gsize qemu_source_output(QemuSource *source, const guint8 **ret_bytes);
void qemu_source_written(QemuSource *source, gsize len);

/* Takes what the peer has sent and sends what may be sent. FALSE: the peer broke a rule. */
gboolean qemu_source_run(QemuSource *source, gint64 now_us, GError **error);
