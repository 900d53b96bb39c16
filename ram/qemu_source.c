/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/qemu_source.h"

#include <string.h>

#include "ram/qemu_return.h"
#include "ram/qemu_write.h"
#include "util/bytes.h"

struct QemuSource {
    RamSource base;
    Session *session;
    RamBlocks *blocks;
    Outgoing *outgoing;
    QemuStream *stream[QEMU_CONNECTION_MAX]; /* PREEMPT: once it is open */
    gboolean begun;
    gboolean in_ram;  /* between the head and the footer of a RAM section */
    gboolean ram_end; /* that section is an END */

    QemuReturn *return_path; /* what the destination QEMU says */
    GByteArray *out;         /* the return path, not written yet */
    gsize out_done;
    gboolean frame_is_out; /* out holds the peer's oldest frame */
    GByteArray *asks;      /* whole REQ_PAGES messages that wait for the end of the peer's message */
};

/* ---- asking for pages ---- */

static void on_request(RamSource *base, guint block, guint64 start, guint32 length)
{
    QemuSource *q = (QemuSource *)base;

    /* Always by name: which block was the last one is the destination QEMU's to say. */
    qemu_put_req_pages(q->asks, ram_blocks_get(q->blocks, block), start, length);
}

static const RamSourceOps ops = { on_request };

/* ---- life ---- */

QemuSource *qemu_source_new(const OutgoingConfig *config, Session *session)
{
    QemuSource *q = g_new0(QemuSource, 1);

    q->base.ops = &ops;
    q->session = session;
    q->blocks = ram_blocks_new();
    q->outgoing = outgoing_new(config, q->blocks, &q->base, session);
    q->stream[QEMU_MAIN] = qemu_stream_new(q->blocks);
    q->return_path = qemu_return_new();
    q->out = g_byte_array_new();
    q->asks = g_byte_array_new();
    return q;
}

void qemu_source_free(QemuSource *q)
{
    if (!q)
        return;
    outgoing_free(q->outgoing);
    for (guint i = 0; i < QEMU_CONNECTION_MAX; i++)
        qemu_stream_free(q->stream[i]);
    qemu_return_free(q->return_path);
    g_byte_array_unref(q->out);
    g_byte_array_unref(q->asks);
    ram_blocks_free(q->blocks);
    g_free(q);
}

Outgoing *qemu_source_outgoing(QemuSource *q)
{
    return q->outgoing;
}

/* ---- the stream ---- */

static OutgoingEvent event_of_command(const QemuEvent *event)
{
    switch (event->value) {
    case QEMU_CMD_POSTCOPY_ADVISE:
        return OUTGOING_EV_ADVISE;
    case QEMU_CMD_POSTCOPY_RAM_DISCARD:
        return OUTGOING_EV_DISCARD;
    case QEMU_CMD_PACKAGED:
        return OUTGOING_EV_PACKAGE;
    case QEMU_CMD_POSTCOPY_RESUME:
        return OUTGOING_EV_RESUME;
    default:
        return OUTGOING_EV_ELEMENT;
    }
}

static OutgoingEvent on_section(QemuSource *q, const QemuSection *section)
{
    q->in_ram = section->is_ram;
    q->ram_end = section->is_ram && section->kind == QEMU_SECTION_END;
    if (!section->is_ram)
        return OUTGOING_EV_ELEMENT;
    return section->kind == QEMU_SECTION_START ? OUTGOING_EV_RAM_SETUP : OUTGOING_EV_FRAMING;
}

static OutgoingEvent on_footer(QemuSource *q)
{
    gboolean in_ram = q->in_ram;

    q->in_ram = FALSE;
    if (q->ram_end) {
        q->ram_end = FALSE;
        return OUTGOING_EV_RAM_END;
    }
    return in_ram ? OUTGOING_EV_FRAMING : OUTGOING_EV_ELEMENT;
}

