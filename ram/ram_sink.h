/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an incoming machine puts its pages: today into the stream of a QEMU (ram/qemu_sink.h); memory
 * behind a userfaultfd is to follow.
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
} RamSinkOps;

struct RamSink {
    const RamSinkOps *ops;
};
