/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A page either makes the run under way longer, or ends it: the run goes to the kernel, and the page begins the
 * next one. Where the kernel cannot go on (UFFD_AGAIN) the run stays, one page is held behind it, and
 * there is no room for more. */
#include "config.h"

#include "ram/uffd/sink.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "ram/uffd/uffd.h"

/* What an incoming machine places in one go, before others have their turn. */
#define ROOM 64

/* What goes to the kernel next. */
typedef struct {
    const UffdRange *range; /* NULL: nothing */
    guint64 offset;         /* in the block */
    guint64 length;
    const guint8 *data;     /* NULL: zeros */
} Run;

/* A host page, as it is put together. */
typedef struct {
    guint8 *data; /* size bytes */
    gsize size;
    guint block;
    guint64 offset;
    guint64 filled; /* 0: none has begun */
    gboolean is_zero; /* so far; nothing of it is in data then */
} HostPage;

typedef struct {
    guint block;
    guint64 offset;
    guint64 length;
} Piece;

struct UffdSink {
    RamSink base;
    int uffd;
    const UffdMap *map;
    gsize target_page;
    UffdPlacedFunc func;
    gpointer func_data;
    UffdPlacer *placer; /* or NULL */
    UffdWaitedFunc waited; /* with it */

    Run run;
    gboolean no_room; /* of the placer's */
    gboolean stuck; /* run waits for uffd_sink's flush() */
    gboolean has_held;
    QemuPage held;
    GArray *forgotten; /* of Piece: of run and held, that are not to be placed; NULL: none */
    HostPage host;
    guint8 *scratch; /* a target page that is not in its frame as it is; target_page bytes */
    guint8 *zeros;   /* where the kernel has no zero page to place: never written */
    gsize zeros_size;
    GError *error;
    UffdSinkStats stats;
};

static UffdSink *sink_of(const RamSink *base)
{
    return (UffdSink *)base;
}

/* ---- to the kernel ---- */

static void skip(Run *run, guint64 length)
{
    run->offset += length;
    run->length -= length;
    if (run->data)
        run->data += length;
}

static void placed(UffdSink *sink, guint64 length, gboolean existed)
{
    Run *run = &sink->run;

    if (length == 0)
        return;
    if (existed)
        sink->stats.existed += length;
    else
        sink->stats.bytes += length;
    sink->func(run->range->block, run->offset, length, existed, sink->func_data);
    skip(run, length);
}

/* Pages that nobody ever writes to share one page of zeros. */
static const guint8 *zeros(UffdSink *sink, gsize size)
{
    gpointer map;

    if (sink->zeros_size >= size)
        return sink->zeros;
    map = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        g_error("mmap of %zu bytes failed", size);
    if (sink->zeros)
        munmap(sink->zeros, sink->zeros_size);
    sink->zeros = map;
    sink->zeros_size = size;
    return sink->zeros;
}

static UffdPlaced copy(UffdSink *sink, guint64 address, guint64 length, guint64 *ret_done,
                       GError **error)
{
    const guint8 *data = sink->run.data;

    return sink->placer ? uffd_placer_copy(sink->placer, address, data, length, ret_done, error)
                        : uffd_copy(sink->uffd, address, data, length, ret_done, error);
}

static UffdPlaced place_some(UffdSink *sink, guint64 length, guint64 *ret_done, GError **error)
{
    const Run *run = &sink->run;
    guint64 address = run->range->address + (run->offset - run->range->offset);

    if (!run->data && run->range->backing != UFFD_HUGETLB) {
        sink->stats.zeropages++;
        return uffd_zero(sink->uffd, address, length, ret_done, error);
    }
    sink->stats.copies++;
    if (run->data)
        return copy(sink, address, length, ret_done, error);
    return uffd_copy(sink->uffd, address, zeros(sink, run->range->page_size),
                     MIN(length, run->range->page_size), ret_done, error);
}

/* The page is there: whoever ran into it before it was sleeps on. */
static gboolean wake_existing(UffdSink *sink, GError **error)
{
    const Run *run = &sink->run;
    guint64 page = run->range->page_size;

    if (!uffd_wake(sink->uffd, run->range->address + (run->offset - run->range->offset), page,
                   error))
        return FALSE;
    placed(sink, page, TRUE);
    return TRUE;
}

