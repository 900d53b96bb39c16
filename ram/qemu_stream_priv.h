/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the stream reader. An element is read from contiguous bytes by a function that either makes
 * its event or says how many bytes it must have; it is then called again, from the start of the
 * element. So a function changes the stream only when its element is complete. */
#pragma once

#include "ram/qemu_stream.h"

#include <string.h>

typedef enum {
    STATE_BEGIN,       /* a header, or the first command of a resumed stream */
    STATE_TOP,         /* between sections */
    STATE_FOOTER,      /* after RAM's EOS: a footer, or as STATE_TOP */
    STATE_RECORDS,     /* in RAM's section */
    STATE_BLOCK_LIST,  /* after MEM_SIZE */
    STATE_PACKAGE,     /* the states from here on read pieces */
    STATE_DESCRIPTION,
    STATE_OPAQUE,
} QemuStreamState;

typedef enum {
    PARSE_MORE,   /* cursor->need bytes are needed */
    PARSE_DONE,   /* an event has been made of cursor->pos bytes */
    PARSE_BAD,    /* stream->text says why */
    PARSE_OPAQUE, /* as expected, the end of what can be read */
} ParseResult;

struct QemuStream {
    RamBlocks *blocks;
    QemuStreamState state;
    gboolean preempt;
    gboolean resumed;

    /* What has been seen. */
    gboolean after_header; /* just now: the configuration may follow */
    gboolean postcopy;     /* the package has begun, or the stream is resumed */
    gboolean running;      /* resumed: POSTCOPY_RESUME has been read */
    gboolean ram_known, ram_ended;
    gboolean eof;
    guint32 ram_id;
    QemuSectionKind kind; /* of the section under way */

    /* What decides how the block list is written. */
    gboolean ignore_shared;
    guint64 page_sizes; /* of ADVISE: the sizes of all blocks, or-ed. 0: not told */
    guint64 list_left;  /* bytes of RAM whose blocks are still to come */

    gboolean have_block; /* of the last page record, for CONTINUE */
    guint last_block;

    guint64 piece_left; /* of the package or the description */
    guint64 emitted;    /* raw bytes of all events so far: where this element begins */

    guint8 *held; /* QEMU_STREAM_HELD_MAX bytes */
    gsize held_len;
    gsize held_used; /* of these the last event's raw bytes: gone with the next call */
    gsize need;      /* what the element in held has asked for */

    char machine[256];
    char *text;
};

typedef struct {
    const guint8 *bytes; /* from the start of the element */
    gsize len;
    gsize pos; /* bytes that have been looked at and belong to the element */
    gsize need;
} Cursor;

/* n more bytes without taking them. FALSE: they are not there yet. */
static inline gboolean cursor_peek(Cursor *c, gsize n, const guint8 **ret)
{
    if (c->len - c->pos < n) {
        c->need = c->pos + n;
        return FALSE;
    }
    *ret = c->bytes + c->pos;
    return TRUE;
}

static inline gboolean cursor_take(Cursor *c, gsize n, const guint8 **ret)
{
    if (!cursor_peek(c, n, ret))
        return FALSE;
    c->pos += n;
    return TRUE;
}

static inline guint16 load_be16(const guint8 *p)
{
    guint16 v;

    memcpy(&v, p, sizeof v);
    return GUINT16_FROM_BE(v);
}

static inline guint32 load_be32(const guint8 *p)
{
    guint32 v;

    memcpy(&v, p, sizeof v);
    return GUINT32_FROM_BE(v);
}

static inline guint64 load_be64(const guint8 *p)
{
    guint64 v;

    memcpy(&v, p, sizeof v);
    return GUINT64_FROM_BE(v);
}

static inline gboolean cursor_take_u8(Cursor *c, guint8 *ret)
{
    const guint8 *p;

    if (!cursor_take(c, 1, &p))
        return FALSE;
    *ret = p[0];
    return TRUE;
}

static inline gboolean cursor_take_u32(Cursor *c, guint32 *ret)
{
    const guint8 *p;

    if (!cursor_take(c, 4, &p))
        return FALSE;
    *ret = load_be32(p);
    return TRUE;
}

static inline gboolean cursor_take_u64(Cursor *c, guint64 *ret)
{
    const guint8 *p;

    if (!cursor_take(c, 8, &p))
        return FALSE;
    *ret = load_be64(p);
    return TRUE;
}

/* A name: a byte that says how long it is, and as many bytes. */
static inline gboolean cursor_take_name(Cursor *c, const guint8 **ret_name, guint8 *ret_len)
{
    return cursor_take_u8(c, ret_len) && cursor_take(c, *ret_len, ret_name);
}

static inline gboolean name_is(const guint8 *name, gsize len, const char *text)
{
    return len == strlen(text) && memcmp(name, text, len) == 0;
}

/* Says what is wrong, with the position; for `return`. */
ParseResult qemu_stream_bad(QemuStream *s, const char *format, ...)
    G_GNUC_PRINTF(2, 3);
/* The same with an error's text, which is freed. */
ParseResult qemu_stream_bad_error(QemuStream *s, GError *error);

/* qemu_stream_config.c: after the type byte, which is in the cursor. */
ParseResult qemu_stream_parse_configuration(QemuStream *s, Cursor *c, QemuEvent *ev);
/* qemu_stream_command.c: the same. */
ParseResult qemu_stream_parse_command(QemuStream *s, Cursor *c, QemuEvent *ev);
/* qemu_stream_section.c: anything between sections. */
ParseResult qemu_stream_parse_begin(QemuStream *s, Cursor *c, QemuEvent *ev);
ParseResult qemu_stream_parse_top(QemuStream *s, Cursor *c, QemuEvent *ev);
/* qemu_stream_ram.c: a record of RAM's section; an entry of the list of blocks. */
ParseResult qemu_stream_parse_record(QemuStream *s, Cursor *c, QemuEvent *ev);
ParseResult qemu_stream_parse_block(QemuStream *s, Cursor *c, QemuEvent *ev);
