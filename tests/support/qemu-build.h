/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's migration stream, byte by byte: elements, and a stream of each kind. By intention another
 * text than what the helper writes with: the two should not share a mistake. */
#pragma once

#include "ram/qemu_stream.h"

#define PAGE 4096
#define MIB G_GUINT64_CONSTANT(0x100000)
#define RAM_ID 2
#define NORMAL_PAGES 0x1000
#define MIXED_PAGES 0x201000

void build_bytes(GByteArray *b, const void *bytes, gsize len);
void build_name(GByteArray *b, const char *name);
void build_header(GByteArray *b);
void build_configuration(GByteArray *b);
void build_subsection(GByteArray *b, const char *name);
void build_capability(GByteArray *b, const char *name);
void build_page_bits(GByteArray *b, guint32 bits);

void build_command(GByteArray *b, guint command, const void *payload, gsize len);
void build_ping(GByteArray *b, guint32 value);
void build_advise(GByteArray *b, guint64 sizes, guint64 target_page);
void build_discard(GByteArray *b, const char *block, guint64 start, guint64 length);
void build_recv_bitmap(GByteArray *b, const char *block);
void build_package(GByteArray *b, const void *bytes, guint32 len);

void build_named_section(GByteArray *b, guint8 kind, guint32 id, const char *name,
                         guint32 version);
void build_section(GByteArray *b, guint8 kind, guint32 id);
void build_footer(GByteArray *b, guint32 id);
void build_eos(GByteArray *b);
void build_end_of_section(GByteArray *b);
/* What begins RAM's START section, up to the list of blocks. */
void build_ram_start(GByteArray *b, guint64 total);
void build_block(GByteArray *b, const char *name, guint64 length);

/* Page records. The bytes of a page depend on its offset. block NULL: the same as before. */
void build_data(GByteArray *b, guint64 seed, gsize len);
void build_head(GByteArray *b, guint64 offset, guint flags, const char *block);
void build_page(GByteArray *b, guint64 offset, const char *block);
void build_zero(GByteArray *b, guint64 offset, const char *block, guint8 fill);
void build_xbzrle(GByteArray *b, guint64 offset, const char *block);
void build_compressed(GByteArray *b, guint64 offset, const char *block);

/* Up to the end of RAM's START: pc.ram of 1 MiB and pc.rom of 128 KiB. */
void build_setup(GByteArray *b);

/* Up to a list of blocks of 4 MiB + 128 KiB. page_sizes: what ADVISE tells; 0: without it. */
void build_list_head(GByteArray *b, guint64 page_sizes, gboolean ignore_shared);

GByteArray *build_precopy_stream(void);
GByteArray *build_postcopy_stream(void);
GByteArray *build_resumed_stream(void);
GByteArray *build_preempt_stream(void);
