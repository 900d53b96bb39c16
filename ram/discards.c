/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/discards.h"

#include "ram/qemu_stream.h"
#include "util/bytes.h"

/* A section of type command: the type, command and length of the payload in 16 bits each. */
#define SECTION_COMMAND 0x08
#define HEAD_LEN 5u
#define PIECE_LEN (16 * 1024)

struct Discards {
    GByteArray *held; /* the command that has begun */
    guint64 bytes;
    gboolean lost; /* what came is no command, or a discard of another form */
};

Discards *discards_new(void)
{
    Discards *d = g_new0(Discards, 1);

    d->held = g_byte_array_new();
    return d;
}

void discards_free(Discards *d)
{
    if (!d)
        return;
    g_byte_array_unref(d->held);
    g_free(d);
}

/* Version 0, a name with its length, a 0, ranges. */
static gboolean add_discard(Discards *d, ByteReader *payload)
{
    const guint8 *name;
    guint8 version, name_len, end;
    guint64 start, range;

    if (!byte_reader_take_u8(payload, "version", &version, NULL) || version != 0 ||
        !byte_reader_take_u8(payload, "name", &name_len, NULL) ||
        !byte_reader_take(payload, "name", name_len, &name, NULL) ||
        !byte_reader_take_u8(payload, "end", &end, NULL) || end != 0)
        return FALSE;
    while (payload->len > 0) {
        if (!byte_reader_take_u64(payload, "start", &start, NULL) ||
            !byte_reader_take_u64(payload, "length", &range, NULL) ||
            range > G_MAXUINT64 - d->bytes)
            return FALSE;
        d->bytes += range;
    }
    return TRUE;
}

/* Of what is held; TRUE: a command was complete, and is gone. */
static gboolean take_command(Discards *d)
{
    ByteReader r = byte_reader(d->held->data, d->held->len);
    ByteReader payload;
    const guint8 *bytes;
    guint16 command, len;
    guint8 section;

    if (d->lost || !byte_reader_take_u8(&r, "section", &section, NULL))
        return FALSE;
    d->lost = section != SECTION_COMMAND;
    if (d->lost || !byte_reader_take_u16(&r, "command", &command, NULL) ||
        !byte_reader_take_u16(&r, "length", &len, NULL) ||
        !byte_reader_take(&r, "payload", len, &bytes, NULL))
        return FALSE;
    payload = byte_reader(bytes, len);
    d->lost = command == QEMU_CMD_POSTCOPY_RAM_DISCARD && !add_discard(d, &payload);
    g_byte_array_remove_range(d->held, 0, HEAD_LEN + len);
    return TRUE;
}

/* In pieces, so that what is held is never much more than a command. */
void discards_read(Discards *d, const guint8 *bytes, gsize len)
{
    while (len > 0 && !d->lost) {
        gsize n = MIN(len, PIECE_LEN);

        g_byte_array_append(d->held, bytes, (guint)n);
        bytes += n;
        len -= n;
        while (take_command(d))
            continue;
    }
    if (d->lost)
        g_byte_array_set_size(d->held, 0);
}

gboolean discards_bytes(const Discards *d, guint64 *ret_bytes)
{
    if (d->lost)
        return FALSE;
    *ret_bytes = d->bytes;
    return TRUE;
}
