/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The return path: heads of four bytes, payloads of fixed length or with a name, and bitmaps that
 * follow outside of the length their message tells. */
#include "config.h"

#include "ram/qemu_return.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#define HEAD_LEN 4
#define REQ_PAGES_LEN 12  /* start and length */
#define BITMAP_SIZE_LEN 8 /* behind the payload of RECV_BITMAP */
#define BITMAP_MARK_LEN 8
#define BITMAP_MARK G_GUINT64_CONSTANT(0x0123456789abcdef)
/* A bit for each target page of the largest block there can be (2^56 bytes). */
#define BITMAP_MAX (G_GUINT64_CONSTANT(1) << 41)

typedef enum {
    STATE_MESSAGE,
    STATE_BITMAP_DATA,
    STATE_BITMAP_MARK,
    STATE_OPAQUE,
} State;

typedef struct {
    char bytes[RAM_BLOCK_NAME_MAX + 1];
    gsize len;
} Name;

struct QemuReturn {
    State state;
    guint64 position; /* of the element under way */
    guint8 held[HEAD_LEN + QEMU_RETURN_MESSAGE_MAX + BITMAP_SIZE_LEN];
    gsize held_len;
    gboolean release; /* what is held was given out with the last event */
    Name asked;       /* of the last request; empty: there was none */
    Name bitmap;
    guint64 bitmap_len;
    guint64 bitmap_done;
    char *text;
};

static const char *const event_names[QEMU_RETURN_MAX] = {
    [QEMU_RETURN_MORE] = "MORE",
    [QEMU_RETURN_SHUT] = "SHUT",
    [QEMU_RETURN_PONG] = "PONG",
    [QEMU_RETURN_REQ_PAGES] = "REQ_PAGES",
    [QEMU_RETURN_BITMAP] = "BITMAP",
    [QEMU_RETURN_BITMAP_DATA] = "BITMAP_DATA",
    [QEMU_RETURN_BITMAP_END] = "BITMAP_END",
    [QEMU_RETURN_RESUME_ACK] = "RESUME_ACK",
    [QEMU_RETURN_OTHER] = "OTHER",
    [QEMU_RETURN_OPAQUE] = "OPAQUE",
    [QEMU_RETURN_UNKNOWN] = "UNKNOWN",
};

const char *qemu_return_event_name(QemuReturnEventType type)
{
    return type < QEMU_RETURN_MAX ? event_names[type] : "unknown";
}

QemuReturn *qemu_return_new(void)
{
    return g_new0(QemuReturn, 1);
}

void qemu_return_free(QemuReturn *reader)
{
    if (!reader)
        return;
    g_free(reader->text);
    g_free(reader);
}

/* -- one message --------------------------------------------------------------------------- */

typedef struct {
    guint16 type;
    guint16 len; /* of the payload */
    const guint8 *payload;
} Message;

static guint32 get_u32(const guint8 *bytes)
{
    guint32 v;

    memcpy(&v, bytes, sizeof v);
    return GUINT32_FROM_BE(v);
}

static guint64 get_u64(const guint8 *bytes)
{
    guint64 v;

    memcpy(&v, bytes, sizeof v);
    return GUINT64_FROM_BE(v);
}

static Message message_head(const guint8 *bytes)
{
    guint32 head = get_u32(bytes);

    return (Message){ head >> 16, head & 0xffff, bytes + HEAD_LEN };
}

static const struct {
    const char *name;
    guint16 min;
    guint16 max;
} messages[] = {
    [QEMU_RP_SHUT] = { "SHUT", 4, 4 },
    [QEMU_RP_PONG] = { "PONG", 4, 4 },
    [QEMU_RP_REQ_PAGES_ID] = { "REQ_PAGES_ID", REQ_PAGES_LEN + 2,
                               REQ_PAGES_LEN + 1 + RAM_BLOCK_NAME_MAX },
    [QEMU_RP_REQ_PAGES] = { "REQ_PAGES", REQ_PAGES_LEN, REQ_PAGES_LEN },
    [QEMU_RP_RECV_BITMAP] = { "RECV_BITMAP", 2, 1 + RAM_BLOCK_NAME_MAX },
    [QEMU_RP_RESUME_ACK] = { "RESUME_ACK", 4, 4 },
    [QEMU_RP_SWITCHOVER_ACK] = { "SWITCHOVER_ACK", 0, 0 },
};

static gboolean message_is_known(guint16 type)
{
    return type < G_N_ELEMENTS(messages) && messages[type].name;
}

/* Why the length in the head cannot be, or NULL. */
static char *complain_of_length(const Message *m)
{
    if (m->len > QEMU_RETURN_MESSAGE_MAX)
        return g_strdup_printf(_("message type %u has %u bytes, at most %u are allowed"), m->type,
                               m->len, QEMU_RETURN_MESSAGE_MAX);
    if (message_is_known(m->type) &&
        (m->len < messages[m->type].min || m->len > messages[m->type].max))
        return g_strdup_printf(_("%s has %u bytes, it needs %u to %u"), messages[m->type].name,
                               m->len, messages[m->type].min, messages[m->type].max);
    return NULL;
}

