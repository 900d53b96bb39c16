/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/model-source.h"

#include <string.h>

#include "ram/qemu_write.h"
#include "tests/support/qemu-build.h"
#include "util/bytes.h"

#define PACKAGE_LEN 3000
/* A new section after so many pages, on average. */
#define SECTION_PAGES 40

static guint chance(ModelSource *s, guint percent)
{
    return (guint)g_rand_int_range(s->rand, 0, 100) < percent;
}

static void writer_begin(ModelWriter *w)
{
    if (!w->out)
        w->out = g_byte_array_new();
    g_byte_array_set_size(w->out, 0);
    w->done = w->left = 0;
    w->open = w->closed = w->in_section = FALSE;
    w->last_block = -1;
}

void model_source_init(ModelSource *s, const ModelGuest *guest, guint32 seed)
{
    *s = (ModelSource){
        .guest = guest,
        .rand = g_rand_new_with_seed(seed),
        .blocks = model_guest_blocks(guest),
        .dirty = g_malloc(guest->n_pages),
        .precopied = g_malloc0(guest->n_pages),
        .n_dirty = guest->n_pages,
        .package = g_byte_array_new(),
        .foreign = g_byte_array_new(),
        .in = qemu_return_new(),
    };
    memset(s->dirty, 1, guest->n_pages);
    g_queue_init(&s->requests);
    for (guint i = 0; i < MODEL_CONNECTIONS; i++)
        writer_begin(&s->writer[i]);
    s->writer[MODEL_MAIN].open = TRUE;
}

void model_source_clear(ModelSource *s)
{
    g_rand_free(s->rand);
    ram_blocks_free(s->blocks);
    g_free(s->dirty);
    g_free(s->precopied);
    g_byte_array_unref(s->package);
    g_byte_array_unref(s->foreign);
    g_queue_clear(&s->requests);
    for (guint i = 0; i < MODEL_CONNECTIONS; i++)
        g_byte_array_unref(s->writer[i].out);
    qemu_return_free(s->in);
    g_free(s->failure);
}

/* ---- elements ---- */

static GByteArray *main_out(ModelSource *s)
{
    return s->writer[MODEL_MAIN].out;
}

static void end_section(ModelSource *s)
{
    ModelWriter *w = &s->writer[MODEL_MAIN];

    if (w->in_section)
        build_end_of_section(w->out);
    w->in_section = FALSE;
}

static void write_record(ModelSource *s, guint connection, const QemuPage *record)
{
    ModelWriter *w = &s->writer[connection];
    gboolean same;

    if (connection == MODEL_MAIN && !w->in_section) {
        qemu_put_section(w->out, QEMU_SECTION_PART, RAM_ID);
        w->in_section = TRUE;
    }
    same = w->last_block == (gint)record->block;
    qemu_put_page(w->out, record, same ? NULL : ram_blocks_get(s->blocks, record->block));
    if (record->data_len > 0)
        g_byte_array_append(w->out, record->data, record->data_len);
    w->last_block = record->block;
}

static void put_record(ModelSource *s, guint connection, guint page, guint version)
{
    guint8 buf[MODEL_RECORD_MAX];
    QemuPage record;

    model_guest_record(s->guest, page, version, buf, &record);
    write_record(s, connection, &record);
}

static void put_delta(ModelSource *s, guint page)
{
    guint8 buf[MODEL_RECORD_MAX];
    QemuPage record;

    model_guest_delta(s->guest, page, s->precopied[page]++, buf, &record);
    write_record(s, MODEL_MAIN, &record);
    s->deltas++;
}

static void put_setup(ModelSource *s)
{
    GByteArray *out = main_out(s);

    qemu_put_header(out, "pc-q35-7.2");
    qemu_put_command(out, QEMU_CMD_OPEN_RETURN_PATH, NULL, 0);
    build_ping(out, 1);
    build_advise(out, model_guest_page_sizes(s->guest), MODEL_PAGE);
    qemu_put_ram_setup(out, RAM_ID, s->blocks, TRUE);
    if (s->preempt == MODEL_PREEMPT_OLD)
        s->writer[MODEL_URGENT].open = TRUE;
    s->phase = s->precopy_pages ? MODEL_PRECOPY : MODEL_SWITCH;
}

