/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/qemu_write.h"

#include <string.h>

#include "util/bytes.h"

#define FILE_MAGIC 0x5145564d /* "QEVM" */
#define FILE_VERSION 3
#define MARK_CONFIGURATION 0x07
#define MARK_COMMAND 0x08
#define MARK_FOOTER 0x7e
#define RAM_SECTION_NAME "ram"
#define RAM_SECTION_VERSION 4
#define BITMAP_MARK G_GUINT64_CONSTANT(0x0123456789abcdef)

/* -- the stream ---------------------------------------------------------------------------- */

static void put_name(GByteArray *out, const char *name)
{
    gsize len = strlen(name);

    g_assert(len <= RAM_BLOCK_NAME_MAX);
    bytes_put_u8(out, len);
    g_byte_array_append(out, (const guint8 *)name, len);
}

void qemu_put_section(GByteArray *out, QemuSectionKind part_or_end, guint32 id)
{
    g_assert(part_or_end == QEMU_SECTION_PART || part_or_end == QEMU_SECTION_END);
    bytes_put_u8(out, part_or_end);
    bytes_put_u32(out, id);
}

void qemu_put_eos(GByteArray *out)
{
    bytes_put_u64(out, QEMU_RAM_EOS);
}

void qemu_put_footer(GByteArray *out, guint32 id)
{
    bytes_put_u8(out, MARK_FOOTER);
    bytes_put_u32(out, id);
}

void qemu_put_page(GByteArray *out, const QemuPage *page, const RamBlock *block)
{
    static const guint16 flags[QEMU_PAGE_KIND_MAX] = {
        [QEMU_PAGE_RAW] = QEMU_RAM_PAGE,
        [QEMU_PAGE_ZERO] = QEMU_RAM_ZERO,
        [QEMU_PAGE_XBZRLE] = QEMU_RAM_XBZRLE,
        [QEMU_PAGE_COMPRESSED] = QEMU_RAM_COMPRESS_PAGE,
    };

    g_assert(page->kind < QEMU_PAGE_KIND_MAX);
    bytes_put_u64(out, page->offset | flags[page->kind] | (block ? 0 : QEMU_RAM_CONTINUE));
    if (block)
        put_name(out, block->name);
    switch (page->kind) {
    case QEMU_PAGE_ZERO:
        bytes_put_u8(out, page->fill);
        break;
    case QEMU_PAGE_XBZRLE:
        g_assert(page->data_len <= G_MAXUINT16);
        bytes_put_u8(out, 1); /* the only encoding there is */
        bytes_put_u16(out, page->data_len);
        break;
    case QEMU_PAGE_COMPRESSED:
        g_assert(page->data_len <= G_MAXUINT32);
        bytes_put_u32(out, page->data_len);
        break;
    case QEMU_PAGE_RAW:
    case QEMU_PAGE_KIND_MAX:
        break;
    }
}

void qemu_put_header(GByteArray *out, const char *machine)
{
    gsize len = strlen(machine);

    bytes_put_u32(out, FILE_MAGIC);
    bytes_put_u32(out, FILE_VERSION);
    bytes_put_u8(out, MARK_CONFIGURATION);
    bytes_put_u32(out, len);
    g_byte_array_append(out, (const guint8 *)machine, len);
}

void qemu_put_command(GByteArray *out, QemuCommand command, const guint8 *payload, gsize len)
{
    g_assert(len <= G_MAXUINT16);
    bytes_put_u8(out, MARK_COMMAND);
    bytes_put_u16(out, command);
    bytes_put_u16(out, len);
    if (len > 0)
        g_byte_array_append(out, payload, len);
}

void qemu_put_ram_setup(GByteArray *out, guint32 id, const RamBlocks *blocks,
                        gboolean with_page_size)
{
    guint64 total = 0;

    for (guint i = 0; i < ram_blocks_count(blocks); i++)
        total += ram_blocks_get(blocks, i)->length;
    bytes_put_u8(out, QEMU_SECTION_START);
    bytes_put_u32(out, id);
    put_name(out, RAM_SECTION_NAME);
    bytes_put_u32(out, 0); /* instance */
    bytes_put_u32(out, RAM_SECTION_VERSION);
    bytes_put_u64(out, total | QEMU_RAM_MEM_SIZE);
    for (guint i = 0; i < ram_blocks_count(blocks); i++) {
        const RamBlock *block = ram_blocks_get(blocks, i);

        put_name(out, block->name);
        bytes_put_u64(out, block->length);
        /* QEMU leaves it out for pages of the usual size; so the list does not describe itself. */
        if (with_page_size && block->page_size > ram_blocks_target_page(blocks))
            bytes_put_u64(out, block->page_size);
    }
    qemu_put_eos(out);
    qemu_put_footer(out, id);
}

/* -- the return path ----------------------------------------------------------------------- */

static void put_message(GByteArray *out, QemuReturnType type, gsize len)
{
    bytes_put_u16(out, type);
    bytes_put_u16(out, len);
}

static void put_value(GByteArray *out, QemuReturnType type, guint32 value)
{
    put_message(out, type, sizeof value);
    bytes_put_u32(out, value);
}

void qemu_put_req_pages(GByteArray *out, const RamBlock *block, guint64 start, guint32 length)
{
    gsize fixed = sizeof start + sizeof length;

    if (block)
        put_message(out, QEMU_RP_REQ_PAGES_ID, fixed + 1 + strlen(block->name));
    else
        put_message(out, QEMU_RP_REQ_PAGES, fixed);
    bytes_put_u64(out, start);
    bytes_put_u32(out, length);
    if (block)
        put_name(out, block->name);
}

void qemu_put_shut(GByteArray *out, guint32 value)
{
    put_value(out, QEMU_RP_SHUT, value);
}

void qemu_put_pong(GByteArray *out, guint32 value)
{
    put_value(out, QEMU_RP_PONG, value);
}

void qemu_put_resume_ack(GByteArray *out, guint32 value)
{
    put_value(out, QEMU_RP_RESUME_ACK, value);
}

void qemu_put_recv_bitmap(GByteArray *out, const RamBlock *block, const guint8 *bits, gsize n_pages)
{
    static const guint8 nothing[8];
    gsize whole = n_pages / 8, rest = n_pages % 8, len = (n_pages + 63) / 64 * 8;

    put_message(out, QEMU_RP_RECV_BITMAP, 1 + strlen(block->name));
    put_name(out, block->name);
    bytes_put_u64(out, len);
    if (whole > 0)
        g_byte_array_append(out, bits, whole);
    if (rest > 0)
        bytes_put_u8(out, bits[whole] & ((1u << rest) - 1)); /* no pages behind the last one */
    g_byte_array_append(out, nothing, len - whole - (rest > 0));
    bytes_put_u64(out, BITMAP_MARK);
}
