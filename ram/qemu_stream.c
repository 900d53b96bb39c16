/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes in, raw bytes out: what is held back of an element, and what passes in pieces. */
#include "config.h"

#include "ram/qemu_stream.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "ram/qemu_stream_priv.h"

static const char *const event_names[QEMU_EV_MAX] = {
    [QEMU_EV_MORE] = "MORE",
    [QEMU_EV_HEADER] = "HEADER",
    [QEMU_EV_CONFIGURATION] = "CONFIGURATION",
    [QEMU_EV_SECTION] = "SECTION",
    [QEMU_EV_MEM_SIZE] = "MEM_SIZE",
    [QEMU_EV_BLOCK] = "BLOCK",
    [QEMU_EV_PAGE] = "PAGE",
    [QEMU_EV_RECORD] = "RECORD",
    [QEMU_EV_EOS] = "EOS",
    [QEMU_EV_FOOTER] = "FOOTER",
    [QEMU_EV_COMMAND] = "COMMAND",
    [QEMU_EV_PACKAGE_DATA] = "PACKAGE_DATA",
    [QEMU_EV_EOF] = "EOF",
    [QEMU_EV_DESCRIPTION] = "DESCRIPTION",
    [QEMU_EV_OPAQUE] = "OPAQUE",
    [QEMU_EV_UNKNOWN] = "UNKNOWN",
};

const char *qemu_event_name(QemuEventType type)
{
    return (guint)type < QEMU_EV_MAX ? event_names[type] : "unknown";
}

QemuStream *qemu_stream_new(RamBlocks *blocks)
{
    QemuStream *s = g_new0(QemuStream, 1);

    s->blocks = blocks;
    s->held = g_malloc(QEMU_STREAM_HELD_MAX);
    return s;
}

QemuStream *qemu_stream_new_preempt(RamBlocks *blocks)
{
    QemuStream *s = qemu_stream_new(blocks);

    s->preempt = s->postcopy = TRUE;
    s->kind = QEMU_SECTION_PART;
    s->state = STATE_RECORDS;
    return s;
}

void qemu_stream_free(QemuStream *s)
{
    if (!s)
        return;
    g_free(s->held);
    g_free(s->text);
    g_free(s);
}

ParseResult qemu_stream_bad(QemuStream *s, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_free(s->text);
    s->text = g_strdup_printf(_("migration stream, element at byte %" PRIu64 ": %s"),
                              s->emitted, what);
    return PARSE_BAD;
}

ParseResult qemu_stream_bad_error(QemuStream *s, GError *error)
{
    g_autoptr(GError) owned = error;

    return qemu_stream_bad(s, "%s", owned->message);
}

static ParseResult parse(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    switch (s->state) {
    case STATE_RECORDS:
        return qemu_stream_parse_record(s, c, ev);
    case STATE_BLOCK_LIST:
        return qemu_stream_parse_block(s, c, ev);
    case STATE_BEGIN:
        return qemu_stream_parse_begin(s, c, ev);
    case STATE_TOP:
    case STATE_FOOTER:
        return qemu_stream_parse_top(s, c, ev);
    case STATE_PACKAGE:
    case STATE_DESCRIPTION:
    case STATE_OPAQUE:
        break;
    }
    g_assert_not_reached();
}

static void set_raw(QemuStream *s, QemuEvent *ev, const guint8 *raw, gsize len)
{
    ev->raw = raw;
    ev->raw_len = len;
    s->emitted += len;
}

static gsize set_more(QemuEvent *ev, gsize taken)
{
    ev->type = QEMU_EV_MORE;
    ev->raw = NULL;
    ev->raw_len = 0;
    return taken;
}

/* An element has been parsed, or cannot be. */
static void finish(QemuStream *s, const Cursor *c, ParseResult result, QemuEvent *ev)
{
    if (result != PARSE_DONE) {
        s->state = STATE_OPAQUE;
        ev->type = result == PARSE_BAD ? QEMU_EV_UNKNOWN : QEMU_EV_OPAQUE;
        ev->text = s->text;
    }
    s->need = 0;
    set_raw(s, ev, c->bytes, c->pos);
}

