/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/model-destination.h"

#include <string.h>

#include "ram/qemu_write.h"
#include "util/bytes.h"

static void make_streams(ModelDestination *d)
{
    for (guint i = 0; i < MODEL_CONNECTIONS; i++) {
        qemu_stream_free(d->stream[i]);
        d->attached[i] = FALSE;
        d->placing[i].left = 0;
    }
    d->stream[MODEL_MAIN] = qemu_stream_new(d->blocks);
    d->stream[MODEL_URGENT] = qemu_stream_new_preempt(d->blocks);
    d->asked_block = d->last_block = -1;
    d->end_mark = d->urgent_eos = FALSE;
    g_byte_array_set_size(d->out, 0);
    d->out_done = 0;
}

void model_destination_init(ModelDestination *d, const ModelGuest *guest, guint32 seed)
{
    *d = (ModelDestination){
        .guest = guest,
        .rand = g_rand_new_with_seed(seed),
        .vcpus = 4,
        .blocks = ram_blocks_new(),
        .have = g_malloc0(guest->n_pages),
        .precopied = g_malloc0(guest->n_pages),
        .requested = g_malloc0(guest->n_pages),
        .package = g_byte_array_new(),
        .foreign = g_byte_array_new(),
        .out = g_byte_array_new(),
    };
    make_streams(d);
}

void model_destination_clear(ModelDestination *d)
{
    g_rand_free(d->rand);
    for (guint i = 0; i < MODEL_CONNECTIONS; i++)
        qemu_stream_free(d->stream[i]);
    ram_blocks_free(d->blocks);
    g_free(d->have);
    g_free(d->precopied);
    g_free(d->requested);
    g_byte_array_unref(d->package);
    g_byte_array_unref(d->foreign);
    g_byte_array_unref(d->out);
    g_free(d->failure);
}

void model_destination_pause(ModelDestination *d)
{
    make_streams(d);
    d->is_paused = TRUE;
}

G_GNUC_PRINTF(2, 3) static void fail(ModelDestination *d, const char *format, ...)
{
    va_list args;

    if (d->failure)
        return;
    va_start(args, format);
    d->failure = g_strdup_vprintf(format, args);
    va_end(args);
}

/* ---- asking ---- */

static void put_request(ModelDestination *d, guint host)
{
    guint n, block = model_guest_block_of(d->guest, host);
    const ModelBlock *b = &d->guest->blocks[block];
    guint index;

    model_guest_host(d->guest, host, &n);
    if (!ram_blocks_find(d->blocks, (const guint8 *)b->name, strlen(b->name), &index)) {
        fail(d, "block %s is not known", b->name);
        return;
    }
    qemu_put_req_pages(d->out,
                       d->asked_block == (gint)block ? NULL : ram_blocks_get(d->blocks, index),
                       model_guest_offset(d->guest, host), n * MODEL_PAGE);
    d->asked_block = block;
}

void model_destination_fault(ModelDestination *d, guint page)
{
    guint n, host = model_guest_host(d->guest, page, &n);

    g_assert(d->n_faults < MODEL_FAULTS_MAX && !d->have[page] && !d->requested[host]);
    d->requested[host] = 1;
    d->faults[d->n_faults++] = host;
    d->requests++;
    put_request(d, host);
}

gboolean model_destination_find_absent(ModelDestination *d, guint *ret_page)
{
    guint n, pages = d->guest->n_pages, from = g_rand_int_range(d->rand, 0, pages);

    for (guint i = 0; i < pages; i++) {
        guint page = (from + i) % pages;

        if (!d->have[page] && !d->requested[model_guest_host(d->guest, page, &n)]) {
            *ret_page = page;
            return TRUE;
        }
    }
    return FALSE;
}

static void answered(ModelDestination *d, guint host)
{
    for (guint i = 0; i < d->n_faults; i++) {
        if (d->faults[i] == host)
            d->faults[i--] = d->faults[--d->n_faults];
    }
}

