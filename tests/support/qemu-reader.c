/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/qemu-reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/qemu-build.h"

Reader *reader_new(gboolean preempt)
{
    Reader *r = g_new0(Reader, 1);

    r->blocks = ram_blocks_new();
    if (preempt) {
        ram_blocks_add(r->blocks, (const guint8 *)"pc.ram", 6, MIB, PAGE, NULL, NULL);
        ram_blocks_add(r->blocks, (const guint8 *)"pc.rom", 6, 0x20000, PAGE, NULL, NULL);
    }
    r->stream = preempt ? qemu_stream_new_preempt(r->blocks) : qemu_stream_new(r->blocks);
    r->events = g_string_new(NULL);
    r->unknown = g_string_new(NULL);
    r->raw = g_byte_array_new();
    return r;
}

void reader_free(Reader *r)
{
    qemu_stream_free(r->stream);
    ram_blocks_free(r->blocks);
    g_string_free(r->events, TRUE);
    g_string_free(r->unknown, TRUE);
    g_byte_array_unref(r->raw);
    g_free(r);
}

static guint sum_of(const guint8 *bytes, gsize len)
{
    guint sum = 0;

    for (gsize i = 0; i < len; i++)
        sum = sum * 33 + bytes[i];
    return sum;
}

static void describe_page(GString *out, const QemuPage *page)
{
    static const char *const kinds[] = { "raw", "zero", "xbzrle", "compressed" };

    g_string_append_printf(out, " %u:%" G_GINT64_MODIFIER "x %s", page->block, page->offset,
                           kinds[page->kind]);
    if (page->kind == QEMU_PAGE_ZERO)
        g_string_append_printf(out, " %u", page->fill);
    else if (page->data_len <= 8)
        for (gsize i = 0; i < page->data_len; i++)
            g_string_append_printf(out, " %02x", page->data[i]);
    else
        g_string_append_printf(out, " %zu=%x", page->data_len,
                               sum_of(page->data, page->data_len));
}

static void describe(Reader *r, const QemuEvent *ev)
{
    GString *out = r->events;
    const RamBlock *block;

    g_string_append(out, qemu_event_name(ev->type));
    switch (ev->type) {
    case QEMU_EV_CONFIGURATION:
        g_string_append_printf(out, " %s", ev->name);
        break;
    case QEMU_EV_SECTION:
        assert_true(ev->section.is_ram);
        g_string_append_printf(out, " %u %u '%s'", ev->section.kind, ev->section.id,
                               ev->section.name);
        break;
    case QEMU_EV_BLOCK:
        block = ram_blocks_get(r->blocks, ev->block);
        g_string_append_printf(out, " %u %s %" G_GINT64_MODIFIER "x/%" G_GINT64_MODIFIER "x",
                               ev->block, block->name, block->length, block->page_size);
        break;
    case QEMU_EV_PAGE:
        describe_page(out, &ev->page);
        break;
    case QEMU_EV_COMMAND:
        assert_true(ev->payload >= ev->raw &&
                    ev->payload + ev->payload_len == ev->raw + ev->raw_len);
        g_string_append_printf(out, " %u %zu", (guint)ev->value, ev->payload_len);
        break;
    case QEMU_EV_HEADER:
    case QEMU_EV_MEM_SIZE:
    case QEMU_EV_RECORD:
        g_string_append_printf(out, " %" G_GINT64_MODIFIER "x", ev->value);
        break;
    case QEMU_EV_FOOTER:
        g_string_append_printf(out, " %u", (guint)ev->value);
        break;
    case QEMU_EV_UNKNOWN:
        g_string_append_printf(r->unknown, "%s\n", ev->text);
        break;
    default:
        break;
    }
    g_string_append_c(out, '\n');
}

static gboolean is_piece(QemuEventType type)
{
    return type == QEMU_EV_PACKAGE_DATA || type == QEMU_EV_DESCRIPTION || type == QEMU_EV_OPAQUE;
}

static void take_event(Reader *r, const QemuEvent *ev)
{
    assert_true(ev->type < QEMU_EV_MAX && ev->raw_len > 0);
    build_bytes(r->raw, ev->raw, ev->raw_len);
    if (!is_piece(ev->type) || ev->type != r->last)
        describe(r, ev);
    r->last = ev->type;
    if (ev->type == QEMU_EV_PACKAGE_DATA && ev->last) {
        g_string_append(r->events, "complete\n");
        r->last = QEMU_EV_MORE;
    }
}

void reader_feed(Reader *r, const guint8 *bytes, gsize len)
{
    g_autofree guint8 *input = len > 0 ? g_malloc(len) : NULL;
    gsize done = 0;
    QemuEvent ev = { 0 };

    if (len > 0)
        memcpy(input, bytes, len);
    do {
        gsize n = qemu_stream_read(r->stream, input ? input + done : NULL, len - done, &ev);

        assert_true(n <= len - done);
        done += n;
        if (ev.type == QEMU_EV_MORE)
            assert_true(done == len && ev.raw_len == 0);
        else
            take_event(r, &ev);
    } while (ev.type != QEMU_EV_MORE);
}

void reader_assert_complete(Reader *r, const guint8 *bytes, gsize len)
{
    const guint8 *held;
    gsize n = qemu_stream_held(r->stream, &held);

    assert_true(n <= QEMU_STREAM_HELD_MAX);
    assert_int_equal(r->raw->len + n, len);
    assert_memory_equal(r->raw->data, bytes, r->raw->len);
    assert_memory_equal(held, bytes + r->raw->len, n);
    assert_true(qemu_stream_position(r->stream) == len);
}

Reader *reader_of_pieces(const GByteArray *b, gsize piece, gboolean preempt)
{
    Reader *r = reader_new(preempt);

    for (gsize at = 0; at < b->len;) {
        gsize n = piece > 0 ? piece : 1U + (guint)rand() % (rand() % 2 ? 16 : 6000);

        n = MIN(n, b->len - at);
        reader_feed(r, b->data + at, n);
        at += n;
    }
    reader_assert_complete(r, b->data, b->len);
    return r;
}

Reader *reader_of_whole(const GByteArray *b)
{
    return reader_of_pieces(b, G_MAXUINT, FALSE);
}

/* The data of a page as describe_page() has it. */
static char *page_sum(guint64 offset)
{
    g_autoptr(GByteArray) b = g_byte_array_new();

    build_data(b, offset, PAGE);
    return g_strdup_printf("raw 4096=%x", sum_of(b->data, b->len));
}

void reader_assert_events(Reader *r, const char *expected)
{
    g_auto(GStrv) lines = g_strsplit(expected, "\n", -1);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; lines[i] && *lines[i]; i++) {
        const char *colon = strchr(lines[i], ':');

        g_string_append(text, lines[i]);
        if (g_str_has_prefix(lines[i], "PAGE ") && colon && !strchr(colon, ' ')) {
            g_autofree char *sum = page_sum(g_ascii_strtoull(colon + 1, NULL, 16));

            g_string_append_printf(text, " %s", sum);
        }
        g_string_append_c(text, '\n');
    }
    assert_string_equal(r->events->str, text->str);
}
