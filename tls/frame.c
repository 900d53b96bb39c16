/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/frame.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "util/bytes.h"

G_DEFINE_QUARK(frame-error-quark, frame_error)

/* Every type with its limits: the decoder has no other knowledge of them. */
static const struct {
    const char *name;
    gsize body_min;
    gsize body_max;
    gboolean sequenced;
} types[FRAME_TYPE_MAX] = {
    [FRAME_HELLO] = { "HELLO", 1, FRAME_HELLO_MAX, FALSE },
    [FRAME_HELLO_ACK] = { "HELLO_ACK", 1, FRAME_HELLO_MAX, FALSE },
    [FRAME_ERROR] = { "ERROR", 4, 4 + FRAME_ERROR_TEXT_MAX, FALSE },
    [FRAME_DATA] = { "DATA", 1, FRAME_DATA_MAX, TRUE },
    [FRAME_EOF] = { "EOF", 0, 0, TRUE },
    [FRAME_RESET] = { "RESET", 0, 0, TRUE },
    [FRAME_ACK] = { "ACK", 16, 16, FALSE },
    [FRAME_PING] = { "PING", 8, 8, FALSE },
    [FRAME_PONG] = { "PONG", 8, 8, FALSE },
    [FRAME_BYE] = { "BYE", 0, 0, FALSE },
    [FRAME_PHASE] = { "PHASE", 1, 64, TRUE },
    [FRAME_BLOCKS] = { "BLOCKS", 1, FRAME_PAGES_MAX, TRUE },
    [FRAME_PAGES] = { "PAGES", 1, FRAME_PAGES_MAX, TRUE },
    [FRAME_RAM_END] = { "RAM_END", 16, 144, TRUE },
    [FRAME_QEMU_CHANNEL] = { "QEMU_CHANNEL", 1, 64, TRUE },
    [FRAME_REQUEST] = { "REQUEST", 16, 64, TRUE },
    [FRAME_DISCARD] = { "DISCARD", 20, 256, TRUE },
    [FRAME_RECEIVED] = { "RECEIVED", 13, FRAME_PAGES_MAX, TRUE },
};

static gboolean type_is_known(guint type)
{
    return type > 0 && type < FRAME_TYPE_MAX;
}

const char *frame_type_name(FrameType type)
{
    return type_is_known(type) ? types[type].name : "unknown";
}

gboolean frame_type_is_sequenced(FrameType type)
{
    return type_is_known(type) && types[type].sequenced;
}

void frame_header_encode(const FrameHeader *header, guint8 ret[FRAME_HEADER_LEN])
{
    guint32 length = GUINT32_TO_BE((guint32)(FRAME_HEADER_LEN + header->body_len));
    guint64 seq = GUINT64_TO_BE(header->seq);

    g_assert(type_is_known(header->type) && header->body_len >= types[header->type].body_min &&
             header->body_len <= types[header->type].body_max);
    memset(ret, 0, FRAME_HEADER_LEN);
    memcpy(ret, &length, sizeof length);
    ret[4] = header->type;
    memcpy(ret + 8, &seq, sizeof seq);
}

static gboolean header_check_length(guint8 type, guint32 length, GError **error)
{
    gsize least = FRAME_HEADER_LEN + types[type].body_min;
    gsize most = FRAME_HEADER_LEN + types[type].body_max;

    if (length >= least && length <= most)
        return TRUE;
    g_set_error(error, FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER,
                _("frame length %u is out of range for %s (%zu to %zu)"), length,
                types[type].name, least, most);
    return FALSE;
}

gboolean frame_header_decode(const guint8 bytes[FRAME_HEADER_LEN], FrameHeader *ret_header,
                             GError **error)
{
    ByteReader r = byte_reader(bytes, FRAME_HEADER_LEN);
    guint32 length;
    guint8 type, flags;
    guint16 reserved;
    guint64 seq;

    if (!byte_reader_take_u32(&r, "frame length", &length, error) ||
        !byte_reader_take_u8(&r, "frame type", &type, error) ||
        !byte_reader_take_u8(&r, "frame flags", &flags, error) ||
        !byte_reader_take_u16(&r, "frame reserved field", &reserved, error) ||
        !byte_reader_take_u64(&r, "frame sequence", &seq, error))
        return FALSE;

    if (!type_is_known(type)) {
        g_set_error(error, FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER, _("unknown frame type %u"),
                    type);
        return FALSE;
    }
    if (!header_check_length(type, length, error))
        return FALSE;
    if (flags != 0) {
        g_set_error(error, FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER,
                    _("frame flags of %s are 0x%02x, must be 0"), types[type].name, flags);
        return FALSE;
    }
    if (reserved != 0) {
        g_set_error(error, FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER,
                    _("frame reserved field of %s is 0x%04x, must be 0"), types[type].name,
                    reserved);
        return FALSE;
    }
    if (seq != 0 && !types[type].sequenced) {
        g_set_error(error, FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER,
                    _("frame sequence of %s is %" PRIu64 ", must be 0"),
                    types[type].name, seq);
        return FALSE;
    }

    *ret_header = (FrameHeader){ type, seq, length - FRAME_HEADER_LEN };
    return TRUE;
}

