/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RAM's section: records, each of which begins with a word of 64 bits, the address of a page in its
 * block and in the bits below it flags. */
#include "config.h"

#include <glib/gi18n.h>
#include <inttypes.h>

#include "ram/printable.h"
#include "ram/qemu_stream_priv.h"

#define PAGE_FLAGS \
    (QEMU_RAM_ZERO | QEMU_RAM_PAGE | QEMU_RAM_XBZRLE | QEMU_RAM_COMPRESS_PAGE)
#define XBZRLE_HEAD 3 /* encoding, length */
#define XBZRLE_ENCODING 1
#define LARGE_PAGE_MIN 8192

/* The longest stream that zlib makes of a page. */
static gsize compressed_max(gsize page)
{
    return page + (page >> 12) + (page >> 14) + (page >> 25) + 13;
}

static ParseResult parse_block_name(QemuStream *s, Cursor *c, guint *ret_block)
{
    const guint8 *name;
    guint8 len;

    if (!cursor_take_name(c, &name, &len))
        return PARSE_MORE;
    if (!ram_blocks_find(s->blocks, name, len, ret_block)) {
        g_autofree char *text = printable(name, len);

        return qemu_stream_bad(s, _("page of the unknown RAM block '%s'"), text);
    }
    return PARSE_DONE;
}

static ParseResult parse_zero(Cursor *c, QemuPage *page)
{
    page->kind = QEMU_PAGE_ZERO;
    page->data = NULL;
    page->data_len = 0;
    return cursor_take_u8(c, &page->fill) ? PARSE_DONE : PARSE_MORE;
}

static ParseResult parse_xbzrle(QemuStream *s, Cursor *c, QemuPage *page, gsize page_size)
{
    const guint8 *head;

    /* A delta needs the page as it was: in post-copy there is none. */
    if (s->postcopy)
        return qemu_stream_bad(s, _("XBZRLE page in post-copy"));
    if (!cursor_take(c, XBZRLE_HEAD, &head))
        return PARSE_MORE;
    page->kind = QEMU_PAGE_XBZRLE;
    page->data_len = load_be16(head + 1);
    if (head[0] != XBZRLE_ENCODING || page->data_len > page_size)
        return qemu_stream_bad(s, _("XBZRLE page with encoding %u and %zu bytes"), head[0],
                               page->data_len);
    return cursor_take(c, page->data_len, &page->data) ? PARSE_DONE : PARSE_MORE;
}

static ParseResult parse_compressed(QemuStream *s, Cursor *c, QemuPage *page, gsize page_size)
{
    guint32 len;

    if (!cursor_take_u32(c, &len))
        return PARSE_MORE;
    if (len > compressed_max(page_size))
        return qemu_stream_bad(s, _("compressed page of %u bytes"), len);
    page->kind = QEMU_PAGE_COMPRESSED;
    page->data_len = len;
    return cursor_take(c, len, &page->data) ? PARSE_DONE : PARSE_MORE;
}

static ParseResult parse_page_data(QemuStream *s, Cursor *c, QemuPage *page, guint flags,
                                   gsize page_size)
{
    switch (flags & PAGE_FLAGS) {
    case QEMU_RAM_PAGE:
        page->kind = QEMU_PAGE_RAW;
        page->data_len = page_size;
        return cursor_take(c, page_size, &page->data) ? PARSE_DONE : PARSE_MORE;
    case QEMU_RAM_ZERO:
        return parse_zero(c, page);
    case QEMU_RAM_XBZRLE:
        return parse_xbzrle(s, c, page, page_size);
    default:
        return parse_compressed(s, c, page, page_size);
    }
}

static ParseResult parse_page(QemuStream *s, Cursor *c, QemuEvent *ev, guint flags, guint64 address)
{
    gsize page_size = ram_blocks_target_page(s->blocks);
    QemuPage *page = &ev->page;
    GError *error = NULL;
    ParseResult result = PARSE_DONE;

    page->block = s->last_block;
    if (!(flags & QEMU_RAM_CONTINUE))
        result = parse_block_name(s, c, &page->block);
    else if (!s->have_block)
        return qemu_stream_bad(s, _("page of the same RAM block as before, but there is none"));
    if (result != PARSE_DONE)
        return result;
    if (!ram_blocks_check_range(s->blocks, page->block, address, page_size, &error))
        return qemu_stream_bad_error(s, error);
    page->offset = address;
    result = parse_page_data(s, c, page, flags, page_size);
    if (result != PARSE_DONE)
        return result;
    s->have_block = TRUE;
    s->last_block = page->block;
    ev->type = QEMU_EV_PAGE;
    return PARSE_DONE;
}

