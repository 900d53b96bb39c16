/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/qemu-build.h"

#include <string.h>

#include "util/bytes.h"

void build_bytes(GByteArray *b, const void *bytes, gsize len)
{
    g_byte_array_append(b, bytes, len);
}

void build_name(GByteArray *b, const char *name)
{
    bytes_put_u8(b, strlen(name));
    build_bytes(b, name, strlen(name));
}

void build_header(GByteArray *b)
{
    bytes_put_u32(b, 0x5145564d);
    bytes_put_u32(b, 3);
}

void build_configuration(GByteArray *b)
{
    bytes_put_u8(b, 7);
    bytes_put_u32(b, 10);
    build_bytes(b, "pc-q35-7.2", 10);
}

void build_subsection(GByteArray *b, const char *name)
{
    bytes_put_u8(b, 5);
    build_name(b, name);
    bytes_put_u32(b, 1);
}

void build_capability(GByteArray *b, const char *name)
{
    build_subsection(b, "configuration/capabilities");
    bytes_put_u32(b, 1);
    build_name(b, name);
}

void build_page_bits(GByteArray *b, guint32 bits)
{
    build_subsection(b, "configuration/target-page-bits");
    bytes_put_u32(b, bits);
}

void build_command(GByteArray *b, guint command, const void *payload, gsize len)
{
    bytes_put_u8(b, 8);
    bytes_put_u16(b, command);
    bytes_put_u16(b, len);
    build_bytes(b, payload, len);
}

void build_ping(GByteArray *b, guint32 value)
{
    guint32 be = GUINT32_TO_BE(value);

    build_command(b, QEMU_CMD_PING, &be, 4);
}

void build_advise(GByteArray *b, guint64 sizes, guint64 target_page)
{
    guint64 words[2] = { GUINT64_TO_BE(sizes), GUINT64_TO_BE(target_page) };

    build_command(b, QEMU_CMD_POSTCOPY_ADVISE, words, 16);
}

void build_discard(GByteArray *b, const char *block, guint64 start, guint64 length)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    bytes_put_u8(payload, 0);
    build_name(payload, block);
    bytes_put_u8(payload, 0);
    bytes_put_u64(payload, start);
    bytes_put_u64(payload, length);
    build_command(b, QEMU_CMD_POSTCOPY_RAM_DISCARD, payload->data, payload->len);
}

void build_recv_bitmap(GByteArray *b, const char *block)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    build_name(payload, block);
    build_command(b, QEMU_CMD_RECV_BITMAP, payload->data, payload->len);
}

void build_package(GByteArray *b, const void *bytes, guint32 len)
{
    guint32 be = GUINT32_TO_BE(len);

    build_command(b, QEMU_CMD_PACKAGED, &be, 4);
    build_bytes(b, bytes, len);
}

void build_named_section(GByteArray *b, guint8 kind, guint32 id, const char *name,
                         guint32 version)
{
    bytes_put_u8(b, kind);
    bytes_put_u32(b, id);
    build_name(b, name);
    bytes_put_u32(b, 0);
    bytes_put_u32(b, version);
}

void build_section(GByteArray *b, guint8 kind, guint32 id)
{
    bytes_put_u8(b, kind);
    bytes_put_u32(b, id);
}

void build_footer(GByteArray *b, guint32 id)
{
    bytes_put_u8(b, 0x7e);
    bytes_put_u32(b, id);
}

void build_eos(GByteArray *b)
{
    bytes_put_u64(b, QEMU_RAM_EOS);
}

void build_end_of_section(GByteArray *b)
{
    build_eos(b);
    build_footer(b, RAM_ID);
}

void build_ram_start(GByteArray *b, guint64 total)
{
    build_named_section(b, QEMU_SECTION_START, RAM_ID, "ram", 4);
    bytes_put_u64(b, total | QEMU_RAM_MEM_SIZE);
}

void build_block(GByteArray *b, const char *name, guint64 length)
{
    build_name(b, name);
    bytes_put_u64(b, length);
}

void build_data(GByteArray *b, guint64 seed, gsize len)
{
    for (gsize i = 0; i < len; i++)
        bytes_put_u8(b, (guint8)(seed / 1024 + i * 7 + i / 255));
}

void build_head(GByteArray *b, guint64 offset, guint flags, const char *block)
{
    bytes_put_u64(b, offset | flags | (block ? 0 : QEMU_RAM_CONTINUE));
    if (block)
        build_name(b, block);
}

