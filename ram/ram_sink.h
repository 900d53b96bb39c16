/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an incoming machine puts its pages: into the stream of a QEMU (ram/qemu_sink.h), or into memory
 * behind a userfaultfd (ram/uffd/sink.h).
 *
 * Pages arrive exactly once, and those of one host page together and in order. */
#pragma once

#include "ram/qemu_stream.h"

typedef struct RamSink RamSink;

typedef struct {
    /* How many target pages it takes now. */
    guint (*room)(const RamSink *sink);
    /* One target page, or a piece of a larger host page; data must stay valid until the sink is
     * empty. */
    void (*place)(RamSink *sink, const QemuPage *page);
    /* Nothing that was placed still refers to its data. */
    gboolean (*is_empty)(const RamSink *sink);
    /* What was placed and is held back for longer runs goes out now. NULL: nothing is. FALSE: it cannot be
     * placed. */
    gboolean (*flush)(RamSink *sink, GError **error);
} RamSinkOps;

struct RamSink {
    const RamSinkOps *ops;
};