static gboolean end(ModelDestination *d)
{
    for (guint i = 0; i < d->guest->n_pages; i++) {
        if (!d->have[i])
            fail(d, "the end came before page %u of %u", i, d->guest->n_pages);
    }
    qemu_put_shut(d->out, 0);
    d->closed = TRUE;
    return TRUE;
}

gboolean model_destination_step(ModelDestination *d, gsize urgent_pending)
{
    guint page;

    if (d->closed || !d->attached[MODEL_MAIN])
        return FALSE;
    if (d->end_mark && urgent_pending == 0 && (d->preempt != MODEL_PREEMPT_OLD || d->urgent_eos))
        return end(d);
    if (!d->listening || d->is_paused || !d->requests_left || d->n_faults >= d->vcpus ||
        !model_destination_find_absent(d, &page))
        return FALSE;
    d->requests_left--;
    model_destination_fault(d, page);
    return TRUE;
}

/* ---- pages ---- */

/* A difference needs the page as it was when it was made. */
static void load_delta(ModelDestination *d, guint page, const QemuPage *record)
{
    guint8 from = 0;

    if (!model_guest_is_delta(d->guest, page, record, &from))
        fail(d, "page %u has not its difference", page);
    if (d->have[page] != MODEL_OLD || d->precopied[page] != from)
        fail(d, "page %u is of generation %u, and the difference to %u", page, d->precopied[page],
             from);
    d->precopied[page]++;
}

static void load_old(ModelDestination *d, guint page, const QemuPage *record)
{
    if (record->kind == QEMU_PAGE_XBZRLE) {
        load_delta(d, page, record);
        return;
    }
    if (!model_guest_is(d->guest, page, MODEL_OLD, record))
        fail(d, "page %u has not the content of the pre-copy round", page);
    d->have[page] = MODEL_OLD;
    d->precopied[page] = 1;
}

static void place_host(ModelDestination *d, guint connection, guint host, guint n)
{
    for (guint i = 0; i < n; i++) {
        if (d->have[host + i])
            fail(d, "page %u is placed a second time, connection %u", host + i, connection);
        d->have[host + i] = MODEL_NEW;
    }
    d->placed[connection] += n;
    answered(d, host);
}

/* A host page is put together on each connection by itself, in order. */
static void place(ModelDestination *d, guint connection, guint page, const QemuPage *record)
{
    ModelPlacing *p = &d->placing[connection];
    guint n, host = model_guest_host(d->guest, page, &n);

    if (!model_guest_is(d->guest, page, MODEL_NEW, record))
        fail(d, "page %u has not its content", page);
    if (p->left == 0)
        *p = (ModelPlacing){ host, host, n };
    if (page != p->next) {
        fail(d, "connection %u: page %u where %u of the host page %u belongs", connection, page,
             p->next, p->host);
        return;
    }
    p->next++;
    if (--p->left == 0)
        place_host(d, connection, host, n);
}

static void take_page(ModelDestination *d, guint connection, const QemuPage *record)
{
    const RamBlock *b = ram_blocks_get(d->blocks, record->block);
    guint page;

    if (!model_guest_find(d->guest, b->name, strlen(b->name), record->offset, &page))
        fail(d, "a page that is not there");
    else if (d->listening)
        place(d, connection, page, record);
    else if (connection == MODEL_URGENT)
        fail(d, "a page on the preempt connection before LISTEN");
    else
        load_old(d, page, record);
    if (connection == MODEL_MAIN)
        d->last_block = model_guest_block_of(d->guest, page);
}

/* ---- commands ---- */

static void take_discard(ModelDestination *d, const QemuEvent *event)
{
    const RamBlock *b = ram_blocks_get(d->blocks, event->block);
    gsize at = 3 + event->payload[1];
    guint page;

    if (d->listening)
        fail(d, "a discard after LISTEN");
    for (; at + 16 <= event->payload_len; at += 16) {
        ByteReader r = byte_reader(event->payload + at, 16);
        guint64 start, length;

        byte_reader_take_u64(&r, "start", &start, NULL);
        byte_reader_take_u64(&r, "length", &length, NULL);
        if (model_guest_find(d->guest, b->name, strlen(b->name), start, &page))
            memset(d->have + page, MODEL_ABSENT, length / MODEL_PAGE);
        else
            fail(d, "a discard of what is not there");
    }
}

