/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an outgoing machine gets its pages from: today a QEMU that writes its stream
 * (ram/qemu_source.h); memory that the helper maps itself is to follow.
 *
 * A source gives pages by outgoing_event(). The other way it is asked: */
#pragma once

#include <glib.h>

typedef struct RamSource RamSource;

typedef struct {
    /* The guest waits for these whole host pages, and they are not staged: let them come first. */
    void (*request)(RamSource *source, guint block, guint64 start, guint32 length);
} RamSourceOps;

struct RamSource {
    const RamSourceOps *ops;
};