static ParseResult parse_mem_size(QemuStream *s, QemuEvent *ev, guint64 total)
{
    if (s->kind != QEMU_SECTION_START)
        return qemu_stream_bad(s, _("list of RAM blocks outside of the START section"));
    ev->type = QEMU_EV_MEM_SIZE;
    ev->value = total;
    s->list_left = total;
    if (total > 0)
        s->state = STATE_BLOCK_LIST;
    return PARSE_DONE;
}

static ParseResult parse_eos(QemuStream *s, QemuEvent *ev, guint64 address)
{
    if (address != 0)
        return qemu_stream_bad(
            s, _("end of RAM's section with the address 0x%" PRIx64), address);
    ev->type = QEMU_EV_EOS;
    if (s->preempt)
        return PARSE_DONE;
    s->state = STATE_FOOTER;
    if (s->kind == QEMU_SECTION_END)
        s->ram_ended = TRUE;
    return PARSE_DONE;
}

ParseResult qemu_stream_parse_record(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    guint64 below = ram_blocks_target_page(s->blocks) - 1;
    guint64 word, address;
    guint flags;

    if (!cursor_take_u64(c, &word))
        return PARSE_MORE;
    flags = word & below;
    address = word & ~below;
    switch (flags) {
    case QEMU_RAM_PAGE:
    case QEMU_RAM_PAGE | QEMU_RAM_CONTINUE:
    case QEMU_RAM_ZERO:
    case QEMU_RAM_ZERO | QEMU_RAM_CONTINUE:
    case QEMU_RAM_XBZRLE:
    case QEMU_RAM_XBZRLE | QEMU_RAM_CONTINUE:
    case QEMU_RAM_COMPRESS_PAGE:
    case QEMU_RAM_COMPRESS_PAGE | QEMU_RAM_CONTINUE:
        return parse_page(s, c, ev, flags, address);
    case QEMU_RAM_EOS:
        return parse_eos(s, ev, address);
    case QEMU_RAM_MEM_SIZE:
        return parse_mem_size(s, ev, address);
    case QEMU_RAM_FULL:
    case QEMU_RAM_HOOK:
    case QEMU_RAM_MULTIFD_FLUSH:
        ev->type = QEMU_EV_RECORD;
        ev->value = flags;
        return PARSE_DONE;
    default:
        return qemu_stream_bad(s, _("RAM record with the unknown flags 0x%x"), flags);
    }
}

static gboolean is_large_page(const QemuStream *s, guint64 v)
{
    return v >= LARGE_PAGE_MIN && (v & (v - 1)) == 0 && (v & s->page_sizes) == v;
}

/* Blocks of normal pages are written without a page size: it is the smallest of all. */
static guint64 normal_page(const QemuStream *s)
{
    guint64 lowest = s->page_sizes & -s->page_sizes;

    return lowest == 0 ? 0 : MAX(lowest, ram_blocks_target_page(s->blocks));
}

/* Whether a page size follows is not written. What else may follow is a name, which begins with a
 * length that is not 0, or a record, which has flags: at least 8 bytes either way. The last of these
 * goes back to the input, so no record is held back whole, which nothing would bring out again. */
static ParseResult parse_page_size(QemuStream *s, Cursor *c, guint64 *ret_size)
{
    const guint8 *p;

    *ret_size = normal_page(s);
    if (s->page_sizes < LARGE_PAGE_MIN)
        return PARSE_DONE;
    if (!cursor_peek(c, 8, &p))
        return PARSE_MORE;
    if (!is_large_page(s, load_be64(p)))
        return PARSE_DONE;
    if (s->ignore_shared)
        return qemu_stream_bad(s, _("list of RAM blocks with large pages and x-ignore-shared: "
                                    "page sizes and addresses cannot be told apart"));
    *ret_size = load_be64(p);
    c->pos += 8;
    return PARSE_DONE;
}

ParseResult qemu_stream_parse_block(QemuStream *s, Cursor *c, QemuEvent *ev)
{
    guint64 length, page_size, address;
    GError *error = NULL;
    ParseResult result;
    const guint8 *name;
    guint8 len;

    if (!cursor_take_name(c, &name, &len) || !cursor_take_u64(c, &length))
        return PARSE_MORE;
    if (length == 0 || length > s->list_left)
        return qemu_stream_bad(s,
                               _("RAM block of %" PRIu64
                                 " bytes in a list with %" PRIu64 " left"),
                               length, s->list_left);
    result = parse_page_size(s, c, &page_size);
    if (result != PARSE_DONE)
        return result;
    if (s->ignore_shared && !cursor_take_u64(c, &address))
        return PARSE_MORE;
    if (!ram_blocks_add(s->blocks, name, len, length, page_size, &ev->block, &error))
        return qemu_stream_bad_error(s, error);
    s->list_left -= length;
    if (s->list_left == 0)
        s->state = STATE_RECORDS;
    ev->type = QEMU_EV_BLOCK;
    return PARSE_DONE;
}