static void send_bitmap(ModelDestination *d, guint index)
{
    const RamBlock *b = ram_blocks_get(d->blocks, index);
    guint first, n = 0;
    g_autofree guint8 *bits = NULL;

    if (!model_guest_find(d->guest, b->name, strlen(b->name), 0, &first)) {
        fail(d, "a bitmap of an unknown block");
        return;
    }
    bits = g_malloc0(d->guest->n_pages / 8 + 1);
    while (first + n < d->guest->n_pages && model_guest_block_of(d->guest, first + n) ==
                                                model_guest_block_of(d->guest, first)) {
        if (d->have[first + n])
            bits[n / 8] |= 1 << n % 8;
        n++;
    }
    qemu_put_recv_bitmap(d->out, b, bits, n);
}

static void resume(ModelDestination *d)
{
    gboolean ack_first = g_rand_boolean(d->rand);

    d->is_paused = FALSE;
    if (ack_first)
        qemu_put_resume_ack(d->out, 1);
    for (guint i = 0; i < d->n_faults; i++)
        put_request(d, d->faults[i]);
    if (!ack_first)
        qemu_put_resume_ack(d->out, 1);
}

static void take_command(ModelDestination *d, const QemuEvent *event)
{
    guint32 value;

    switch (event->value) {
    case QEMU_CMD_PING:
        memcpy(&value, event->payload, sizeof value);
        qemu_put_pong(d->out, GUINT32_FROM_BE(value));
        break;
    case QEMU_CMD_POSTCOPY_RAM_DISCARD:
        take_discard(d, event);
        break;
    case QEMU_CMD_RECV_BITMAP:
        send_bitmap(d, event->block);
        break;
    case QEMU_CMD_POSTCOPY_RESUME:
        resume(d);
        break;
    default:
        break;
    }
}

static void take_package(ModelDestination *d, const QemuEvent *event)
{
    g_byte_array_append(d->package, event->raw, event->raw_len);
    if (event->last) {
        d->listening = TRUE;
        qemu_put_pong(d->out, 3);
    }
}

/* ---- the stream ---- */

static void take_event(ModelDestination *d, guint connection, const QemuEvent *event)
{
    switch (event->type) {
    case QEMU_EV_PAGE:
        take_page(d, connection, &event->page);
        break;
    case QEMU_EV_COMMAND:
        take_command(d, event);
        break;
    case QEMU_EV_PACKAGE_DATA:
        take_package(d, event);
        break;
    case QEMU_EV_EOS:
        d->urgent_eos |= connection == MODEL_URGENT;
        break;
    case QEMU_EV_EOF:
        d->end_mark = TRUE;
        break;
    case QEMU_EV_UNKNOWN:
    case QEMU_EV_OPAQUE:
        if (connection == MODEL_URGENT)
            fail(d, "preempt connection: %s", event->text);
        g_byte_array_append(d->foreign, event->raw, event->raw_len);
        break;
    default:
        break;
    }
}

/* One of 7.2 reads nothing until it has both connections. */
gboolean model_destination_wants(const ModelDestination *d, guint connection)
{
    return d->attached[connection] &&
           (d->preempt != MODEL_PREEMPT_OLD || d->attached[MODEL_URGENT]);
}

void model_destination_on_data(ModelDestination *d, guint connection, const guint8 *bytes,
                               gsize len)
{
    QemuEvent event;

    if (d->end_mark && connection == MODEL_MAIN)
        fail(d, "bytes after the end");
    do {
        gsize n = qemu_stream_read(d->stream[connection], bytes, len, &event);

        bytes += n;
        len -= n;
        if (event.type != QEMU_EV_MORE)
            take_event(d, connection, &event);
    } while (len > 0 || event.type != QEMU_EV_MORE);
}

void model_destination_on_eof(ModelDestination *d)
{
    if (!d->end_mark && d->foreign->len == 0)
        fail(d, "the stream ended before its end");
    d->closed = TRUE;
}
