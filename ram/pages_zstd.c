/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zstd around the records of a PAGES, both ways. The context and the buffers are made once. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>
#include <zstd.h>

#include "ram/page_frames_priv.h"

/* ---- packing ---- */

struct PagesCompressor {
    ZSTD_CCtx *context;
    guint8 *scratch; /* as large as zstd's output can be: it is quicker when it need not watch */
    gsize scratch_len;
};

PagesCompressor *pages_compressor_new(int level)
{
    PagesCompressor *compressor = g_new0(PagesCompressor, 1);

    compressor->context = ZSTD_createCCtx();
    if (!compressor->context)
        g_error("zstd: out of memory");
    ZSTD_CCtx_setParameter(compressor->context, ZSTD_c_compressionLevel, level);
    compressor->scratch_len = ZSTD_compressBound(PAGES_PLAIN_MAX);
    compressor->scratch = g_malloc(compressor->scratch_len);
    return compressor;
}

void pages_compressor_free(PagesCompressor *compressor)
{
    if (!compressor)
        return;
    ZSTD_freeCCtx(compressor->context);
    g_free(compressor->scratch);
    g_free(compressor);
}

guint8 *pages_compress(PagesCompressor *compressor, const guint8 *plain_body, gsize plain_body_len,
                       gsize reserve, gsize *ret_body_len)
{
    gsize plain_len = plain_body_len - PAGES_HEAD_LEN;
    guint8 *bytes, *head;
    size_t len;

    g_return_val_if_fail(plain_body_len > PAGES_HEAD_LEN && plain_len <= PAGES_PLAIN_MAX, NULL);
    len = ZSTD_compress2(compressor->context, compressor->scratch, compressor->scratch_len,
                         plain_body + PAGES_HEAD_LEN, plain_len);
    if (ZSTD_isError(len) || PAGES_HEAD_LEN + len > plain_body_len - plain_body_len / 16)
        return NULL;

    bytes = g_malloc(reserve + PAGES_HEAD_LEN + len);
    head = bytes + reserve;
    memcpy(head, plain_body, PAGES_HEAD_LEN);
    head[0] = PAGES_ZSTD;
    memcpy(head + PAGES_HEAD_LEN, compressor->scratch, len);
    *ret_body_len = PAGES_HEAD_LEN + len;
    return bytes;
}

/* ---- unpacking ---- */

struct PagesUnpacker {
    ZSTD_DCtx *context;
    guint8 *plain; /* PAGES_PLAIN_MAX */
};

PagesUnpacker *pages_unpacker_new(void)
{
    PagesUnpacker *unpacker = g_new0(PagesUnpacker, 1);

    unpacker->context = ZSTD_createDCtx();
    if (!unpacker->context)
        g_error("zstd: out of memory");
    unpacker->plain = g_malloc(PAGES_PLAIN_MAX);
    return unpacker;
}

void pages_unpacker_free(PagesUnpacker *unpacker)
{
    if (!unpacker)
        return;
    ZSTD_freeDCtx(unpacker->context);
    g_free(unpacker->plain);
    g_free(unpacker);
}

/* Only today's format: the library may also know old ones, and frames that hold nothing. */
static gboolean check_one_frame(const guint8 *bytes, gsize len, gsize plain_len, GError **error)
{
    guint32 magic = GUINT32_TO_LE(ZSTD_MAGICNUMBER);
    unsigned long long content;
    size_t frame_len;

    if (len < sizeof magic || memcmp(bytes, &magic, sizeof magic) != 0)
        return ram_bad_field(error, _("PAGES: zstd data does not begin with a zstd frame"));
    content = ZSTD_getFrameContentSize(bytes, len);
    if (content == ZSTD_CONTENTSIZE_ERROR)
        return ram_bad_field(error, _("PAGES: zstd data is damaged: bad frame header"));
    if (content == ZSTD_CONTENTSIZE_UNKNOWN)
        return ram_bad_field(error, _("PAGES: zstd data does not tell its plain length"));
    if (content != plain_len)
        return ram_bad_field(error, _("PAGES: zstd data of %llu plain bytes, plain length is %zu"),
                             content, plain_len);
    frame_len = ZSTD_findFrameCompressedSize(bytes, len);
    if (ZSTD_isError(frame_len))
        return ram_bad_field(error, _("PAGES: zstd data is damaged: %s"),
                             ZSTD_getErrorName(frame_len));
    return frame_len == len ||
           ram_bad_field(error, _("PAGES: %zu bytes too many after zstd data"), len - frame_len);
}

const guint8 *pages_unpack(PagesUnpacker *unpacker, const guint8 *bytes, gsize len,
                           gsize plain_len, GError **error)
{
    size_t ret;

    g_return_val_if_fail(plain_len <= PAGES_PLAIN_MAX, NULL);
    if (!check_one_frame(bytes, len, plain_len, error))
        return NULL;
    ret = ZSTD_decompressDCtx(unpacker->context, unpacker->plain, plain_len, bytes, len);
    if (ZSTD_isError(ret) || ret != plain_len) {
        ram_bad_field(error, _("PAGES: zstd data is damaged: %s"), ZSTD_getErrorName(ret));
        return NULL;
    }
    return unpacker->plain;
}
