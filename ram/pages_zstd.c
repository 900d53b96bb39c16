/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zstd around the records of a PAGES, both ways. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>
#include <zstd.h>

#include "ram/job_limits.h"
#include "ram/page_frames_priv.h"
#include "ram/pages_codec.h"

/* ---- packing ---- */

static gpointer packer_new(int level)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();

    if (!context)
        g_error("zstd: out of memory");
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    return context;
}

static void packer_free(gpointer packer)
{
    ZSTD_freeCCtx(packer);
}

static gsize bound(gpointer packer, gsize len)
{
    return ZSTD_compressBound(len);
}

static gsize pack(gpointer packer, const guint8 *plain, gsize len, guint8 *out, gsize room)
{
    size_t packed = ZSTD_compress2(packer, out, room, plain, len);

    return ZSTD_isError(packed) ? 0 : packed;
}

/* ---- unpacking ---- */

static gpointer unpacker_new(void)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();

    if (!context)
        g_error("zstd: out of memory");
    return context;
}

static void unpacker_free(gpointer unpacker)
{
    ZSTD_freeDCtx(unpacker);
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

static gboolean unpack(gpointer unpacker, const guint8 *bytes, gsize len, guint8 *plain,
                       gsize plain_len, GError **error)
{
    size_t ret;

    if (!check_one_frame(bytes, len, plain_len, error))
        return FALSE;
    ret = ZSTD_decompressDCtx(unpacker, plain, plain_len, bytes, len);
    if (ZSTD_isError(ret) || ret != plain_len)
        return ram_bad_field(error, _("PAGES: zstd data is damaged: %s"), ZSTD_getErrorName(ret));
    return TRUE;
}

const PagesCodec pages_codec_zstd = {
    .level_min = JOB_ZSTD_LEVEL_MIN,
    .level_max = JOB_ZSTD_LEVEL_MAX,
    .packer_new = packer_new,
    .packer_free = packer_free,
    .bound = bound,
    .pack = pack,
    .unpacker_new = unpacker_new,
    .unpacker_free = unpacker_free,
    .unpack = unpack,
};