/* Runs end where mappings do. The owner may have split one since the map was made: then its pages go one by
 * one. */
static gboolean may_be_split(const UffdSink *sink, guint64 tried, const GError *error)
{
    return tried > sink->run.range->page_size &&
           (g_error_matches(error, UFFD_ERROR, UFFD_ERROR_UNMAPPED) ||
            g_error_matches(error, UFFD_ERROR, UFFD_ERROR_FAILED));
}

/* ---- what is not to be placed any more ---- */

static gboolean is_forgotten(const UffdSink *sink, guint block, guint64 offset)
{
    for (guint i = 0; sink->forgotten && i < sink->forgotten->len; i++) {
        const Piece *piece = &g_array_index(sink->forgotten, Piece, i);

        if (piece->block == block && offset >= piece->offset &&
            offset - piece->offset < piece->length)
            return TRUE;
    }
    return FALSE;
}

/* How much of the run, from its beginning, goes to the kernel; what is forgotten before that is left out. */
static guint64 next_length(UffdSink *sink)
{
    Run *run = &sink->run;
    guint64 length = 0;

    if (!sink->forgotten)
        return run->length;
    while (run->length > 0 && is_forgotten(sink, run->range->block, run->offset))
        skip(run, run->range->page_size);
    while (length < run->length &&
           !is_forgotten(sink, run->range->block, run->offset + length))
        length += run->range->page_size;
    return length;
}

/* Many zeros take long however quick the kernel is. */
static gboolean goes_to_placer(const UffdSink *sink)
{
    const Run *run = &sink->run;

    return sink->placer && run->range && uffd_placer_takes(run->range) &&
           ((!run->data && run->length > UFFD_PLACER_ZEROS) ||
            !uffd_placer_is_quick(sink->placer));
}

/* Of what was submitted last. */
static void place_waited(UffdSink *sink, guint64 length)
{
    const Run *run = &sink->run;
    guint64 at = run->offset, end = at + length;

    while ((at = sink->waited(run->range->block, at, end, sink->func_data)) < end) {
        uffd_placer_hold(sink->placer);
        uffd_placer_place_now(sink->placer, run->range->block, at);
        uffd_placer_release(sink->placer);
        at += run->range->page_size;
    }
}

/* FALSE: stuck, there is no room. */
static gboolean hand_over_run(UffdSink *sink)
{
    Run *run = &sink->run;
    guint64 length;

    while ((length = next_length(sink)) > 0) {
        guint64 taken = uffd_placer_submit(sink->placer, run->range, run->offset, length,
                                           run->data);

        if (taken == 0) {
            sink->stuck = sink->no_room = TRUE;
            return FALSE;
        }
        place_waited(sink, taken);
        skip(run, taken);
    }
    run->range = NULL;
    return TRUE;
}

/* The run, or what is left of it. FALSE: stuck, or error is set. */
static gboolean place_run(UffdSink *sink)
{
    Run *run = &sink->run;
    guint64 most = G_MAXUINT64, length;

    sink->stuck = sink->no_room = FALSE;
    if (goes_to_placer(sink))
        return hand_over_run(sink);
    while (run->range && (length = next_length(sink)) > 0) {
        g_autoptr(GError) error = NULL;
        guint64 tried = MIN(length, most);
        guint64 done;
        UffdPlaced how = place_some(sink, tried, &done, &error);

        placed(sink, done, FALSE);
        if (how == UFFD_AGAIN) {
            sink->stats.again++;
            sink->stuck = TRUE;
            return FALSE;
        }
        if (how == UFFD_EXISTED && !wake_existing(sink, &sink->error))
            return FALSE;
        if (how == UFFD_FAILED && may_be_split(sink, tried - done, error)) {
            most = run->range->page_size;
        } else if (how == UFFD_FAILED) {
            sink->error = g_steal_pointer(&error);
            return FALSE;
        }
    }
    run->range = NULL;
    return TRUE;
}

/* ---- pages of the kernel's size ---- */

static gboolean continues(const UffdSink *sink, const UffdRange *range, const QemuPage *page,
                          const guint8 *data)
{
    const Run *run = &sink->run;

    return run->range == range && run->offset + run->length == page->offset &&
           (data ? run->data && run->data + run->length == data : !run->data);
}