static OutgoingEvent event_of(QemuSource *q, const QemuEvent *event)
{
    switch (event->type) {
    case QEMU_EV_HEADER:
        return OUTGOING_EV_HEADER;
    case QEMU_EV_SECTION:
        return on_section(q, &event->section);
    case QEMU_EV_PAGE:
        return OUTGOING_EV_PAGE;
    case QEMU_EV_EOS:
        return OUTGOING_EV_FRAMING;
    case QEMU_EV_RECORD:
        return OUTGOING_EV_RECORD;
    case QEMU_EV_FOOTER:
        return on_footer(q);
    case QEMU_EV_COMMAND:
        return event_of_command(event);
    case QEMU_EV_PACKAGE_DATA:
        return event->last ? OUTGOING_EV_PACKAGE_END : OUTGOING_EV_ELEMENT;
    case QEMU_EV_UNKNOWN:
        return OUTGOING_EV_UNKNOWN;
    default:
        return OUTGOING_EV_ELEMENT;
    }
}

/* Bytes in the ranges of a RAM_DISCARD, which the machine is told one by one; the stream has checked its shape. */
static guint64 take_discards(QemuSource *q, const QemuEvent *event)
{
    ByteReader r = byte_reader(event->payload, event->payload_len);
    guint64 total = 0, start, length;
    const guint8 *name;
    guint8 version, n;
    gboolean known;
    guint block;

    if (event->type != QEMU_EV_COMMAND || event->value != QEMU_CMD_POSTCOPY_RAM_DISCARD)
        return 0;
    if (!byte_reader_take_u8(&r, "version", &version, NULL) ||
        !byte_reader_take_u8(&r, "name", &n, NULL) ||
        !byte_reader_take(&r, "name", n + 1, &name, NULL))
        return 0;
    known = ram_blocks_find(q->blocks, name, n, &block);
    while (byte_reader_take_u64(&r, "start", &start, NULL) &&
           byte_reader_take_u64(&r, "length", &length, NULL)) {
        total += length;
        if (known)
            outgoing_on_discarded(q->outgoing, block, start, length);
    }
    return total;
}

static void on_main_event(QemuSource *q, const QemuEvent *event, gint64 now_us)
{
    OutgoingInput in = {
        .raw = event->raw,
        .raw_len = event->raw_len,
        .page = &event->page,
        .text = event->text,
        .discarded = take_discards(q, event),
        .now_us = now_us,
    };
    OutgoingEvent type;

    in.in_section = q->in_ram;
    type = event_of(q, event);
    qemu_stream_ram_section(q->stream[QEMU_MAIN], &in.section);
    if (!q->begun && qemu_stream_is_resumed(q->stream[QEMU_MAIN]) && type == OUTGOING_EV_ELEMENT)
        type = OUTGOING_EV_RESUMED;
    q->begun = TRUE;
    outgoing_event(q->outgoing, type, &in, NULL);
}

static void on_preempt_event(QemuSource *q, const QemuEvent *event, gint64 now_us)
{
    OutgoingInput in = { .page = &event->page, .now_us = now_us };

    if (event->type == QEMU_EV_PAGE)
        outgoing_event(q->outgoing, OUTGOING_EV_URGENT_PAGE, &in, NULL);
    else if (event->type == QEMU_EV_EOS)
        outgoing_event(q->outgoing, OUTGOING_EV_URGENT_EOS, &in, NULL);
    else if (event->type == QEMU_EV_UNKNOWN || event->type == QEMU_EV_OPAQUE)
        outgoing_lose_page(q->outgoing);
}

gboolean qemu_source_wants(const QemuSource *q, QemuConnection connection)
{
    if (session_state(q->session) < SESSION_ACTIVE)
        return FALSE;
    /* What comes there is waited for by somebody. */
    return connection == QEMU_PREEMPT || outgoing_wants(q->outgoing);
}

void qemu_source_on_opened(QemuSource *q, QemuConnection connection, gint64 now_us)
{
    OutgoingInput in = { .now_us = now_us };

    if (connection != QEMU_PREEMPT || q->stream[QEMU_PREEMPT])
        return;
    q->stream[QEMU_PREEMPT] = qemu_stream_new_preempt(q->blocks);
    outgoing_event(q->outgoing, OUTGOING_EV_URGENT_OPENED, &in, NULL);
}