GBytes *frame_new(FrameType type, guint64 seq, gconstpointer body, gsize body_len)
{
    FrameHeader header = { type, seq, body_len };
    guint8 *bytes = g_malloc(FRAME_HEADER_LEN + body_len);

    frame_header_encode(&header, bytes);
    if (body_len)
        memcpy(bytes + FRAME_HEADER_LEN, body, body_len);
    return g_bytes_new_take(bytes, FRAME_HEADER_LEN + body_len);
}

GBytes *frame_new_ack(const FrameAck *ack)
{
    guint64 body[2] = { GUINT64_TO_BE(ack->next_seq), GUINT64_TO_BE(ack->bytes) };

    return frame_new(FRAME_ACK, 0, body, sizeof body);
}

GBytes *frame_new_ping(FrameType ping_or_pong, guint64 cookie)
{
    guint64 body = GUINT64_TO_BE(cookie);

    return frame_new(ping_or_pong, 0, &body, sizeof body);
}

gboolean frame_ack_decode(GBytes *body, FrameAck *ret_ack, GError **error)
{
    ByteReader r = byte_reader(g_bytes_get_data(body, NULL), g_bytes_get_size(body));
    FrameAck ack;

    if (!byte_reader_take_u64(&r, "ACK sequence", &ack.next_seq, error) ||
        !byte_reader_take_u64(&r, "ACK bytes", &ack.bytes, error) ||
        !byte_reader_end(&r, "ACK", error))
        return FALSE;
    *ret_ack = ack;
    return TRUE;
}

gboolean frame_ping_decode(GBytes *body, guint64 *ret_cookie, GError **error)
{
    ByteReader r = byte_reader(g_bytes_get_data(body, NULL), g_bytes_get_size(body));
    guint64 cookie;

    if (!byte_reader_take_u64(&r, "PING cookie", &cookie, error) ||
        !byte_reader_end(&r, "PING", error))
        return FALSE;
    *ret_cookie = cookie;
    return TRUE;
}

void frame_clear(Frame *frame)
{
    g_clear_pointer(&frame->body, g_bytes_unref);
}

void frame_reader_init(FrameReader *reader, gboolean hello_only)
{
    *reader = (FrameReader){ .hello_only = hello_only };
}

void frame_reader_clear(FrameReader *reader)
{
    g_clear_pointer(&reader->body, g_free);
    reader->have = 0;
}

gboolean frame_reader_in_frame(const FrameReader *reader)
{
    return reader->have > 0;
}

gsize frame_reader_space(FrameReader *reader, guint8 **ret_space)
{
    if (reader->have < FRAME_HEADER_LEN) {
        *ret_space = reader->head + reader->have;
        return FRAME_HEADER_LEN - reader->have;
    }
    *ret_space = reader->body + (reader->have - FRAME_HEADER_LEN);
    return FRAME_HEADER_LEN + reader->header.body_len - reader->have;
}

static gboolean reader_take_header(FrameReader *reader, GError **error)
{
    if (!frame_header_decode(reader->head, &reader->header, error))
        return FALSE;
    if (reader->hello_only && reader->header.type != FRAME_HELLO) {
        g_set_error(error, FRAME_ERROR_DOMAIN, FRAME_ERROR_HEADER,
                    _("frame type is %s, the first frame must be HELLO"),
                    frame_type_name(reader->header.type));
        return FALSE;
    }
    if (reader->header.body_len)
        reader->body = g_malloc(reader->header.body_len);
    return TRUE;
}

gboolean frame_reader_advance(FrameReader *reader, gsize len, Frame *ret_frame,
                              gboolean *ret_complete, GError **error)
{
    gboolean had_header = reader->have >= FRAME_HEADER_LEN;

    reader->have += len;
    *ret_complete = FALSE;
    if (reader->have < FRAME_HEADER_LEN)
        return TRUE;
    if (!had_header && !reader_take_header(reader, error))
        return FALSE;
    if (reader->have < FRAME_HEADER_LEN + reader->header.body_len)
        return TRUE;

    g_assert(reader->have == FRAME_HEADER_LEN + reader->header.body_len);
    ret_frame->header = reader->header;
    ret_frame->body = g_bytes_new_take(g_steal_pointer(&reader->body), reader->header.body_len);
    reader->have = 0;
    reader->hello_only = FALSE;
    *ret_complete = TRUE;
    return TRUE;
}