/* FALSE: not taken, as the run before it is stuck (or failed). data NULL: zeros. */
static gboolean take_small(UffdSink *sink, const UffdRange *range, const QemuPage *page,
                           const guint8 *data)
{
    if (continues(sink, range, page, data)) {
        sink->run.length += sink->target_page;
        if (data && sink->run.length >= UFFD_RUN_MAX)
            place_run(sink);
        return TRUE;
    }
    if (!place_run(sink))
        return FALSE;
    sink->run = (Run){ range, page->offset, sink->target_page, data };
    return TRUE;
}

/* ---- larger host pages ---- */

static gboolean bad_piece(UffdSink *sink, const QemuPage *page)
{
    g_set_error(&sink->error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                _("PAGES: offset 0x%" PRIx64
                  " of RAM block %u comes before the host page under way is complete"),
                page->offset, page->block);
    return FALSE;
}

static void begin_host(UffdSink *sink, const UffdRange *range, const QemuPage *page)
{
    HostPage *host = &sink->host;

    if (host->size < range->page_size) {
        g_free(host->data);
        host->size = range->page_size;
        host->data = g_malloc(host->size);
    }
    host->block = page->block;
    host->offset = page->offset;
    host->is_zero = TRUE;
}

static gboolean fits_host(const UffdSink *sink, const UffdRange *range, const QemuPage *page)
{
    const HostPage *host = &sink->host;

    if (host->filled == 0)
        return (page->offset - range->offset) % range->page_size == 0;
    return host->block == page->block && page->offset == host->offset + host->filled;
}

static void fill_host(UffdSink *sink, const guint8 *data)
{
    HostPage *host = &sink->host;

    if (data && host->is_zero)
        memset(host->data, 0, host->filled);
    host->is_zero = host->is_zero && !data;
    if (data)
        memcpy(host->data + host->filled, data, sink->target_page);
    else if (!host->is_zero)
        memset(host->data + host->filled, 0, sink->target_page);
    host->filled += sink->target_page;
}

static gboolean take_piece(UffdSink *sink, const UffdRange *range, const QemuPage *page,
                           const guint8 *data)
{
    HostPage *host = &sink->host;

    /* The run may be the host page before. */
    if (!place_run(sink))
        return FALSE;
    if (!fits_host(sink, range, page))
        return bad_piece(sink, page);
    if (host->filled == 0)
        begin_host(sink, range, page);
    fill_host(sink, data);
    if (host->filled < range->page_size)
        return TRUE;
    host->filled = 0;
    sink->run = (Run){ range, host->offset, range->page_size, host->is_zero ? NULL : host->data };
    place_run(sink);
    return TRUE;
}

/* ---- as a RAM sink ---- */

static gboolean inflate_page(UffdSink *sink, const QemuPage *page)
{
    uLongf len = sink->target_page;

    if (uncompress(sink->scratch, &len, page->data, page->data_len) == Z_OK &&
        len == sink->target_page)
        return TRUE;
    g_set_error(&sink->error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                _("PAGES: the compressed page at offset 0x%" PRIx64
                  " of RAM block %u is no zlib stream of %zu bytes"),
                page->offset, page->block, sink->target_page);
    return FALSE;
}

/* What the page is made of; *ret_data NULL: zeros. The scratch page holds one at a time. */
static gboolean data_of(UffdSink *sink, const QemuPage *page, const guint8 **ret_data)
{
    *ret_data = page->data;
    if (page->kind == QEMU_PAGE_RAW)
        return TRUE;
    *ret_data = NULL;
    if (page->kind == QEMU_PAGE_ZERO && page->fill == 0)
        return TRUE;
    if (sink->run.data == sink->scratch && sink->run.range && !place_run(sink))
        return FALSE;
    *ret_data = sink->scratch;
    if (page->kind == QEMU_PAGE_COMPRESSED)
        return inflate_page(sink, page);
    memset(sink->scratch, page->fill, sink->target_page);
    return TRUE;
}