static void put_precopy(ModelSource *s)
{
    guint pages = s->delta_percent ? MIN(s->guest->n_pages, 20) : s->guest->n_pages;
    guint page = g_rand_int_range(s->rand, 0, pages);

    if (s->precopied[page] && s->precopied[page] < G_MAXUINT8 && chance(s, s->delta_percent)) {
        put_delta(s, page);
    } else {
        put_record(s, MODEL_MAIN, page, MODEL_OLD);
        s->precopied[page] = 1;
    }
    if (chance(s, 5))
        end_section(s);
    if (--s->precopy_pages == 0)
        s->phase = MODEL_SWITCH;
}

/* Whole host pages: those that were not sent completely, and those the guest has written to. */
static void choose_dirty(ModelSource *s)
{
    guint n, dirtied = g_rand_int_range(s->rand, 0, 100);

    s->n_dirty = 0;
    for (guint host = 0; host < s->guest->n_pages; host += n) {
        gboolean dirty = chance(s, dirtied);

        model_guest_host(s->guest, host, &n);
        for (guint i = 0; i < n; i++)
            dirty |= !s->precopied[host + i];
        memset(s->dirty + host, dirty, n);
        s->n_dirty += dirty ? n : 0;
    }
}

static void put_discards(ModelSource *s)
{
    guint n, at = 0, pages = s->guest->n_pages;

    while (at < pages) {
        guint block = model_guest_block_of(s->guest, at);

        for (n = 0; at + n < pages && s->dirty[at + n] &&
                    model_guest_block_of(s->guest, at + n) == block;)
            n++;
        if (n > 0)
            build_discard(main_out(s), s->guest->blocks[block].name,
                          model_guest_offset(s->guest, at), (guint64)n * MODEL_PAGE);
        at += MAX(n, 1);
    }
}

static void put_switch(ModelSource *s)
{
    end_section(s);
    choose_dirty(s);
    put_discards(s);
    build_ping(main_out(s), 2);
    for (guint i = 0; i < PACKAGE_LEN; i++)
        bytes_put_u8(s->package, g_rand_int(s->rand));
    build_package(main_out(s), s->package->data, s->package->len);
    build_ping(main_out(s), 4);
    if (s->preempt != MODEL_PREEMPT_NONE)
        s->writer[MODEL_URGENT].open = TRUE;
    s->phase = MODEL_POSTCOPY;
}

/* ---- post-copy ---- */

static void begin_host(ModelSource *s, guint connection, guint host)
{
    ModelWriter *w = &s->writer[connection];

    w->host = w->next = model_guest_host(s->guest, host, &w->left);
    for (guint i = 0; i < w->left; i++) {
        s->n_dirty -= s->dirty[host + i];
        s->dirty[host + i] = 0;
    }
}

static void put_next(ModelSource *s, guint connection)
{
    ModelWriter *w = &s->writer[connection];

    put_record(s, connection, w->next++, MODEL_NEW);
    s->sent++;
    if (--w->left == 0 && chance(s, s->duplicate_percent))
        begin_host(s, connection == MODEL_MAIN || !s->writer[MODEL_MAIN].left ? MODEL_MAIN
                                                                             : connection,
                   w->host);
    if (connection == MODEL_MAIN && g_rand_int_range(s->rand, 0, SECTION_PAGES) == 0)
        end_section(s);
}

/* Only what is still dirty; what is under way on the main connection goes on there. */
static gboolean next_request(ModelSource *s, guint *ret_host)
{
    while (!g_queue_is_empty(&s->requests)) {
        *ret_host = GPOINTER_TO_UINT(g_queue_pop_head(&s->requests));
        if (s->dirty[*ret_host])
            return TRUE;
    }
    return FALSE;
}

static gboolean next_dirty(ModelSource *s, guint *ret_host)
{
    guint n;

    if (s->n_dirty == 0)
        return FALSE;
    while (!s->dirty[s->scan % s->guest->n_pages])
        s->scan++;
    *ret_host = model_guest_host(s->guest, s->scan % s->guest->n_pages, &n);
    return TRUE;
}

