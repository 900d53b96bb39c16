/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zlib (RFC 1950) around the records of a PAGES, both ways. The streams are made once and reset for each
 * body. */
#include "config.h"

#define ZLIB_CONST
#include <glib/gi18n.h>
#include <zlib.h>

#include "ram/job_limits.h"
#include "ram/page_frames_priv.h"
#include "ram/pages_codec.h"

/* ---- packing ---- */

static gpointer packer_new(int level)
{
    z_stream *stream = g_new0(z_stream, 1);

    if (deflateInit(stream, level) != Z_OK)
        g_error("zlib: %s", stream->msg ? stream->msg : "out of memory");
    return stream;
}

static void packer_free(gpointer packer)
{
    deflateEnd(packer);
    g_free(packer);
}

static gsize bound(gpointer packer, gsize len)
{
    return deflateBound(packer, len);
}

static gsize pack(gpointer packer, const guint8 *plain, gsize len, guint8 *out, gsize room)
{
    z_stream *stream = packer;

    if (deflateReset(stream) != Z_OK)
        return 0;
    stream->next_in = plain;
    stream->avail_in = len;
    stream->next_out = out;
    stream->avail_out = room;
    return deflate(stream, Z_FINISH) == Z_STREAM_END ? room - stream->avail_out : 0;
}

/* ---- unpacking ---- */

static gpointer unpacker_new(void)
{
    z_stream *stream = g_new0(z_stream, 1);

    if (inflateInit(stream) != Z_OK)
        g_error("zlib: %s", stream->msg ? stream->msg : "out of memory");
    return stream;
}

static void unpacker_free(gpointer unpacker)
{
    inflateEnd(unpacker);
    g_free(unpacker);
}

/* The stream did not end where it should: why. */
static gboolean refuse(const z_stream *stream, int ret, gsize plain_len, GError **error)
{
    switch (ret) {
    case Z_NEED_DICT:
        return ram_bad_field(error, _("PAGES: zlib data needs a dictionary"));
    case Z_DATA_ERROR:
        return ram_bad_field(error, _("PAGES: zlib data is damaged: %s"),
                             stream->msg ? stream->msg : "-");
    case Z_OK:
    case Z_BUF_ERROR:
        if (stream->avail_in == 0)
            return ram_bad_field(error, _("PAGES: zlib data is cut off"));
        return ram_bad_field(error, _("PAGES: zlib data of more plain bytes than plain length, %zu"),
                             plain_len);
    default:
        return ram_bad_field(error, _("PAGES: zlib data cannot be unpacked: error %d"), ret);
    }
}

static gboolean unpack(gpointer unpacker, const guint8 *bytes, gsize len, guint8 *plain,
                       gsize plain_len, GError **error)
{
    z_stream *stream = unpacker;
    int ret;

    if (inflateReset(stream) != Z_OK)
        g_error("zlib: an unpacker cannot be used again");
    stream->next_in = bytes;
    stream->avail_in = len;
    stream->next_out = plain;
    stream->avail_out = plain_len;
    ret = inflate(stream, Z_FINISH);
    if (ret != Z_STREAM_END)
        return refuse(stream, ret, plain_len, error);
    if (stream->avail_out > 0)
        return ram_bad_field(error, _("PAGES: zlib data of %zu plain bytes, plain length is %zu"),
                             plain_len - stream->avail_out, plain_len);
    return stream->avail_in == 0 ||
           ram_bad_field(error, _("PAGES: %u bytes too many after zlib data"), stream->avail_in);
}

const PagesCodec pages_codec_zlib = {
    .level_min = JOB_ZLIB_LEVEL_MIN,
    .level_max = JOB_ZLIB_LEVEL_MAX,
    .packer_new = packer_new,
    .packer_free = packer_free,
    .bound = bound,
    .pack = pack,
    .unpacker_new = unpacker_new,
    .unpacker_free = unpacker_free,
    .unpack = unpack,
};
