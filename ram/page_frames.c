/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The small bodies: BLOCKS, PHASE, RAM_END, REQUEST, QEMU_CHANNEL. */
#include "config.h"

#include "ram/page_frames.h"

#include <glib/gi18n.h>
#include <string.h>

#include "ram/page_frames_priv.h"
#include "util/bytes.h"

#define BLOCKS_HEAD_LEN 10
#define BLOCK_HEAD_LEN 17
#define BLOCK_FLAGS_LEN 4

static ByteReader body_reader(GBytes *body)
{
    return byte_reader(g_bytes_get_data(body, NULL), g_bytes_get_size(body));
}

/* ---- errors ---- */

gboolean ram_bad_field(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(RAM_ERROR, RAM_ERROR_PROTOCOL, format, args);
    va_end(args);
    return FALSE;
}

gboolean ram_bad_body(GError **error, const char *frame, GError *cause)
{
    ram_bad_field(error, "%s: %s", frame, cause->message);
    g_error_free(cause);
    return FALSE;
}

/* ---- BLOCKS ---- */

static gsize blocks_body_len(const RamBlocks *blocks, gboolean with_flags)
{
    gsize more = with_flags ? BLOCK_FLAGS_LEN : 0;
    gsize len = BLOCKS_HEAD_LEN;

    for (guint i = 0; i < ram_blocks_count(blocks); i++)
        len += BLOCK_HEAD_LEN + strlen(ram_blocks_get(blocks, i)->name) + more;
    return len;
}

gboolean ram_blocks_encode(GByteArray *body, const RamBlocks *blocks, guint32 word,
                           const guint32 *flags, gsize max)
{
    if (blocks_body_len(blocks, flags != NULL) > max)
        return FALSE;

    bytes_put_u32(body, word);
    bytes_put_u32(body, ram_blocks_target_page(blocks));
    bytes_put_u16(body, ram_blocks_count(blocks));
    for (guint i = 0; i < ram_blocks_count(blocks); i++) {
        const RamBlock *block = ram_blocks_get(blocks, i);
        gsize name_len = strlen(block->name);

        bytes_put_u64(body, block->length);
        bytes_put_u64(body, block->page_size);
        bytes_put_u8(body, name_len);
        g_byte_array_append(body, (const guint8 *)block->name, name_len);
        if (flags)
            bytes_put_u32(body, flags[i]);
    }
    return TRUE;
}

gboolean blocks_body_encode(GByteArray *body, const RamBlocks *blocks, guint32 section, gsize max)
{
    return ram_blocks_encode(body, blocks, section, NULL, max);
}

/* index: what the block must become, so that both helpers count alike. */
static gboolean take_block(ByteReader *r, RamBlocks *blocks, guint index, GError **error)
{
    guint64 length, page_size;
    const guint8 *name;
    guint8 name_len;
    guint added;

    if (!byte_reader_take_u64(r, "block length", &length, error) ||
        !byte_reader_take_u64(r, "block host page", &page_size, error) ||
        !byte_reader_take_u8(r, "block name length", &name_len, error) ||
        !byte_reader_take(r, "block name", name_len, &name, error) ||
        !ram_blocks_add(blocks, name, name_len, length, page_size, &added, error))
        return FALSE;
    return added == index ||
           ram_bad_field(error, _("block %u has the name of block %u"), index, added);
}

static gboolean take_flags(ByteReader *r, GArray *flags, GError **error)
{
    guint32 word;

    if (!byte_reader_take_u32(r, "block flags", &word, error))
        return FALSE;
    g_array_append_val(flags, word);
    return TRUE;
}

static gboolean take_blocks(ByteReader *r, RamBlocks *blocks, guint32 *ret_section, GArray *flags,
                            GError **error)
{
    guint32 target_page;
    guint16 count;

    if (!byte_reader_take_u32(r, "section", ret_section, error) ||
        !byte_reader_take_u32(r, "target page", &target_page, error) ||
        !byte_reader_take_u16(r, "number of blocks", &count, error) ||
        !ram_blocks_set_target_page(blocks, target_page, error))
        return FALSE;
    if (count > RAM_BLOCKS_MAX)
        return ram_bad_field(error, _("number of blocks %u is out of range (0 to %d)"), count,
                             RAM_BLOCKS_MAX);
    for (guint i = 0; i < count; i++) {
        if (!take_block(r, blocks, i, error) || (flags && !take_flags(r, flags, error))) {
            g_prefix_error(error, _("block %u: "), i);
            return FALSE;
        }
    }
    return byte_reader_end(r, "the last block", error);
}