/* Nobody knows what it is, nor what follows it. */
static void put_foreign(ModelSource *s)
{
    ModelWriter *w = &s->writer[MODEL_MAIN];

    if (s->foreign_between)
        end_section(s);
    s->foreign_block = w->in_section ? w->last_block : -1;
    if (w->in_section && s->foreign_delta) {
        bytes_put_u64(s->foreign, QEMU_RAM_XBZRLE | QEMU_RAM_CONTINUE);
        bytes_put_u8(s->foreign, 1);
        bytes_put_u16(s->foreign, 100);
    } else if (w->in_section) {
        bytes_put_u64(s->foreign, 0x800);
    } else {
        bytes_put_u8(s->foreign, 0x55);
    }
    for (guint i = 0; i < 5000; i++)
        bytes_put_u8(s->foreign, g_rand_int(s->rand));
    g_byte_array_append(w->out, s->foreign->data, s->foreign->len);
    w->closed = s->writer[MODEL_URGENT].closed = TRUE;
    s->phase = MODEL_ENDED;
}

static void put_end(ModelSource *s)
{
    end_section(s);
    qemu_put_section(main_out(s), QEMU_SECTION_END, RAM_ID);
    build_end_of_section(main_out(s));
    bytes_put_u8(main_out(s), 0);
    if (s->preempt == MODEL_PREEMPT_OLD)
        qemu_put_eos(s->writer[MODEL_URGENT].out);
    s->writer[MODEL_URGENT].closed = TRUE;
    s->phase = MODEL_ENDED;
}

static void put_postcopy(ModelSource *s)
{
    ModelWriter *main = &s->writer[MODEL_MAIN], *urgent = &s->writer[MODEL_URGENT];
    gboolean preempts = s->preempt != MODEL_PREEMPT_NONE;
    guint host;

    if (s->foreign_at && s->sent >= s->foreign_at && !urgent->left &&
        (!main->left || s->foreign_in_host_page)) {
        put_foreign(s);
        return;
    }
    if (preempts && !urgent->left && next_request(s, &host))
        begin_host(s, MODEL_URGENT, host);
    if (urgent->left && (s->preempt == MODEL_PREEMPT_OLD || chance(s, 70))) {
        put_next(s, MODEL_URGENT);
        return;
    }
    if (!main->left && ((!preempts && next_request(s, &host)) || next_dirty(s, &host)))
        begin_host(s, MODEL_MAIN, host);
    if (main->left)
        put_next(s, MODEL_MAIN);
    else if (!urgent->left)
        put_end(s);
}

/* ---- recovery ---- */

static void put_bitmap_commands(ModelSource *s)
{
    for (guint i = 0; i < s->guest->n_blocks; i++)
        build_recv_bitmap(main_out(s), s->guest->blocks[i].name);
    s->bitmaps_left = s->guest->n_blocks;
    memset(s->dirty, 1, s->guest->n_pages);
    if (s->preempt != MODEL_PREEMPT_NONE)
        s->writer[MODEL_URGENT].open = TRUE;
    s->phase = MODEL_BITMAPS;
}

void model_source_resume(ModelSource *s)
{
    for (guint i = 0; i < MODEL_CONNECTIONS; i++)
        writer_begin(&s->writer[i]);
    s->writer[MODEL_MAIN].open = TRUE;
    qemu_return_free(s->in);
    s->in = qemu_return_new();
    g_queue_clear(&s->requests);
    put_bitmap_commands(s);
}

static void put_resume(ModelSource *s)
{
    s->n_dirty = 0;
    for (guint i = 0; i < s->guest->n_pages; i++)
        s->n_dirty += s->dirty[i];
    qemu_put_command(main_out(s), QEMU_CMD_POSTCOPY_RESUME, NULL, 0);
    s->phase = MODEL_RESUMING;
}

