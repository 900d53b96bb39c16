/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mapped destination's blocks: what the source has against what the client has handed over,
 * and what of it is here. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "ram/mapped/frames.h"
#include "ram/mapped/incoming_priv.h"
#include "ram/printable.h"

/* Dropping pages that are there takes a while: so many bytes in one go. */
#define SWEEP_MAX (G_GUINT64_CONSTANT(256) << 20)
/* A hole goes so much faster. */
#define SWEEP_HOLE_RATE 4

/* ---- BLOCKS ---- */

static gboolean mismatch(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean mismatch(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(RAM_ERROR, RAM_ERROR_PROTOCOL, format, args);
    va_end(args);
    return FALSE;
}

static gboolean is_ignored(const MemoryRegion *region)
{
    return (region->flags & MEMORY_IGNORED) != 0;
}

/* What a block has to have in common with the region of its name. */
static gboolean compare(const MappedIncoming *in, guint block, const MemoryRegion *region,
                        GError **error)
{
    const RamBlock *b = ram_blocks_get(in->blocks, block);
    guint64 page = ram_blocks_host_page(in->blocks, block);
    g_autofree char *name = printable((const guint8 *)b->name, strlen(b->name));

    if (b->length != region->length)
        return mismatch(error,
                        _("memory block \"%s\" has %" PRIu64 " bytes at the source and %" PRIu64
                          " here"),
                        name, b->length, region->length);
    if (page != region->page_size)
        return mismatch(error,
                        _("memory block \"%s\" has pages of %" PRIu64
                          " bytes at the source and of %" PRIu64 " here"),
                        name, page, region->page_size);
    if (mapped_incoming_is_ignored(in, block) != is_ignored(region))
        return mismatch(error,
                        is_ignored(region)
                            ? _("memory block \"%s\" is moved by the source and left out here")
                            : _("memory block \"%s\" is left out by the source and moved here"),
                        name);
    return TRUE;
}

static gboolean match_block(MappedIncoming *in, guint block, GError **error)
{
    const RamBlock *b = ram_blocks_get(in->blocks, block);
    g_autofree char *name = printable((const guint8 *)b->name, strlen(b->name));
    guint region;

    if (!ram_blocks_find(guest_memory_blocks(in->memory), (const guint8 *)b->name, strlen(b->name),
                         &region))
        return mismatch(error, _("memory block \"%s\" of the source was not handed over here"),
                        name);
    in->region_of[block] = region;
    in->block_of[region] = block;
    return compare(in, block, &in->layout->regions[region], error);
}

/* Names come once on either side: as many blocks as regions, each with one, are all of them. */
static gboolean check_none_left(const MappedIncoming *in, GError **error)
{
    for (guint i = 0; i < in->layout->n_regions; i++) {
        const char *name = in->layout->regions[i].name;
        g_autofree char *text = NULL;
        guint block;

        if (ram_blocks_find(in->blocks, (const guint8 *)name, strlen(name), &block))
            continue;
        text = printable((const guint8 *)name, strlen(name));
        return mismatch(error, _("memory region \"%s\" that was handed over here has no block at "
                                 "the source"),
                        text);
    }
    return TRUE;
}

static gboolean match_blocks(MappedIncoming *in, GError **error)
{
    guint n = ram_blocks_count(in->blocks);

    if (ram_blocks_target_page(in->blocks) != in->layout->target_page)
        return mismatch(error, _("pages have %zu bytes at the source and %zu here"),
                        ram_blocks_target_page(in->blocks), in->layout->target_page);
    in->region_of = g_new0(guint, n);
    in->block_of = g_new0(guint, in->layout->n_regions);
    for (guint i = 0; i < n; i++) {
        if (!match_block(in, i, error))
            return FALSE;
    }
    return check_none_left(in, error);
}

static PagesReader *make_reader(const MappedIncoming *in)
{
    PagesReader *reader = pages_reader_new(mapped_incoming_target(in));

    pages_reader_set_features(reader, session_features(in->session));
    return reader;
}

static void make_readers(MappedIncoming *in)
{
    in->main.reader = make_reader(in);
    in->urgent.reader = make_reader(in);
    for (guint i = 0; i < in->bulk->len; i++) {
        MappedFeed *feed = in->bulk->pdata[i];

        feed->reader = make_reader(in);
    }
    in->scratch = g_malloc(mapped_incoming_target(in));
}

static gboolean check_beginning(const MappedIncoming *in, MappedBeginning beginning, GError **error)
{
    if (((beginning & ~(guint)MAPPED_RELEASES) == MAPPED_RECOVERS) == in->recovers)
        return TRUE;
    return mismatch(error, in->recovers
                               ? _("the source begins a migration, and here one is to be recovered")
                               : _("the source recovers a migration, and here one is to begin"));
}

static void count_missing(MappedIncoming *in)
{
    in->missing = 0;
    for (guint i = 0; i < ram_blocks_count(in->blocks); i++) {
        if (!mapped_incoming_is_ignored(in, i))
            in->missing += ram_blocks_get(in->blocks, i)->length / mapped_incoming_target(in) -
                           received_map_count(in->received, in->region_of[i]);
    }
}

/* The guest has run with what is here; its threads may wait for pages that a helper was told of
 * that is no more. */
static gboolean begin_recovery(MappedIncoming *in, GError **error)
{
    int uffd = in->uffd;

    in->postcopy = TRUE;
    in->uffd = -1;
    count_missing(in);
    if (uffd >= 0)
        return mapped_incoming_listen(in, uffd, error);
    if (in->missing == 0)
        return TRUE;
    g_set_error_literal(error, RAM_ERROR, RAM_ERROR_STATE,
                        _("pages are missing, and the memory client has handed no "
                          "userfaultfd over"));
    return FALSE;
}

gboolean mapped_incoming_take_blocks(MappedIncoming *in, GBytes *body, GError **error)
{
    MappedBeginning beginning;

    if (!in->lane)
        return mismatch(error, _("BLOCKS before the preempt channel was opened"));
    if (!mapped_incoming_check(in, MAPPED_INCOMING_EV_BLOCKS, error) ||
        !mapped_blocks_body_decode(body, in->blocks, in->flags, &beginning, error) ||
        !match_blocks(in, error) || !check_beginning(in, beginning, error))
        return FALSE;
    make_readers(in);
    in->is_only_copy = (beginning & MAPPED_RELEASES) != 0;
    if (!in->recovers)
        return mapped_incoming_enter(in, MAPPED_INCOMING_EV_BLOCKS, error);
    return mapped_incoming_enter(in, MAPPED_INCOMING_EV_RECOVERY, error) &&
           begin_recovery(in, error);
}

/* ---- RECEIVED ---- */

/* FALSE: it is through, with all blocks. */
static gboolean next_to_tell(MappedIncoming *in)
{
    while (in->told_block < ram_blocks_count(in->blocks)) {
        guint64 pages =
            ram_blocks_get(in->blocks, in->told_block)->length / mapped_incoming_target(in);

        if (!mapped_incoming_is_ignored(in, in->told_block) && in->told_page < pages)
            return TRUE;
        in->told_block++;
        in->told_page = 0;
    }
    in->told = TRUE;
    return FALSE;
}

void mapped_incoming_tell_received(MappedIncoming *in)
{
    g_autofree guint8 *bytes = NULL;

    if (!in->recovers || in->told || in->state == MAPPED_INCOMING_NONE)
        return;
    bytes = g_malloc(RECEIVED_BYTES_MAX);
    while (next_to_tell(in) && session_send_room(in->session) >= RECEIVED_BYTES_MAX + 64) {
        g_autoptr(GByteArray) body = g_byte_array_new();
        ReceivedBody received = { .block = in->told_block, .first = in->told_page, .bytes = bytes };
        guint8 *buf;

        received.len = received_map_wire(in->received, in->region_of[in->told_block], in->told_page,
                                         bytes, RECEIVED_BYTES_MAX);
        received_body_encode(body, &received);
        buf = g_malloc(FRAME_HEADER_LEN + body->len);
        memcpy(buf + FRAME_HEADER_LEN, body->data, body->len);
        session_send(in->session, FRAME_RECEIVED, buf, body->len);
        in->told_page += (guint64)received.len * 8;
    }
}

/* ---- DISCARD ---- */

static gboolean check_discard(const MappedIncoming *in, const DiscardBody *discard, guint i,
                              GError **error)
{
    const MemoryRange *range = &discard->ranges[i];
    guint64 host = ram_blocks_host_page(in->blocks, discard->block);
    GError *cause = NULL;

    if (!ram_blocks_check_range(in->blocks, discard->block, range->start, range->length, &cause)) {
        mismatch(error, "DISCARD: %s", cause->message);
        g_error_free(cause);
        return FALSE;
    }
    if (mapped_incoming_is_ignored(in, discard->block))
        return mismatch(error, _("DISCARD: block %u is not moved"), discard->block);
    return ((range->start | range->length) & (host - 1)) == 0 ||
           mismatch(error,
                    _("DISCARD: 0x%" PRIx64 " bytes at offset 0x%" PRIx64
                      " of block %u are not made of its pages of %" PRIu64),
                    range->length, range->start, discard->block, host);
}

gboolean mapped_incoming_take_discard(MappedIncoming *in, GBytes *body, GError **error)
{
    gsize target = mapped_incoming_target(in);
    DiscardBody discard;

    if (!mapped_incoming_enter(in, MAPPED_INCOMING_EV_DISCARD, error) ||
        !discard_body_decode(body, &discard, error))
        return FALSE;
    for (guint i = 0; i < discard.n_ranges; i++) {
        const MemoryRange *range = &discard.ranges[i];

        if (!check_discard(in, &discard, i, error))
            return FALSE;
        received_map_clear(in->received, in->region_of[discard.block], range->start / target,
                           range->length / target);
    }
    return TRUE;
}

/* ---- what is missing is dropped ---- */

/* The next run of pages of the block that are missing, at most SWEEP_MAX bytes. FALSE with
 * *ret_range of length 0: there is none. */
static gboolean next_missing(MappedIncoming *in, MemoryRange *ret_range, GError **error)
{
    guint region = in->region_of[in->sweep_block];
    const RamBlock *b = ram_blocks_get(in->blocks, in->sweep_block);
    guint64 host = ram_blocks_host_page(in->blocks, in->sweep_block);
    gsize target = mapped_incoming_target(in);
    guint64 first = received_map_next(in->received, region, in->sweep_page, FALSE);
    guint64 end = received_map_next(in->received, region, first, TRUE);

    *ret_range = (MemoryRange){ first * target, (end - first) * target };
    if ((ret_range->start | ret_range->length) & (host - 1))
        return mismatch(error,
                        _("the page of %" PRIu64 " bytes at offset 0x%" PRIx64
                          " of memory block %u is neither here nor discarded as a whole"),
                        host, (end * target) & ~(host - 1), in->sweep_block);
    ret_range->length = MIN(ret_range->length, MAX(SWEEP_MAX, host));
    in->sweep_page = MIN((ret_range->start + ret_range->length) / target, b->length / target);
    return TRUE;
}

/* Of memory that only the client can drop. */
static gboolean ask_client(MappedIncoming *in, MemoryRange first, GError **error)
{
    g_autofree MemoryRange *ranges = g_new(MemoryRange, MEMORY_RANGES_MAX);
    guint n = 0;

    for (ranges[n++] = first; n < MEMORY_RANGES_MAX; n++) {
        if (!next_missing(in, &ranges[n], error))
            return FALSE;
        if (ranges[n].length == 0)
            break;
    }
    in->awaits = AWAITS_DISCARDED;
    in->client->ops->discard(in->client, in->region_of[in->sweep_block], ranges, n);
    return TRUE;
}

/* Always: what looks like a hole may have pages that were preallocated (fallocate()), and one that
 * is there brings no fault. *ret_cost: in bytes of SWEEP_MAX; of a hole, most often nothing has to be
 * freed. */
static gboolean drop(MappedIncoming *in, const MemoryRange *range, guint64 *ret_cost,
                     GError **error)
{
    guint region = in->region_of[in->sweep_block];
    gboolean is_hole = guest_memory_hole(in->memory, region, range->start) >= range->length;

    *ret_cost = is_hole ? range->length / SWEEP_HOLE_RATE : range->length;
    return guest_memory_discard(in->memory, region, range->start, range->length, error);
}

gboolean mapped_incoming_sweep(MappedIncoming *in, GError **error)
{
    guint64 left = SWEEP_MAX;

    while (in->sweep_block < ram_blocks_count(in->blocks) && left > 0) {
        MemoryRange range = { 0 };
        guint64 cost;

        if (!mapped_incoming_is_ignored(in, in->sweep_block) && !next_missing(in, &range, error))
            return FALSE;
        if (range.length == 0) {
            in->sweep_block++;
            in->sweep_page = 0;
            continue;
        }
        if (!guest_memory_can_discard(in->memory, in->region_of[in->sweep_block]))
            return ask_client(in, range, error);
        if (!drop(in, &range, &cost, error))
            return FALSE;
        left -= MIN(left, cost);
    }
    in->swept = in->sweep_block == ram_blocks_count(in->blocks);
    if (in->swept)
        count_missing(in);
    return TRUE;
}
