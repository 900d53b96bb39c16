/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/frames.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "ram/page_frames_priv.h"
#include "util/bytes.h"

static ByteReader body_reader(GBytes *body)
{
    return byte_reader(g_bytes_get_data(body, NULL), g_bytes_get_size(body));
}

/* ---- BLOCKS ---- */

gboolean mapped_blocks_body_encode(GByteArray *body, const RamBlocks *blocks, const guint32 *flags,
                                   MappedBeginning beginning, gsize max)
{
    return ram_blocks_encode(body, blocks, beginning, flags, max);
}

static gboolean check_flags(const RamBlocks *blocks, const GArray *flags, GError **error)
{
    for (guint i = 0; i < ram_blocks_count(blocks); i++) {
        guint32 word = g_array_index(flags, guint32, flags->len - ram_blocks_count(blocks) + i);

        if (word & ~(guint32)MEMORY_FLAGS_ALL)
            return ram_bad_field(error, _("BLOCKS: flags of block %u are 0x%x, known are 0x%x"), i,
                                 word, MEMORY_FLAGS_ALL);
        /* Nothing here could be agreed on about it later. */
        if (ram_blocks_get(blocks, i)->length == 0)
            return ram_bad_field(error, _("BLOCKS: block %u has no length"), i);
    }
    return TRUE;
}

gboolean mapped_blocks_body_decode(GBytes *body, RamBlocks *blocks, GArray *flags,
                                   MappedBeginning *ret_beginning, GError **error)
{
    guint32 beginning;

    if (!ram_blocks_decode(body, blocks, &beginning, flags, error))
        return FALSE;
    if ((beginning & ~(guint32)MAPPED_RELEASES) >= MAPPED_BEGINNING_MAX)
        return ram_bad_field(error, _("BLOCKS: beginning %u is out of range (0 to %d)"),
                             beginning & ~(guint32)MAPPED_RELEASES, MAPPED_BEGINNING_MAX - 1);
    if (!check_flags(blocks, flags, error))
        return FALSE;
    *ret_beginning = (MappedBeginning)beginning;
    return TRUE;
}

/* ---- PHASE ---- */

const char *mapped_phase_name(MappedPhase phase)
{
    static const char *const names[MAPPED_PHASE_MAX] = {
        [MAPPED_PHASE_ADVISE] = "advise",         [MAPPED_PHASE_DISCARD] = "discard",
        [MAPPED_PHASE_RUNNING] = "running",       [MAPPED_PHASE_CHECKPOINT] = "checkpoint",
        [MAPPED_PHASE_COMMIT] = "commit",         [MAPPED_PHASE_FAILOVER] = "failover",
        [MAPPED_PHASE_LISTEN] = "listen",
    };

    return phase < MAPPED_PHASE_MAX && names[phase] ? names[phase] : "invalid";
}

void mapped_phase_body_encode(GByteArray *body, MappedPhase phase)
{
    bytes_put_u8(body, phase);
}

gboolean mapped_phase_body_decode(GBytes *body, MappedPhase *ret_phase, GError **error)
{
    ByteReader r = body_reader(body);
    GError *cause = NULL;
    guint8 phase;

    if (!byte_reader_take_u8(&r, "value", &phase, &cause) || !byte_reader_end(&r, "value", &cause))
        return ram_bad_body(error, "PHASE", cause);
    if (phase < MAPPED_PHASE_ADVISE || phase >= MAPPED_PHASE_MAX)
        return ram_bad_field(error, _("%s: value %u is out of range (1 to %u)"), "PHASE", phase,
                             MAPPED_PHASE_MAX - 1);
    *ret_phase = (MappedPhase)phase;
    return TRUE;
}

/* ---- DISCARD ---- */

void discard_body_encode(GByteArray *body, const DiscardBody *discard)
{
    g_assert(discard->n_ranges >= 1 && discard->n_ranges <= DISCARD_RANGES_MAX);
    bytes_put_u16(body, discard->block);
    bytes_put_u16(body, discard->n_ranges);
    for (guint i = 0; i < discard->n_ranges; i++) {
        bytes_put_u64(body, discard->ranges[i].start);
        bytes_put_u64(body, discard->ranges[i].length);
    }
}

static gboolean take_range(ByteReader *r, MemoryRange *ret_range, GError **error)
{
    if (!byte_reader_take_u64(r, "start", &ret_range->start, error) ||
        !byte_reader_take_u64(r, "length", &ret_range->length, error))
        return FALSE;
    if (ret_range->length == 0)
        return ram_bad_field(error, _("length is 0"));
    return ret_range->start <= G_MAXUINT64 - ret_range->length ||
           ram_bad_field(error, _("range 0x%" PRIx64 " of 0x%" PRIx64 " bytes has no end"),
                         ret_range->start, ret_range->length);
}

static gboolean take_discard(ByteReader *r, DiscardBody *ret, GError **error)
{
    guint16 block, n;

    if (!byte_reader_take_u16(r, "block", &block, error) ||
        !byte_reader_take_u16(r, "number of ranges", &n, error))
        return FALSE;
    if (n < 1 || n > DISCARD_RANGES_MAX)
        return ram_bad_field(error, _("number of ranges %u is out of range (1 to %d)"), n,
                             DISCARD_RANGES_MAX);
    *ret = (DiscardBody){ .block = block, .n_ranges = n };
    for (guint i = 0; i < n; i++) {
        if (!take_range(r, &ret->ranges[i], error))
            return FALSE;
    }
    return byte_reader_end(r, "the last range", error);
}

gboolean discard_body_decode(GBytes *body, DiscardBody *ret_discard, GError **error)
{
    ByteReader r = body_reader(body);
    GError *cause = NULL;
    DiscardBody discard;

    if (!take_discard(&r, &discard, &cause))
        return ram_bad_body(error, "DISCARD", cause);
    *ret_discard = discard;
    return TRUE;
}

/* ---- RECEIVED ---- */

void received_body_encode(GByteArray *body, const ReceivedBody *received)
{
    g_assert(received->first % 8 == 0 && received->len >= 1 && received->len <= RECEIVED_BYTES_MAX);
    bytes_put_u16(body, received->block);
    bytes_put_u16(body, 0);
    bytes_put_u64(body, received->first);
    g_byte_array_append(body, received->bytes, received->len);
}

static gboolean take_received(ByteReader *r, ReceivedBody *ret, GError **error)
{
    guint16 block, reserved;

    *ret = (ReceivedBody){ 0 };
    if (!byte_reader_take_u16(r, "block", &block, error) ||
        !byte_reader_take_u16(r, "reserved field", &reserved, error) ||
        !byte_reader_take_u64(r, "first page", &ret->first, error))
        return FALSE;
    if (reserved != 0)
        return ram_bad_field(error, _("reserved field is 0x%04x, must be 0"), reserved);
    if (ret->first % 8 != 0)
        return ram_bad_field(error, _("first page %" PRIu64 " is no multiple of 8"), ret->first);
    if (r->len < 1 || r->len > RECEIVED_BYTES_MAX)
        return ram_bad_field(error, _("%zu bytes of bitmap are out of range (1 to %d)"), r->len,
                             RECEIVED_BYTES_MAX);
    ret->block = block;
    ret->bytes = r->data;
    ret->len = r->len;
    return TRUE;
}

gboolean received_body_decode(GBytes *body, ReceivedBody *ret_received, GError **error)
{
    ByteReader r = body_reader(body);
    GError *cause = NULL;
    ReceivedBody received;

    if (!take_received(&r, &received, &cause))
        return ram_bad_body(error, "RECEIVED", cause);
    *ret_received = received;
    return TRUE;
}
