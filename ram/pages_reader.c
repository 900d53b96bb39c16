/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Takes a PAGES apart, page by page. This is on the way of a page that the guest waits for: nothing
 * is allocated or copied for a page. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "ram/page_frames_priv.h"
#include "tls/features.h"
#include "util/bytes.h"

typedef struct {
    guint8 encoding;
    guint32 plain_len;
} PagesHead;

struct PagesReader {
    gsize target_page;
    PagesUnpacker *unpacker;
    guint64 features;   /* agreed on */
    PagesHead head;     /* of the body */
    GBytes *body;       /* that records may point into */
    ByteReader records; /* not taken yet */
    QemuPage run;       /* the next page of a run under way, zero or raw */
    guint32 run_left;   /* pages of that run */
    guint pages;        /* of all records taken */
};

PagesReader *pages_reader_new(gsize target_page)
{
    PagesReader *reader = g_new0(PagesReader, 1);

    reader->target_page = target_page;
    reader->features = SESSION_FEATURES_PACK | SESSION_FEATURE_RUNS;
    reader->unpacker = pages_unpacker_new();
    return reader;
}

void pages_reader_free(PagesReader *reader)
{
    if (!reader)
        return;
    pages_unpacker_free(reader->unpacker);
    g_clear_pointer(&reader->body, g_bytes_unref);
    g_free(reader);
}

void pages_reader_set_features(PagesReader *reader, guint64 features)
{
    reader->features = features;
}

PagesEncoding pages_reader_encoding(const PagesReader *reader, gsize *ret_plain_body_len)
{
    *ret_plain_body_len = PAGES_HEAD_LEN + reader->head.plain_len;
    return (PagesEncoding)reader->head.encoding;
}

static gboolean take_head(ByteReader *r, PagesHead *ret_head, GError **error)
{
    GError *cause = NULL;
    guint8 reserved8;
    guint16 reserved16;

    if (!byte_reader_take_u8(r, "encoding", &ret_head->encoding, &cause) ||
        !byte_reader_take_u8(r, "reserved field", &reserved8, &cause) ||
        !byte_reader_take_u16(r, "reserved field", &reserved16, &cause) ||
        !byte_reader_take_u32(r, "plain length", &ret_head->plain_len, &cause))
        return ram_bad_body(error, "PAGES", cause);
    if (ret_head->encoding >= PAGES_ENCODING_MAX)
        return ram_bad_field(error, _("PAGES: encoding %u is out of range (0 to %d)"),
                             ret_head->encoding, PAGES_ENCODING_MAX - 1);
    if (reserved8 != 0 || reserved16 != 0)
        return ram_bad_field(error, _("PAGES: reserved fields are 0x%02x and 0x%04x, must be 0"),
                             reserved8, reserved16);
    if (ret_head->plain_len == 0 || ret_head->plain_len > PAGES_PLAIN_MAX)
        return ram_bad_field(error, _("PAGES: plain length %u is out of range (1 to %d)"),
                             ret_head->plain_len, PAGES_PLAIN_MAX);
    return TRUE;
}

/* What follows the head, unpacked if need be; it is the reader's or the body's. */
static gboolean take_records(PagesReader *reader, ByteReader *r, GError **error)
{
    const PagesHead *head = &reader->head;
    PagesEncoding encoding = (PagesEncoding)head->encoding;
    const guint8 *plain;

    if (encoding == PAGES_PLAIN)
        return head->plain_len == r->len ||
               ram_bad_field(error, _("PAGES: plain length is %u, but %zu bytes follow"),
                             head->plain_len, r->len);
    if (!(reader->features & pages_encoding_feature(encoding)))
        return ram_bad_field(error, _("PAGES: encoding %s was not agreed on"),
                             pages_encoding_name(encoding));
    plain = pages_unpack(reader->unpacker, encoding, r->data, r->len, head->plain_len, error);
    if (!plain)
        return FALSE;
    *r = byte_reader(plain, head->plain_len);
    return TRUE;
}

gboolean pages_reader_begin(PagesReader *reader, GBytes *body, GError **error)
{
    ByteReader r = byte_reader(g_bytes_get_data(body, NULL), g_bytes_get_size(body));

    g_bytes_ref(body); /* it may be the same again */
    g_clear_pointer(&reader->body, g_bytes_unref);
    reader->body = body;
    reader->records = byte_reader(NULL, 0);
    reader->run_left = reader->pages = 0;

    if (!take_head(&r, &reader->head, error) || !take_records(reader, &r, error))
        return FALSE;
    reader->records = r;
    return TRUE;
}