void qemu_source_on_data(QemuSource *q, QemuConnection connection, const guint8 *bytes, gsize len,
                         gint64 now_us)
{
    QemuEvent event;

    do {
        gsize n = qemu_stream_read(q->stream[connection], bytes, len, &event);

        bytes += n;
        len -= n;
        if (event.type == QEMU_EV_MORE)
            return;
        if (connection == QEMU_MAIN)
            on_main_event(q, &event, now_us);
        else
            on_preempt_event(q, &event, now_us);
    } while (len > 0);
}

gboolean qemu_source_awaits_idle(const QemuSource *q, QemuConnection connection)
{
    return connection == QEMU_PREEMPT && outgoing_awaits_urgent(q->outgoing);
}

void qemu_source_on_idle(QemuSource *q, QemuConnection connection, gint64 now_us)
{
    OutgoingInput in = { .now_us = now_us };

    if (connection == QEMU_PREEMPT)
        outgoing_event(q->outgoing, OUTGOING_EV_URGENT_IDLE, &in, NULL);
}

void qemu_source_on_eof(QemuSource *q, QemuConnection connection, gint64 now_us)
{
    OutgoingInput in = { .now_us = now_us };

    if (connection == QEMU_PREEMPT) {
        outgoing_event(q->outgoing, OUTGOING_EV_URGENT_CLOSED, &in, NULL);
        return;
    }
    in.raw_len = qemu_stream_held(q->stream[QEMU_MAIN], &in.raw);
    outgoing_event(q->outgoing, OUTGOING_EV_QEMU_ENDED, &in, NULL);
}

/* ---- the return path ---- */

static void on_return_event(QemuSource *q, const QemuReturnEvent *event)
{
    guint block;

    g_byte_array_append(q->out, event->raw, event->raw_len);
    if (event->type != QEMU_RETURN_BITMAP && event->type != QEMU_RETURN_BITMAP_DATA)
        return;
    if (!ram_blocks_find(q->blocks, (const guint8 *)event->name, event->name_len, &block))
        return;
    if (event->type == QEMU_RETURN_BITMAP)
        outgoing_on_bitmap_head(q->outgoing, block, event->length * 8);
    else
        outgoing_on_bitmap(q->outgoing, block, event->start * 8, event->raw, event->raw_len);
}

static void take_return_data(QemuSource *q, GBytes *body)
{
    gsize len;
    const guint8 *bytes = g_bytes_get_data(body, &len);
    QemuReturnEvent event;

    do {
        gsize n = qemu_return_read(q->return_path, bytes, len, &event);

        bytes += n;
        len -= n;
        if (event.type != QEMU_RETURN_MORE)
            on_return_event(q, &event);
    } while (len > 0 || event.type != QEMU_RETURN_MORE);
}

static gboolean output_is_empty(const QemuSource *q)
{
    return q->out->len == q->out_done;
}

/* The peer's frame is acknowledged when it is written, so there is one at a time. What the reader keeps
 * of a message that is not complete will come out with its end. */
static gboolean next_output(QemuSource *q, GError **error)
{
    FrameType type;
    GBytes *body;

    while (output_is_empty(q)) {
        g_byte_array_set_size(q->out, 0);
        q->out_done = 0;
        if (q->frame_is_out)
            session_consume(q->session);
        q->frame_is_out = FALSE;
        body = session_received(q->session, &type);
        if (body && type != FRAME_DATA) {
            g_set_error(error, RAM_ERROR, RAM_ERROR_PROTOCOL, "%s is not for the source",
                        frame_type_name(type));
            return FALSE;
        }
        if (body) {
            take_return_data(q, body);
            q->frame_is_out = TRUE;
        }
        if (q->asks->len > 0 && qemu_return_at_boundary(q->return_path)) {
            g_byte_array_append(q->out, q->asks->data, q->asks->len);
            g_byte_array_set_size(q->asks, 0);
        }
        if (!body)
            return TRUE;
    }
    return TRUE;
}

gsize qemu_source_output(QemuSource *q, const guint8 **ret_bytes)
{
    if (output_is_empty(q))
        return 0;
    *ret_bytes = q->out->data + q->out_done;
    return q->out->len - q->out_done;
}

void qemu_source_written(QemuSource *q, gsize len)
{
    q->out_done += len;
}

gboolean qemu_source_run(QemuSource *q, gint64 now_us, GError **error)
{
    return outgoing_run(q->outgoing, now_us, error) && next_output(q, error);
}
