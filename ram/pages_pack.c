/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PAGES bodies compressed and unpacked, whatever with. What a codec needs is made when it is first used, and
 * kept. */
#include "config.h"

#include <glib/gi18n.h>
#include <string.h>

#include "ram/page_frames_priv.h"
#include "ram/pages_codec.h"
#include "tls/features.h"

static const struct {
    const char *name;
    guint64 feature;
    const PagesCodec *codec; /* NULL: as it is */
} encodings[PAGES_ENCODING_MAX] = {
    [PAGES_PLAIN] = { "none", 0, NULL },
    [PAGES_ZSTD] = { "zstd", SESSION_FEATURE_ZSTD, &pages_codec_zstd },
    [PAGES_ZLIB] = { "zlib", SESSION_FEATURE_ZLIB, &pages_codec_zlib },
};

const char *pages_encoding_name(PagesEncoding encoding)
{
    return encoding < PAGES_ENCODING_MAX ? encodings[encoding].name : "?";
}

PagesEncoding pages_encoding_from_name(const char *name)
{
    gint i = PAGES_PLAIN + 1;

    while (i < PAGES_ENCODING_MAX && !g_str_equal(encodings[i].name, name))
        i++;
    return (PagesEncoding)i;
}

guint64 pages_encoding_feature(PagesEncoding encoding)
{
    return encodings[encoding].feature;
}

PagesEncoding pages_encoding_choose(guint64 features)
{
    if (features & SESSION_FEATURE_ZSTD)
        return PAGES_ZSTD;
    return features & SESSION_FEATURE_ZLIB ? PAGES_ZLIB : PAGES_PLAIN;
}

gboolean pages_levels_check(const PagesLevels *levels, GError **error)
{
    for (gint i = PAGES_PLAIN + 1; i < PAGES_ENCODING_MAX; i++) {
        const PagesCodec *codec = encodings[i].codec;
        int level = levels->of[i];

        if (level < codec->level_min || level > codec->level_max) {
            g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                        _("%s level %d is out of range (%d to %d)"), encodings[i].name, level,
                        codec->level_min, codec->level_max);
            return FALSE;
        }
    }
    return TRUE;
}

/* ---- packing ---- */

struct PagesCompressor {
    PagesLevels levels;
    gpointer packers[PAGES_ENCODING_MAX];
    /* As large as the output can be: a codec is quicker when it need not watch. */
    guint8 *scratch;
    gsize scratch_len;
};

PagesCompressor *pages_compressor_new(const PagesLevels *levels)
{
    PagesCompressor *compressor = g_new0(PagesCompressor, 1);

    compressor->levels = *levels;
    return compressor;
}

void pages_compressor_free(PagesCompressor *compressor)
{
    if (!compressor)
        return;
    for (gint i = 0; i < PAGES_ENCODING_MAX; i++) {
        if (compressor->packers[i])
            encodings[i].codec->packer_free(compressor->packers[i]);
    }
    g_free(compressor->scratch);
    g_free(compressor);
}

static gpointer packer_of(PagesCompressor *compressor, PagesEncoding encoding)
{
    const PagesCodec *codec = encodings[encoding].codec;
    gsize bound;

    if (compressor->packers[encoding])
        return compressor->packers[encoding];
    compressor->packers[encoding] = codec->packer_new(compressor->levels.of[encoding]);
    bound = codec->bound(compressor->packers[encoding], PAGES_PLAIN_MAX);
    if (bound > compressor->scratch_len) {
        compressor->scratch = g_realloc(compressor->scratch, bound);
        compressor->scratch_len = bound;
    }
    return compressor->packers[encoding];
}

guint8 *pages_compress(PagesCompressor *compressor, PagesEncoding encoding,
                       const guint8 *plain_body, gsize plain_body_len, gsize reserve,
                       gsize *ret_body_len)
{
    gsize plain_len = plain_body_len - PAGES_HEAD_LEN;
    guint8 *bytes, *head;
    gpointer packer;
    gsize len;

    g_return_val_if_fail(plain_body_len > PAGES_HEAD_LEN && plain_len <= PAGES_PLAIN_MAX, NULL);
    g_return_val_if_fail(encoding > PAGES_PLAIN && encoding < PAGES_ENCODING_MAX, NULL);
    packer = packer_of(compressor, encoding);
    len = encodings[encoding].codec->pack(packer, plain_body + PAGES_HEAD_LEN, plain_len,
                                          compressor->scratch, compressor->scratch_len);
    if (len == 0 || PAGES_HEAD_LEN + len > plain_body_len - plain_body_len / 16)
        return NULL;

    bytes = g_malloc(reserve + PAGES_HEAD_LEN + len);
    head = bytes + reserve;
    memcpy(head, plain_body, PAGES_HEAD_LEN);
    head[0] = encoding;
    memcpy(head + PAGES_HEAD_LEN, compressor->scratch, len);
    *ret_body_len = PAGES_HEAD_LEN + len;
    return bytes;
}

/* ---- unpacking ---- */

struct PagesUnpacker {
    gpointer unpackers[PAGES_ENCODING_MAX];
    guint8 *plain; /* PAGES_PLAIN_MAX, or NULL: not needed yet */
};

PagesUnpacker *pages_unpacker_new(void)
{
    return g_new0(PagesUnpacker, 1);
}

void pages_unpacker_free(PagesUnpacker *unpacker)
{
    if (!unpacker)
        return;
    for (gint i = 0; i < PAGES_ENCODING_MAX; i++) {
        if (unpacker->unpackers[i])
            encodings[i].codec->unpacker_free(unpacker->unpackers[i]);
    }
    g_free(unpacker->plain);
    g_free(unpacker);
}

const guint8 *pages_unpack(PagesUnpacker *unpacker, PagesEncoding encoding, const guint8 *bytes,
                           gsize len, gsize plain_len, GError **error)
{
    const PagesCodec *codec = encodings[encoding].codec;

    g_return_val_if_fail(codec && plain_len <= PAGES_PLAIN_MAX, NULL);
    if (!unpacker->unpackers[encoding])
        unpacker->unpackers[encoding] = codec->unpacker_new();
    if (!unpacker->plain)
        unpacker->plain = g_malloc(PAGES_PLAIN_MAX);
    return codec->unpack(unpacker->unpackers[encoding], bytes, len, unpacker->plain, plain_len,
                         error)
               ? unpacker->plain
               : NULL;
}