static gboolean take_record_head(ByteReader *r, QemuPage *ret_page, GError **error)
{
    const guint8 *head;
    guint16 block;
    guint64 offset;

    if (!byte_reader_take(r, "record head", PAGES_RECORD_HEAD_LEN, &head, error))
        return FALSE;
    memcpy(&block, head, sizeof block);
    memcpy(&offset, head + 4, sizeof offset);
    *ret_page = (QemuPage){
        .block = GUINT16_FROM_BE(block),
        .offset = GUINT64_FROM_BE(offset),
        .kind = head[2],
        .fill = head[3],
    };
    return ret_page->fill == 0 || ret_page->kind == QEMU_PAGE_ZERO ||
           ram_bad_field(error, _("record fill is 0x%02x, must be 0"), ret_page->fill);
}

static gboolean take_data(ByteReader *r, QemuPage *page, GError **error)
{
    guint32 length;

    if (!byte_reader_take_u32(r, "record length", &length, error))
        return FALSE;
    if (length == 0)
        return ram_bad_field(error, _("record length is 0"));
    page->data_len = length;
    return byte_reader_take(r, "record data", length, &page->data, error);
}

/* Only the first page's data is the page's. */
static gboolean take_run(ByteReader *r, gsize target_page, QemuPage *page, guint32 *ret_count,
                         GError **error)
{
    if (!byte_reader_take_u32(r, "record page count", ret_count, error))
        return FALSE;
    if (*ret_count < 2)
        return ram_bad_field(error, _("record page count is %u: a run has 2 pages or more"),
                             *ret_count);
    page->kind = QEMU_PAGE_RAW;
    page->data_len = target_page;
    return byte_reader_take(r, "record pages", *ret_count * (guint64)target_page, &page->data,
                            error);
}

static gboolean check_kind(const PagesReader *reader, guint kind, guint64 feature, GError **error)
{
    return (reader->features & feature) ||
           ram_bad_field(error, _("record kind %u was not agreed on"), kind);
}

/* *ret_count: of target pages. */
static gboolean take_record_body(PagesReader *reader, QemuPage *page, guint32 *ret_count,
                                 GError **error)
{
    ByteReader *r = &reader->records;
    guint kind = page->kind;

    *ret_count = 1;
    switch (kind) {
    case QEMU_PAGE_RAW:
        page->data_len = reader->target_page;
        return byte_reader_take(r, "record page", reader->target_page, &page->data, error);
    case QEMU_PAGE_ZERO:
        if (!byte_reader_take_u32(r, "record page count", ret_count, error))
            return FALSE;
        return *ret_count > 0 || ram_bad_field(error, _("record page count is 0"));
    case QEMU_PAGE_XBZRLE:
        return check_kind(reader, kind, SESSION_FEATURE_XBZRLE, error) && take_data(r, page, error);
    case QEMU_PAGE_COMPRESSED:
        return take_data(r, page, error);
    case PAGES_KIND_RUN:
        return check_kind(reader, kind, SESSION_FEATURE_RUNS, error) &&
               take_run(r, reader->target_page, page, ret_count, error);
    default:
        return ram_bad_field(error, _("record kind %u is unknown"), kind);
    }
}

static gboolean check_count(const PagesReader *reader, guint32 count, GError **error)
{
    return count <= PAGES_TARGET_MAX - reader->pages ||
           ram_bad_field(error, _("record page count is %u: more than %d pages in one PAGES"),
                         count, PAGES_TARGET_MAX);
}

static gboolean take_record(PagesReader *reader, const RamBlocks *blocks, QemuPage *ret_page,
                            GError **error)
{
    guint32 count;

    if (!take_record_head(&reader->records, ret_page, error) ||
        !take_record_body(reader, ret_page, &count, error) ||
        !check_count(reader, count, error) ||
        !ram_blocks_check_range(blocks, ret_page->block, ret_page->offset,
                                count * (guint64)reader->target_page, error))
        return FALSE;
    reader->pages += count;
    if (count > 1) {
        reader->run = *ret_page;
        reader->run_left = count - 1;
    }
    return TRUE;
}

guint pages_reader_run_left(const PagesReader *reader)
{
    return reader->run_left;
}

void pages_reader_skip(PagesReader *reader, guint n)
{
    g_return_if_fail(n <= reader->run_left);
    reader->run.offset += (guint64)n * reader->target_page;
    if (reader->run.data)
        reader->run.data += (gsize)n * reader->target_page;
    reader->run_left -= n;
}

static void next_of_run(PagesReader *reader, QemuPage *ret_page)
{
    pages_reader_skip(reader, 1);
    *ret_page = reader->run;
}

gboolean pages_reader_next(PagesReader *reader, const RamBlocks *blocks, QemuPage *ret_page,
                           gboolean *ret_more, GError **error)
{
    GError *cause = NULL;

    *ret_more = reader->run_left > 0 || reader->records.len > 0;
    if (reader->run_left > 0) {
        next_of_run(reader, ret_page);
        return TRUE;
    }
    return !*ret_more || take_record(reader, blocks, ret_page, &cause) ||
           ram_bad_body(error, "PAGES", cause);
}
