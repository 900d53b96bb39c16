/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory behind a userfaultfd as a RAM sink: pages that follow each other, in the block as in the buffer
 * they lie in, go to the kernel as one run (UFFDIO_COPY up to UFFD_RUN_MAX bytes; zero pages by
 * UFFDIO_ZEROPAGE in runs without limit).
 *
 * A host page of several target pages is put together first (each sink has a buffer of one) and placed as a
 * whole; its target pages come in order, with no other page in between, else flush() says so. A page that
 * is there already (EEXIST) is left as it is, who waits for it is woken, and it is reported as such: that
 * is a duplicate and never an error.
 *
 * Each channel has a sink of its own; they may share descriptor and map. One thread each. Those of the
 * background may leave the system calls to a thread of their own (ram/uffd/placer.h). */
#pragma once

#include "ram/ram_sink.h"
#include "ram/uffd/placer.h"

#define UFFD_RUN_MAX (256 * 1024)

typedef struct UffdSink UffdSink;

/* All but func and data are borrowed. uffd: non-blocking, of the process that map describes. */
UffdSink *uffd_sink_new(int uffd, const UffdMap *map, const RamBlocks *blocks, UffdPlacedFunc func,
                        gpointer data);
void uffd_sink_free(UffdSink *sink);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(UffdSink, uffd_sink_free)

/* The first page in [offset, end) of the block that somebody waits for; end: there is none. data: the sink's. */
typedef guint64 (*UffdWaitedFunc)(guint block, guint64 offset, guint64 end, gpointer data);

/* From now on, what is placed on ranges that it takes goes to placer (borrowed, of the same userfaultfd), unless the
 * kernel is quick, and it is placer that reports it. The sink's owner sees to it that placer is collected:
 * where a sink is not empty after flush(), that is what it waits for. What waited says goes before its turn. */
void uffd_sink_set_placer(UffdSink *sink, UffdPlacer *placer, UffdWaitedFunc waited);

/* place() takes pages (kinds RAW, ZERO, COMPRESSED) of blocks the map has; flush() places what is left of
 * runs. is_empty() after flush(): FALSE means UFFD_AGAIN; read the owner's events, and flush() again; or,
 * uffd_sink_awaits_placer(), that the placer has no room.
 * Errors (RAM_ERROR_PROTOCOL: pages out of order; UFFD_ERROR_*) are flush()'s, and final. */
RamSink *uffd_sink_base(UffdSink *sink);

gboolean uffd_sink_awaits_placer(const UffdSink *sink);

/* The owner's process has dropped these pages: what of them is still here is not placed any more, nor
 * reported. To be called before flush() is. */
void uffd_sink_forget(UffdSink *sink, guint block, guint64 offset, guint64 length);

/* A host page has begun and is not complete. */
gboolean uffd_sink_in_host_page(const UffdSink *sink);
/* Drops what has begun: its channel was lost, and its first target page comes again. */
void uffd_sink_drop_host_page(UffdSink *sink);

typedef struct {
    guint64 copies;    /* calls of UFFDIO_COPY */
    guint64 zeropages; /* and of UFFDIO_ZEROPAGE */
    guint64 bytes;     /* placed, zero or not */
    guint64 existed;   /* bytes that were there already */
    guint64 again;     /* times the kernel could not go on at once */
} UffdSinkStats;

void uffd_sink_get_stats(const UffdSink *sink, UffdSinkStats *ret_stats);
