/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/model-guest.h"

#include <string.h>

static guint block_pages(const ModelBlock *block)
{
    return block->host_page / MODEL_PAGE * block->host_pages;
}

void model_guest_init(ModelGuest *guest, const ModelBlock *blocks, guint n_blocks, guint32 seed)
{
    g_assert(n_blocks <= MODEL_BLOCKS_MAX);
    *guest = (ModelGuest){ .blocks = blocks, .n_blocks = n_blocks, .seed = seed };
    for (guint i = 0; i < n_blocks; i++) {
        guest->first[i] = guest->n_pages;
        guest->n_pages += block_pages(&blocks[i]);
    }
}

RamBlocks *model_guest_blocks(const ModelGuest *guest)
{
    RamBlocks *blocks = ram_blocks_new();

    for (guint i = 0; i < guest->n_blocks; i++) {
        const ModelBlock *b = &guest->blocks[i];
        guint index;

        if (!ram_blocks_add(blocks, (const guint8 *)b->name, strlen(b->name),
                            b->host_page * b->host_pages, b->host_page, &index, NULL))
            g_error("a model's block cannot be: %s", b->name);
    }
    return blocks;
}

guint64 model_guest_page_sizes(const ModelGuest *guest)
{
    guint64 sizes = 0;

    for (guint i = 0; i < guest->n_blocks; i++)
        sizes |= guest->blocks[i].host_page;
    return sizes;
}

guint model_guest_block_of(const ModelGuest *guest, guint page)
{
    guint i = guest->n_blocks - 1;

    g_assert(page < guest->n_pages);
    while (guest->first[i] > page)
        i--;
    return i;
}

guint64 model_guest_offset(const ModelGuest *guest, guint page)
{
    return (guint64)(page - guest->first[model_guest_block_of(guest, page)]) * MODEL_PAGE;
}

guint model_guest_host(const ModelGuest *guest, guint page, guint *ret_n)
{
    guint block = model_guest_block_of(guest, page);

    *ret_n = guest->blocks[block].host_page / MODEL_PAGE;
    return page - (page - guest->first[block]) % *ret_n;
}

gboolean model_guest_find(const ModelGuest *guest, const char *name, gsize len, guint64 offset,
                          guint *ret_page)
{
    for (guint i = 0; i < guest->n_blocks; i++) {
        const ModelBlock *b = &guest->blocks[i];

        if (strlen(b->name) != len || memcmp(b->name, name, len) != 0)
            continue;
        *ret_page = guest->first[i] + offset / MODEL_PAGE;
        return offset % MODEL_PAGE == 0 && offset / MODEL_PAGE < block_pages(b);
    }
    return FALSE;
}

/* ---- content ---- */

static guint64 mix(guint64 x)
{
    x = (x ^ (x >> 31)) * G_GUINT64_CONSTANT(0x7fb5d329728ea185);
    x = (x ^ (x >> 27)) * G_GUINT64_CONSTANT(0x81dadef4bc2dd44d);
    return x ^ (x >> 33);
}

static void fill(guint8 *buf, gsize len, guint64 seed, guint step)
{
    for (gsize i = 0; i + 8 <= len; i += 8) {
        memcpy(buf + i, &seed, 8);
        seed += step * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
    }
}

void model_guest_record(const ModelGuest *guest, guint page, guint version, guint8 *buf,
                        QemuPage *ret_record)
{
    guint block = model_guest_block_of(guest, page);
    guint64 hash = mix(((guint64)guest->seed << 32) + page * 4 + version);

    *ret_record = (QemuPage){ .block = block, .offset = model_guest_offset(guest, page) };
    if (hash % 100 < guest->blocks[block].zero_percent) {
        ret_record->kind = QEMU_PAGE_ZERO;
        /* Runs of zeros, and a byte that fills a page now and then. */
        ret_record->fill = hash >> 20 & 7 ? 0 : version + (hash >> 24) % 60 * 3;
        return;
    }
    ret_record->data = buf;
    if (guest->compressed && hash >> 8 & 1) {
        ret_record->kind = QEMU_PAGE_COMPRESSED;
        ret_record->data_len = hash >> 16 & 3 ? 16 + (hash >> 20 & 0xff) * 8 : MODEL_PAGE + 8;
    } else {
        ret_record->kind = QEMU_PAGE_RAW;
        ret_record->data_len = MODEL_PAGE;
    }
    fill(buf, ret_record->data_len, hash, hash >> 12 & 1);
}

static gboolean is_full_of(const QemuPage *page, guint8 byte)
{
    return page->data_len == MODEL_PAGE && page->data[0] == byte &&
           memcmp(page->data, page->data + 1, MODEL_PAGE - 1) == 0;
}

gboolean model_guest_is(const ModelGuest *guest, guint page, guint version, const QemuPage *got)
{
    guint8 buf[MODEL_RECORD_MAX];
    QemuPage want;

    model_guest_record(guest, page, version, buf, &want);
    /* Who reads a page does not look for a byte that fills it, if that is not zero. */
    if (want.kind == QEMU_PAGE_ZERO && got->kind == QEMU_PAGE_RAW)
        return is_full_of(got, want.fill);
    if (got->kind != want.kind)
        return FALSE;
    if (want.kind == QEMU_PAGE_ZERO)
        return got->fill == want.fill;
    return got->data_len == want.data_len && memcmp(got->data, want.data, want.data_len) == 0;
}

void model_guest_delta(const ModelGuest *guest, guint page, guint8 from, guint8 *buf,
                       QemuPage *ret_record)
{
    guint64 hash = mix(((guint64)guest->seed << 32) + page * 1024 + from);
    gsize len = 16 + hash % 500 * 8;

    fill(buf, len, hash, 1);
    buf[0] = from;
    *ret_record = (QemuPage){
        .block = model_guest_block_of(guest, page),
        .offset = model_guest_offset(guest, page),
        .kind = QEMU_PAGE_XBZRLE,
        .data = buf,
        .data_len = len,
    };
}

gboolean model_guest_is_delta(const ModelGuest *guest, guint page, const QemuPage *got,
                              guint8 *ret_from)
{
    guint8 buf[MODEL_RECORD_MAX];
    QemuPage want;

    if (got->kind != QEMU_PAGE_XBZRLE || got->data_len == 0)
        return FALSE;
    *ret_from = got->data[0];
    model_guest_delta(guest, page, *ret_from, buf, &want);
    return got->data_len == want.data_len && memcmp(got->data, want.data, want.data_len) == 0;
}
