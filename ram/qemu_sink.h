/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection to the destination QEMU as a RAM sink: makes records, in sections of its own, from pages,
 * and puts other bytes of the stream between the sections. Pure; one thread.
 *
 * The queue is short (QEMU_SINK_PAGES): what is in it stands before a page that is waited for. */
#pragma once

#include <sys/uio.h>

#include "ram/ram_sink.h"

#define QEMU_SINK_PAGES 8
#define QEMU_SINK_IOV_MAX (2 * QEMU_SINK_PAGES + 2)

typedef struct QemuSink QemuSink;

/* The main connection makes sections; a preempt connection has none (sections FALSE). */
QemuSink *qemu_sink_new(const RamBlocks *blocks, gboolean sections);
void qemu_sink_free(QemuSink *sink);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuSink, qemu_sink_free)

RamSink *qemu_sink_base(QemuSink *sink);

/* The id of RAM's section. Before the first page. */
void qemu_sink_set_section(QemuSink *sink, guint32 id);

/* Bytes of the stream, between sections; borrowed until qemu_sink_is_idle(). Only while it is idle. */
void qemu_sink_put(QemuSink *sink, const guint8 *bytes, gsize len);
/* The last section of RAM, empty. */
void qemu_sink_put_ram_end(QemuSink *sink);
/* An end-of-section record, with which a preempt connection ends. */
void qemu_sink_put_eos(QemuSink *sink);

/* Nothing waits to be written. */
gboolean qemu_sink_is_idle(const QemuSink *sink);
/* What to write next; the number of entries, 0: nothing. */
guint qemu_sink_output(const QemuSink *sink, struct iovec ret_iov[QEMU_SINK_IOV_MAX]);
void qemu_sink_written(QemuSink *sink, gsize len);