static gsize read_direct(QemuStream *s, const guint8 *bytes, gsize len, QemuEvent *ev)
{
    Cursor c = { bytes, len, 0, 0 };
    ParseResult result = parse(s, &c, ev);

    if (G_LIKELY(result != PARSE_MORE)) {
        finish(s, &c, result, ev);
        return c.pos;
    }
    g_assert(c.need > len && c.need <= QEMU_STREAM_HELD_MAX);
    memcpy(s->held, bytes, len);
    s->held_len = len;
    s->need = c.need;
    return set_more(ev, len);
}

/* The element began in an earlier input: it is completed in the buffer, with no byte more than it
 * has asked for. */
static gsize read_held(QemuStream *s, const guint8 *bytes, gsize len, QemuEvent *ev)
{
    gsize taken = 0;

    for (;;) {
        gsize n = s->need > s->held_len ? MIN(s->need - s->held_len, len - taken) : 0;
        Cursor c = { s->held, s->held_len + n, 0, 0 };
        ParseResult result;

        if (n > 0)
            memcpy(s->held + s->held_len, bytes + taken, n);
        s->held_len += n;
        taken += n;
        if (s->held_len < s->need)
            return set_more(ev, taken);
        result = parse(s, &c, ev);
        if (result != PARSE_MORE) {
            /* Bytes that were only looked at go back to the input as far as they are from there. */
            gsize back = MIN(s->held_len - c.pos, taken);

            s->held_len -= back;
            s->held_used = c.pos;
            finish(s, &c, result, ev);
            return taken - back;
        }
        g_assert(c.need > s->held_len && c.need <= QEMU_STREAM_HELD_MAX);
        s->need = c.need;
    }
}

/* Passes on what is there, up to the end of the package or of the description. */
static gsize read_piece(QemuStream *s, const guint8 *bytes, gsize len, QemuEvent *ev)
{
    static const QemuEventType types[] = {
        [STATE_PACKAGE] = QEMU_EV_PACKAGE_DATA,
        [STATE_DESCRIPTION] = QEMU_EV_DESCRIPTION,
        [STATE_OPAQUE] = QEMU_EV_OPAQUE,
    };
    gboolean held = s->held_len > 0;
    const guint8 *from = held ? s->held : bytes;
    gsize n = held ? s->held_len : len;

    if (n == 0)
        return set_more(ev, 0);
    ev->type = types[s->state];
    if (s->state != STATE_OPAQUE) {
        n = MIN(n, s->piece_left);
        s->piece_left -= n;
        ev->last = s->piece_left == 0;
        if (ev->last)
            s->state = STATE_TOP;
    }
    set_raw(s, ev, from, n);
    if (held)
        s->held_used = n;
    return held ? 0 : n;
}

gsize qemu_stream_read(QemuStream *s, const guint8 *bytes, gsize len, QemuEvent *ev)
{
    if (s->held_used > 0) {
        s->held_len -= s->held_used;
        memmove(s->held, s->held + s->held_used, s->held_len);
        s->held_used = 0;
    }
    if (s->state >= STATE_PACKAGE)
        return read_piece(s, bytes, len, ev);
    if (s->held_len > 0)
        return read_held(s, bytes, len, ev);
    return len > 0 ? read_direct(s, bytes, len, ev) : set_more(ev, 0);
}

gsize qemu_stream_held(const QemuStream *s, const guint8 **ret_bytes)
{
    *ret_bytes = s->held + s->held_used;
    return s->held_len - s->held_used;
}

gboolean qemu_stream_is_resumed(const QemuStream *s)
{
    return s->resumed;
}

gboolean qemu_stream_is_opaque(const QemuStream *s)
{
    return s->state == STATE_OPAQUE;
}

gboolean qemu_stream_ram_section(const QemuStream *s, guint32 *ret_id)
{
    if (s->ram_known)
        *ret_id = s->ram_id;
    return s->ram_known;
}

guint64 qemu_stream_position(const QemuStream *s)
{
    return s->emitted + s->held_len - s->held_used;
}
