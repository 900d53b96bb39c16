/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What compresses the records of a PAGES, both ways: one table for each method. For ram/pages_*.c alone.
 *
 * A packer and an unpacker are a codec's own; each is used by one thread. */
#pragma once

#include "ram/page_frames.h"

typedef struct {
    int level_min;
    int level_max;
    gpointer (*packer_new)(int level);
    void (*packer_free)(gpointer packer);
    /* What len bytes may become at worst: the packer is given that much room. */
    gsize (*bound)(gpointer packer, gsize len);
    /* Returns the length at out; 0: the library refuses. */
    gsize (*pack)(gpointer packer, const guint8 *plain, gsize len, guint8 *out, gsize room);
    gpointer (*unpacker_new)(void);
    void (*unpacker_free)(gpointer unpacker);
    /* bytes must be one whole stream of exactly plain_len bytes, which is what plain has room for. Errors are
     * ram_bad_field()'s. */
    gboolean (*unpack)(gpointer unpacker, const guint8 *bytes, gsize len, guint8 *plain,
                       gsize plain_len, GError **error);
} PagesCodec;

extern const PagesCodec pages_codec_zstd;
extern const PagesCodec pages_codec_zlib;