void build_page(GByteArray *b, guint64 offset, const char *block)
{
    build_head(b, offset, QEMU_RAM_PAGE, block);
    build_data(b, offset, PAGE);
}

void build_zero(GByteArray *b, guint64 offset, const char *block, guint8 fill)
{
    build_head(b, offset, QEMU_RAM_ZERO, block);
    bytes_put_u8(b, fill);
}

void build_xbzrle(GByteArray *b, guint64 offset, const char *block)
{
    build_head(b, offset, QEMU_RAM_XBZRLE, block);
    bytes_put_u8(b, 1);
    bytes_put_u16(b, 5);
    build_bytes(b, "\x05\x03" "abc", 5);
}

void build_compressed(GByteArray *b, guint64 offset, const char *block)
{
    build_head(b, offset, QEMU_RAM_COMPRESS_PAGE, block);
    bytes_put_u32(b, 4);
    build_bytes(b, "zlib", 4);
}

void build_setup(GByteArray *b)
{
    build_header(b);
    build_configuration(b);
    build_command(b, QEMU_CMD_OPEN_RETURN_PATH, NULL, 0);
    build_ping(b, 1);
    build_advise(b, NORMAL_PAGES, PAGE);
    build_ram_start(b, MIB + 0x20000);
    build_block(b, "pc.ram", MIB);
    build_block(b, "pc.rom", 0x20000);
    build_end_of_section(b);
}

GByteArray *build_precopy_stream(void)
{
    GByteArray *b = g_byte_array_new();

    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_page(b, 0, "pc.ram");
    build_page(b, 0x1000, NULL);
    build_zero(b, 0x2000, NULL, 0);
    build_xbzrle(b, 0x1000, NULL);
    build_compressed(b, 0x1f000, "pc.rom");
    build_zero(b, 0x1e000, NULL, 3);
    bytes_put_u64(b, QEMU_RAM_MULTIFD_FLUSH);
    build_end_of_section(b);
    build_section(b, QEMU_SECTION_END, RAM_ID);
    build_zero(b, 0x3000, "pc.ram", 7);
    build_end_of_section(b);
    build_named_section(b, QEMU_SECTION_FULL, 4, "timer", 2);
    build_bytes(b, "state of any length", 19);
    build_footer(b, 4);
    bytes_put_u8(b, 0);
    return b;
}

GByteArray *build_postcopy_stream(void)
{
    GByteArray *b = g_byte_array_new();

    build_setup(b);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_page(b, 0, "pc.ram");
    build_end_of_section(b);
    build_discard(b, "pc.ram", 0, 0x2000);
    build_ping(b, 2);
    build_package(b, "\x08\x00\x04\x00\x00 devices", 13);
    build_ping(b, 4);
    build_section(b, QEMU_SECTION_PART, RAM_ID);
    build_page(b, 0x1000, NULL);
    build_end_of_section(b);
    build_section(b, QEMU_SECTION_END, RAM_ID);
    build_page(b, 0x2000, "pc.rom");
    build_end_of_section(b);
    bytes_put_u8(b, 0);
    return b;
}

GByteArray *build_resumed_stream(void)
{
    GByteArray *b = g_byte_array_new();

    build_recv_bitmap(b, "pc.ram");
    build_recv_bitmap(b, "pc.rom");
    build_command(b, QEMU_CMD_POSTCOPY_RESUME, NULL, 0);
    build_section(b, QEMU_SECTION_PART, 77);
    build_page(b, 0x5000, "pc.rom");
    build_eos(b);
    build_footer(b, 77);
    build_section(b, QEMU_SECTION_END, 77);
    build_eos(b);
    bytes_put_u8(b, 0);
    return b;
}

GByteArray *build_preempt_stream(void)
{
    GByteArray *b = g_byte_array_new();

    build_page(b, 0x4000, "pc.ram");
    build_page(b, 0x5000, NULL);
    build_zero(b, 0x1000, "pc.rom", 0);
    build_eos(b);
    build_zero(b, 0x2000, NULL, 0);
    return b;
}

void build_list_head(GByteArray *b, guint64 page_sizes, gboolean ignore_shared)
{
    build_header(b);
    build_configuration(b);
    if (ignore_shared)
        build_capability(b, "x-ignore-shared");
    if (page_sizes)
        build_advise(b, page_sizes, PAGE);
    build_ram_start(b, 4 * MIB + 0x20000);
}