/* FALSE: it cannot be taken now, or there is an error. */
static gboolean take(UffdSink *sink, const QemuPage *page)
{
    const UffdRange *range = uffd_map_at_offset(sink->map, page->block, page->offset);
    const guint8 *data;

    if (!range) {
        g_set_error(&sink->error, RAM_ERROR, RAM_ERROR_PROTOCOL,
                    _("PAGES: offset 0x%" PRIx64 " of RAM block %u is not in memory"),
                    page->offset, page->block);
        return FALSE;
    }
    if (!data_of(sink, page, &data))
        return FALSE;
    if (range->page_size > sink->target_page || sink->host.filled > 0)
        return take_piece(sink, range, page, data);
    return take_small(sink, range, page, data);
}

static guint sink_room(const RamSink *base)
{
    const UffdSink *sink = sink_of(base);

    return sink->stuck || sink->has_held ? 0 : ROOM;
}

static void sink_place(RamSink *base, const QemuPage *page)
{
    UffdSink *sink = sink_of(base);

    if (sink->error || take(sink, page) || sink->error)
        return;
    sink->held = *page;
    sink->has_held = TRUE;
}

static gboolean sink_is_empty(const RamSink *base)
{
    return !sink_of(base)->run.range && !sink_of(base)->has_held;
}

static gboolean take_held(UffdSink *sink)
{
    return is_forgotten(sink, sink->held.block, sink->held.offset) || take(sink, &sink->held);
}

static gboolean sink_flush(RamSink *base, GError **error)
{
    UffdSink *sink = sink_of(base);

    if (!sink->error && place_run(sink) && sink->has_held && take_held(sink)) {
        sink->has_held = FALSE;
        place_run(sink);
    }
    if (sink_is_empty(base))
        g_clear_pointer(&sink->forgotten, g_array_unref);
    if (!sink->error)
        return TRUE;
    g_propagate_error(error, g_error_copy(sink->error));
    return FALSE;
}

static const RamSinkOps ops = { sink_room, sink_place, sink_is_empty, sink_flush };

/* ---- life ---- */

UffdSink *uffd_sink_new(int uffd, const UffdMap *map, const RamBlocks *blocks, UffdPlacedFunc func,
                        gpointer data)
{
    UffdSink *sink = g_new0(UffdSink, 1);

    sink->base.ops = &ops;
    sink->uffd = uffd;
    sink->map = map;
    sink->target_page = ram_blocks_target_page(blocks);
    sink->scratch = g_malloc(sink->target_page);
    sink->func = func;
    sink->func_data = data;
    return sink;
}

void uffd_sink_free(UffdSink *sink)
{
    if (!sink)
        return;
    if (sink->zeros)
        munmap(sink->zeros, sink->zeros_size);
    g_free(sink->host.data);
    g_free(sink->scratch);
    g_clear_pointer(&sink->forgotten, g_array_unref);
    g_clear_error(&sink->error);
    g_free(sink);
}

RamSink *uffd_sink_base(UffdSink *sink)
{
    return &sink->base;
}

void uffd_sink_set_placer(UffdSink *sink, UffdPlacer *placer, UffdWaitedFunc waited)
{
    sink->placer = placer;
    sink->waited = waited;
}

gboolean uffd_sink_awaits_placer(const UffdSink *sink)
{
    return sink->no_room;
}

void uffd_sink_forget(UffdSink *sink, guint block, guint64 offset, guint64 length)
{
    const Piece piece = { block, offset, length };
    const Run *run = &sink->run;
    gboolean in_run = run->range && run->range->block == block && offset < run->offset + run->length &&
                      run->offset < offset + length;
    gboolean is_held = sink->has_held && sink->held.block == block && sink->held.offset >= offset &&
                       sink->held.offset - offset < length;

    if (!in_run && !is_held)
        return;
    if (!sink->forgotten)
        sink->forgotten = g_array_new(FALSE, FALSE, sizeof(Piece));
    g_array_append_val(sink->forgotten, piece);
}

gboolean uffd_sink_in_host_page(const UffdSink *sink)
{
    return sink->host.filled > 0;
}

void uffd_sink_drop_host_page(UffdSink *sink)
{
    sink->host.filled = 0;
}

void uffd_sink_get_stats(const UffdSink *sink, UffdSinkStats *ret_stats)
{
    *ret_stats = sink->stats;
}
