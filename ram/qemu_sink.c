/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/qemu_sink.h"

#include <string.h>

#include "ram/qemu_write.h"

/* A piece of output: bytes of ours (heads, copied) or of somebody else's (pages, borrowed). */
typedef struct {
    gsize head; /* where ours begin in heads */
    gsize head_len;
    const guint8 *data;
    gsize data_len;
} Piece;

struct QemuSink {
    RamSink base;
    const RamBlocks *blocks;
    gboolean sections;
    guint32 section;
    gboolean in_section; /* its head is written, its end is not */
    gboolean has_last;   /* the block of the last record: CONTINUE may refer to it */
    guint last_block;

    GByteArray *heads;
    Piece pieces[QEMU_SINK_PAGES + 1];
    guint n_pieces;
    guint n_pages;
    guint piece;     /* being written */
    gsize piece_done;
};

static QemuSink *sink_of(const RamSink *base)
{
    return (QemuSink *)base;
}

/* ---- as a RAM sink ---- */

static guint sink_room(const RamSink *base)
{
    return QEMU_SINK_PAGES - sink_of(base)->n_pages;
}

static gboolean sink_is_empty(const RamSink *base)
{
    return qemu_sink_is_idle(sink_of(base));
}

static Piece *add_piece(QemuSink *sink, const guint8 *data, gsize len)
{
    Piece *piece = &sink->pieces[sink->n_pieces++];

    *piece = (Piece){ .head = sink->heads->len, .data = data, .data_len = len };
    return piece;
}

static void end_piece(QemuSink *sink, Piece *piece)
{
    piece->head_len = sink->heads->len - piece->head;
}

static void sink_place(RamSink *base, const QemuPage *page)
{
    QemuSink *sink = sink_of(base);
    Piece *piece = add_piece(sink, page->data, page->data_len);
    gboolean same = sink->has_last && sink->last_block == page->block;

    if (sink->sections && !sink->in_section) {
        qemu_put_section(sink->heads, QEMU_SECTION_PART, sink->section);
        sink->in_section = TRUE;
    }
    qemu_put_page(sink->heads, page, same ? NULL : ram_blocks_get(sink->blocks, page->block));
    end_piece(sink, piece);
    sink->has_last = TRUE;
    sink->last_block = page->block;
    sink->n_pages++;
}

static const RamSinkOps ops = { sink_room, sink_place, sink_is_empty, NULL };

/* ---- life ---- */

QemuSink *qemu_sink_new(const RamBlocks *blocks, gboolean sections)
{
    QemuSink *sink = g_new0(QemuSink, 1);

    sink->base.ops = &ops;
    sink->blocks = blocks;
    sink->sections = sections;
    sink->heads = g_byte_array_new();
    return sink;
}

void qemu_sink_free(QemuSink *sink)
{
    if (!sink)
        return;
    g_byte_array_unref(sink->heads);
    g_free(sink);
}

RamSink *qemu_sink_base(QemuSink *sink)
{
    return &sink->base;
}

void qemu_sink_set_section(QemuSink *sink, guint32 id)
{
    sink->section = id;
}

/* ---- other bytes ---- */

static void end_section(QemuSink *sink)
{
    if (!sink->in_section)
        return;
    qemu_put_eos(sink->heads);
    qemu_put_footer(sink->heads, sink->section);
    sink->in_section = FALSE;
}

void qemu_sink_put(QemuSink *sink, const guint8 *bytes, gsize len)
{
    Piece *piece = add_piece(sink, bytes, len);

    end_section(sink);
    end_piece(sink, piece);
    /* It may hold records of its own. */
    sink->has_last = FALSE;
}

void qemu_sink_put_ram_end(QemuSink *sink)
{
    Piece *piece = add_piece(sink, NULL, 0);

    end_section(sink);
    qemu_put_section(sink->heads, QEMU_SECTION_END, sink->section);
    qemu_put_eos(sink->heads);
    qemu_put_footer(sink->heads, sink->section);
    end_piece(sink, piece);
}

void qemu_sink_put_eos(QemuSink *sink)
{
    Piece *piece = add_piece(sink, NULL, 0);

    qemu_put_eos(sink->heads);
    end_piece(sink, piece);
}

/* ---- writing ---- */

gboolean qemu_sink_is_idle(const QemuSink *sink)
{
    return sink->n_pieces == 0;
}

static guint add_iov(struct iovec *iov, guint n, const guint8 *bytes, gsize len, gsize *skip)
{
    gsize left_out = MIN(*skip, len);

    *skip -= left_out;
    if (len == left_out)
        return n;
    iov[n] = (struct iovec){ (guint8 *)bytes + left_out, len - left_out };
    return n + 1;
}

guint qemu_sink_output(const QemuSink *sink, struct iovec ret_iov[QEMU_SINK_IOV_MAX])
{
    gsize skip = sink->piece_done;
    guint n = 0;

    for (guint i = sink->piece; i < sink->n_pieces; i++) {
        const Piece *piece = &sink->pieces[i];

        if (piece->head_len > 0)
            n = add_iov(ret_iov, n, sink->heads->data + piece->head, piece->head_len, &skip);
        n = add_iov(ret_iov, n, piece->data, piece->data_len, &skip);
    }
    return n;
}

void qemu_sink_written(QemuSink *sink, gsize len)
{
    sink->piece_done += len;
    while (sink->piece < sink->n_pieces) {
        const Piece *piece = &sink->pieces[sink->piece];
        gsize size = piece->head_len + piece->data_len;

        if (sink->piece_done < size)
            return;
        sink->piece_done -= size;
        sink->piece++;
    }
    sink->n_pieces = sink->n_pages = sink->piece = 0;
    sink->piece_done = 0;
    g_byte_array_set_size(sink->heads, 0);
}
