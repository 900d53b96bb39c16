/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the codecs of RAM's frames share; for them alone. */
#pragma once

#include "ram/page_frames.h"

/* Both set RAM_ERROR_PROTOCOL and return FALSE. */
gboolean ram_bad_field(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* What another unit said about a field of this frame; takes cause. */
gboolean ram_bad_body(GError **error, const char *frame, GError *cause);

/* BLOCKS with a word for each block behind it: flags has one for each; NULL: there is none, as between QEMUs.
 * word: what stands in the place of the section. */
gboolean ram_blocks_encode(GByteArray *body, const RamBlocks *blocks, guint32 word,
                           const guint32 *flags, gsize max);
/* flags: of guint32, or NULL. */
gboolean ram_blocks_decode(GBytes *body, RamBlocks *blocks, guint32 *ret_word, GArray *flags,
                           GError **error);

/* Unpacks the compressed half of a body. One thread. */
typedef struct PagesUnpacker PagesUnpacker;

PagesUnpacker *pages_unpacker_new(void);
void pages_unpacker_free(PagesUnpacker *unpacker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PagesUnpacker, pages_unpacker_free)

/* bytes must be one stream of that encoding (not PAGES_PLAIN) with exactly plain_len bytes in it, which is at
 * most PAGES_PLAIN_MAX. Returns them, valid until the next call; NULL on error. */
const guint8 *pages_unpack(PagesUnpacker *unpacker, PagesEncoding encoding, const guint8 *bytes,
                           gsize len, gsize plain_len, GError **error);