/* A name behind its length, up to the end of the payload; or why that cannot be. */
static char *take_name(const Message *m, gsize at, Name *ret_name)
{
    gsize len = m->payload[at];

    if (len != (gsize)m->len - at - 1)
        return g_strdup_printf(_("the block's name in %s has %zu bytes, there is room for %zu"),
                               messages[m->type].name, len, (gsize)m->len - at - 1);
    memcpy(ret_name->bytes, m->payload + at + 1, len);
    ret_name->bytes[len] = 0;
    ret_name->len = len;
    return NULL;
}

static void set_name(QemuReturnEvent *event, const Name *name)
{
    event->name = name->bytes;
    event->name_len = name->len;
}

/* Each message's reader fills the event, or returns why the message cannot be. */

static char *read_value(QemuReturn *reader, const Message *m, QemuReturnEvent *event)
{
    event->type = m->type == QEMU_RP_SHUT   ? QEMU_RETURN_SHUT
                  : m->type == QEMU_RP_PONG ? QEMU_RETURN_PONG
                                            : QEMU_RETURN_RESUME_ACK;
    event->value = get_u32(m->payload);
    return NULL;
}

static char *read_request(QemuReturn *reader, const Message *m, QemuReturnEvent *event)
{
    guint64 start = get_u64(m->payload), length = get_u32(m->payload + 8);

    if (m->type == QEMU_RP_REQ_PAGES_ID) {
        char *text = take_name(m, REQ_PAGES_LEN, &reader->asked);

        if (text)
            return text;
    } else if (reader->asked.len == 0) {
        return g_strdup(_("REQ_PAGES without an earlier REQ_PAGES_ID names no block"));
    }
    if (length == 0 || start % RAM_TARGET_PAGE_DEFAULT || length % RAM_TARGET_PAGE_DEFAULT ||
        start > G_MAXUINT64 - length)
        return g_strdup_printf(_("a request for %" PRIu64
                                 " bytes at 0x%" PRIx64 " is not for whole pages"),
                               length, start);
    event->type = QEMU_RETURN_REQ_PAGES;
    event->start = start;
    event->length = length;
    set_name(event, &reader->asked);
    return NULL;
}

static char *read_bitmap(QemuReturn *reader, const Message *m, QemuReturnEvent *event)
{
    guint64 length = get_u64(m->payload + m->len);
    char *text = take_name(m, 0, &reader->bitmap);

    if (text)
        return text;
    if (length == 0 || length % 8 || length > BITMAP_MAX)
        return g_strdup_printf(_("a bitmap of %" PRIu64
                                 " bytes, it needs a multiple of 8 up to %" PRIu64),
                               length, BITMAP_MAX);
    event->type = QEMU_RETURN_BITMAP;
    event->length = reader->bitmap_len = length;
    reader->bitmap_done = 0;
    reader->state = STATE_BITMAP_DATA;
    set_name(event, &reader->bitmap);
    return NULL;
}

static char *read_message(QemuReturn *reader, const Message *m, QemuReturnEvent *event)
{
    switch (m->type) {
    case QEMU_RP_SHUT:
    case QEMU_RP_PONG:
    case QEMU_RP_RESUME_ACK:
        return read_value(reader, m, event);
    case QEMU_RP_REQ_PAGES_ID:
    case QEMU_RP_REQ_PAGES:
        return read_request(reader, m, event);
    case QEMU_RP_RECV_BITMAP:
        return read_bitmap(reader, m, event);
    default:
        event->type = QEMU_RETURN_OTHER;
        event->value = m->type;
        return NULL;
    }
}

/* -- pieces -------------------------------------------------------------------------------- */

/* One call's input. The element under way is what is held and the bytes taken after it; an element
 * that lies in the input in one piece is not copied. */
typedef struct {
    QemuReturn *reader;
    const guint8 *input;
    gsize input_len;
    gsize taken;
} Piece;

/* The element's first `len` bytes; NULL: not all have come, those that have are held. Each call for
 * the same element asks for as many or more. */
static const guint8 *piece_need(Piece *piece, gsize len)
{
    QemuReturn *reader = piece->reader;

    g_assert(len <= sizeof reader->held);
    if (reader->held_len == 0) {
        piece->taken = piece->input_len >= len ? len : 0;
        if (piece->taken)
            return piece->input;
    }
    if (reader->held_len < len && piece->taken < piece->input_len) {
        gsize more = MIN(len - reader->held_len, piece->input_len - piece->taken);

        memcpy(reader->held + reader->held_len, piece->input + piece->taken, more);
        reader->held_len += more;
        piece->taken += more;
    }
    return reader->held_len >= len ? reader->held : NULL;
}