gboolean ram_blocks_decode(GBytes *body, RamBlocks *blocks, guint32 *ret_word, GArray *flags,
                           GError **error)
{
    ByteReader r = body_reader(body);
    GError *cause = NULL;

    g_return_val_if_fail(ram_blocks_count(blocks) == 0, FALSE);
    return take_blocks(&r, blocks, ret_word, flags, &cause) || ram_bad_body(error, "BLOCKS", cause);
}

gboolean blocks_body_decode(GBytes *body, RamBlocks *blocks, guint32 *ret_section, GError **error)
{
    return ram_blocks_decode(body, blocks, ret_section, NULL, error);
}

/* ---- PHASE and QEMU_CHANNEL: one byte ---- */

static gboolean decode_choice(GBytes *body, const char *frame, guint max, guint *ret_choice,
                              GError **error)
{
    ByteReader r = body_reader(body);
    GError *cause = NULL;
    guint8 choice;

    if (!byte_reader_take_u8(&r, "value", &choice, &cause) ||
        !byte_reader_end(&r, "value", &cause))
        return ram_bad_body(error, frame, cause);
    if (choice < 1 || choice >= max)
        return ram_bad_field(error, _("%s: value %u is out of range (1 to %u)"), frame, choice,
                             max - 1);
    *ret_choice = choice;
    return TRUE;
}

void phase_body_encode(GByteArray *body, RamPhase phase)
{
    bytes_put_u8(body, phase);
}

gboolean phase_body_decode(GBytes *body, RamPhase *ret_phase, GError **error)
{
    guint choice;

    if (!decode_choice(body, "PHASE", RAM_PHASE_MAX, &choice, error))
        return FALSE;
    *ret_phase = choice;
    return TRUE;
}

void qemu_channel_body_encode(GByteArray *body, QemuChannelEvent event)
{
    bytes_put_u8(body, event);
}

gboolean qemu_channel_body_decode(GBytes *body, QemuChannelEvent *ret_event, GError **error)
{
    guint choice;

    if (!decode_choice(body, "QEMU_CHANNEL", QEMU_CHANNEL_EVENT_MAX, &choice, error))
        return FALSE;
    *ret_event = choice;
    return TRUE;
}

/* ---- RAM_END ---- */

void ram_end_body_encode(GByteArray *body, const RamEnd *end)
{
    bytes_put_u64(body, end->pages);
    bytes_put_u64(body, end->preempt_seq);
    for (guint i = 0; i < end->n_bulk; i++)
        bytes_put_u64(body, end->bulk_seq[i]);
}

gboolean ram_end_body_decode(GBytes *body, RamEnd *ret_end, GError **error)
{
    ByteReader r = body_reader(body);
    RamEnd end = { 0 };
    GError *cause = NULL;

    if (!byte_reader_take_u64(&r, "number of pages", &end.pages, &cause) ||
        !byte_reader_take_u64(&r, "preempt sequence", &end.preempt_seq, &cause))
        return ram_bad_body(error, "RAM_END", cause);
    while (r.len > 0 && end.n_bulk < CHANNEL_BULK_MAX) {
        if (!byte_reader_take_u64(&r, "bulk sequence", &end.bulk_seq[end.n_bulk++], &cause))
            return ram_bad_body(error, "RAM_END", cause);
    }
    if (!byte_reader_end(&r, "bulk sequence", &cause))
        return ram_bad_body(error, "RAM_END", cause);
    *ret_end = end;
    return TRUE;
}

/* ---- REQUEST ---- */

void request_body_encode(GByteArray *body, const PageRequest *request)
{
    bytes_put_u16(body, request->block);
    bytes_put_u16(body, 0);
    bytes_put_u32(body, request->length);
    bytes_put_u64(body, request->start);
}

gboolean request_body_decode(GBytes *body, PageRequest *ret_request, GError **error)
{
    ByteReader r = body_reader(body);
    GError *cause = NULL;
    guint16 block, reserved;

    if (!byte_reader_take_u16(&r, "block", &block, &cause) ||
        !byte_reader_take_u16(&r, "reserved field", &reserved, &cause) ||
        !byte_reader_take_u32(&r, "length", &ret_request->length, &cause) ||
        !byte_reader_take_u64(&r, "start", &ret_request->start, &cause) ||
        !byte_reader_end(&r, "start", &cause))
        return ram_bad_body(error, "REQUEST", cause);
    if (reserved != 0)
        return ram_bad_field(error, _("REQUEST: reserved field is 0x%04x, must be 0"), reserved);
    if (ret_request->length == 0)
        return ram_bad_field(error, _("REQUEST: length is 0"));
    ret_request->block = block;
    return TRUE;
}