gboolean model_source_step(ModelSource *s)
{
    switch (s->phase) {
    case MODEL_SETUP:
        put_setup(s);
        return TRUE;
    case MODEL_PRECOPY:
        put_precopy(s);
        return TRUE;
    case MODEL_SWITCH:
        put_switch(s);
        return TRUE;
    case MODEL_BITMAPS:
        if (s->bitmaps_left > 0)
            return FALSE;
        put_resume(s);
        return TRUE;
    case MODEL_POSTCOPY:
        put_postcopy(s);
        return TRUE;
    case MODEL_ENDED:
        if (!s->shut || s->writer[MODEL_MAIN].closed)
            return FALSE;
        s->writer[MODEL_MAIN].closed = TRUE;
        return TRUE;
    case MODEL_RESUMING:
        break;
    }
    return FALSE;
}

/* ---- what the helper reads ---- */

gsize model_source_output(const ModelSource *s, guint connection, const guint8 **ret_bytes)
{
    const ModelWriter *w = &s->writer[connection];

    if (w->out->len == w->done)
        return 0;
    *ret_bytes = w->out->data + w->done;
    return w->out->len - w->done;
}

void model_source_taken(ModelSource *s, guint connection, gsize len)
{
    ModelWriter *w = &s->writer[connection];

    w->done += len;
    if (w->done == w->out->len) {
        g_byte_array_set_size(w->out, 0);
        w->done = 0;
    }
}

gboolean model_source_at_eof(const ModelSource *s, guint connection)
{
    const ModelWriter *w = &s->writer[connection];

    return w->open && w->closed && w->done == w->out->len;
}

/* ---- the return path ---- */

static void fail(ModelSource *s, const char *why)
{
    if (!s->failure)
        s->failure = g_strdup(why);
}

static void take_request(ModelSource *s, const QemuReturnEvent *event)
{
    guint page, n;

    if (!model_guest_find(s->guest, event->name, event->name_len, event->start, &page)) {
        fail(s, "source QEMU: a request for what is not there");
        return;
    }
    page = model_guest_host(s->guest, page, &n);
    if (event->length != (guint64)n * MODEL_PAGE)
        fail(s, "source QEMU: a request for something else than a host page");
    g_queue_push_tail(&s->requests, GUINT_TO_POINTER(page));
}

static void take_bitmap(ModelSource *s, const QemuReturnEvent *event)
{
    guint first, block;

    if (!model_guest_find(s->guest, event->name, event->name_len, 0, &first)) {
        fail(s, "source QEMU: a bitmap of an unknown block");
        return;
    }
    block = model_guest_block_of(s->guest, first);
    for (gsize i = 0; i < event->raw_len * 8; i++) {
        guint page = first + event->start * 8 + i;

        if (page < s->guest->n_pages && model_guest_block_of(s->guest, page) == block &&
            event->raw[i / 8] >> i % 8 & 1)
            s->dirty[page] = 0;
    }
}

static void take_event(ModelSource *s, const QemuReturnEvent *event)
{
    switch (event->type) {
    case QEMU_RETURN_SHUT:
        s->shut = TRUE;
        if (event->value != 0 || s->phase != MODEL_ENDED)
            fail(s, "source QEMU: SHUT out of place");
        break;
    case QEMU_RETURN_REQ_PAGES:
        take_request(s, event);
        break;
    case QEMU_RETURN_BITMAP_DATA:
        take_bitmap(s, event);
        break;
    case QEMU_RETURN_BITMAP_END:
        s->bitmaps_left--;
        break;
    case QEMU_RETURN_RESUME_ACK:
        if (s->phase != MODEL_RESUMING)
            fail(s, "source QEMU: RESUME_ACK out of place");
        s->phase = MODEL_POSTCOPY;
        break;
    case QEMU_RETURN_UNKNOWN:
        fail(s, event->text);
        break;
    default:
        break;
    }
}

void model_source_on_data(ModelSource *s, const guint8 *bytes, gsize len)
{
    QemuReturnEvent event;

    do {
        gsize n = qemu_return_read(s->in, bytes, len, &event);

        bytes += n;
        len -= n;
        if (event.type != QEMU_RETURN_MORE)
            take_event(s, &event);
    } while (len > 0 || event.type != QEMU_RETURN_MORE);
}
