/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes elements of QEMU's migration stream and of its return path. Pure: appends to a byte array.
 * Facts: docs/qemu-stream.md. */
#pragma once

#include "ram/qemu_return.h"
#include "ram/qemu_stream.h"

/* The head of a page record, at most 8 + 1 + 255 + what stands before the data. */
#define QEMU_PAGE_HEAD_MAX 272

/* PART or END of RAM: head; the records follow, then qemu_put_eos() and qemu_put_footer(). */
void qemu_put_section(GByteArray *out, QemuSectionKind part_or_end, guint32 id);
void qemu_put_eos(GByteArray *out);
void qemu_put_footer(GByteArray *out, guint32 id);

/* Head of a page record: what stands before the page's data (for ZERO it is the whole record).
 * block NULL: the same block as in the record before it (CONTINUE). */
void qemu_put_page(GByteArray *out, const QemuPage *page, const RamBlock *block);

/* REQ_PAGES_ID, or with block NULL REQ_PAGES. */
void qemu_put_req_pages(GByteArray *out, const RamBlock *block, guint64 start, guint32 length);
void qemu_put_shut(GByteArray *out, guint32 value);
void qemu_put_pong(GByteArray *out, guint32 value);
void qemu_put_resume_ack(GByteArray *out, guint32 value);
/* Whole message: head, bitmap of n_pages (bit i: LSB first in little-endian bytes), end mark. */
void qemu_put_recv_bitmap(GByteArray *out, const RamBlock *block, const guint8 *bits, gsize n_pages);

/* For tests and stand-ins of a source QEMU. */
void qemu_put_header(GByteArray *out, const char *machine);
void qemu_put_command(GByteArray *out, QemuCommand command, const guint8 *payload, gsize len);
/* RAM's START section with the list of blocks, EOS and footer. with_page_size: as a source with
 * postcopy-ram on writes it. */
void qemu_put_ram_setup(GByteArray *out, guint32 id, const RamBlocks *blocks, gboolean with_page_size);