/* Makes the element's `len` bytes those of the event; the next call begins a new one. */
static gsize piece_done(Piece *piece, gsize len, QemuReturnEvent *event)
{
    QemuReturn *reader = piece->reader;

    g_assert(reader->held_len == 0 || reader->held_len == len);
    event->raw = reader->held_len ? reader->held : piece->input;
    event->raw_len = len;
    reader->release = reader->held_len > 0;
    reader->position += len;
    return piece->taken;
}

static gsize piece_unknown(Piece *piece, gsize len, char *text, QemuReturnEvent *event)
{
    QemuReturn *reader = piece->reader;

    g_free(reader->text);
    reader->text = g_strdup_printf(_("QEMU's return path, byte %" PRIu64 ": %s"),
                                   reader->position, text);
    g_free(text);
    reader->state = STATE_OPAQUE;
    *event = (QemuReturnEvent){ .type = QEMU_RETURN_UNKNOWN, .text = reader->text };
    return piece_done(piece, len, event);
}

static gsize on_message(Piece *piece, QemuReturnEvent *event)
{
    const guint8 *bytes = piece_need(piece, HEAD_LEN);
    Message m;
    gsize len;
    char *text;

    if (!bytes)
        return piece->taken;
    m = message_head(bytes);
    text = complain_of_length(&m);
    if (text)
        return piece_unknown(piece, HEAD_LEN, text, event);

    len = HEAD_LEN + m.len + (m.type == QEMU_RP_RECV_BITMAP ? BITMAP_SIZE_LEN : 0);
    bytes = piece_need(piece, len);
    if (!bytes)
        return piece->taken;
    m.payload = bytes + HEAD_LEN;
    text = read_message(piece->reader, &m, event);
    if (text)
        return piece_unknown(piece, len, text, event);
    return piece_done(piece, len, event);
}

static gsize on_bitmap_data(Piece *piece, QemuReturnEvent *event)
{
    QemuReturn *reader = piece->reader;
    gsize len = MIN(reader->bitmap_len - reader->bitmap_done, piece->input_len);

    if (len == 0)
        return 0;
    event->type = QEMU_RETURN_BITMAP_DATA;
    event->start = reader->bitmap_done;
    set_name(event, &reader->bitmap);
    reader->bitmap_done += len;
    if (reader->bitmap_done == reader->bitmap_len)
        reader->state = STATE_BITMAP_MARK;
    piece->taken = len;
    return piece_done(piece, len, event);
}

static gsize on_bitmap_mark(Piece *piece, QemuReturnEvent *event)
{
    QemuReturn *reader = piece->reader;
    const guint8 *bytes = piece_need(piece, BITMAP_MARK_LEN);

    if (!bytes)
        return piece->taken;
    if (get_u64(bytes) != BITMAP_MARK)
        return piece_unknown(piece, BITMAP_MARK_LEN,
                             g_strdup(_("a bitmap does not end with the mark of its end")), event);
    event->type = QEMU_RETURN_BITMAP_END;
    set_name(event, &reader->bitmap);
    reader->state = STATE_MESSAGE;
    return piece_done(piece, BITMAP_MARK_LEN, event);
}

static gsize on_opaque(Piece *piece, QemuReturnEvent *event)
{
    if (piece->input_len == 0)
        return 0;
    event->type = QEMU_RETURN_OPAQUE;
    piece->taken = piece->input_len;
    return piece_done(piece, piece->input_len, event);
}

gsize qemu_return_read(QemuReturn *reader, const guint8 *bytes, gsize len,
                       QemuReturnEvent *ret_event)
{
    static gsize (*const readers[])(Piece *, QemuReturnEvent *) = {
        [STATE_MESSAGE] = on_message,
        [STATE_BITMAP_DATA] = on_bitmap_data,
        [STATE_BITMAP_MARK] = on_bitmap_mark,
        [STATE_OPAQUE] = on_opaque,
    };
    Piece piece = { reader, bytes, len, 0 };

    if (reader->release)
        reader->held_len = 0;
    reader->release = FALSE;
    *ret_event = (QemuReturnEvent){ .type = QEMU_RETURN_MORE };
    return readers[reader->state](&piece, ret_event);
}

gsize qemu_return_held(const QemuReturn *reader, const guint8 **ret_bytes)
{
    *ret_bytes = reader->held;
    return reader->release ? 0 : reader->held_len;
}

gboolean qemu_return_at_boundary(const QemuReturn *reader)
{
    return reader->state == STATE_MESSAGE && (reader->held_len == 0 || reader->release);
}

gboolean qemu_return_is_opaque(const QemuReturn *reader)
{
    return reader->state == STATE_OPAQUE;
}
