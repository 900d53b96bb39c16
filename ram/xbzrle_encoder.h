/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the source of a mapped session makes of a page that goes out before the switch-over: a
 * difference where that is shorter, and the counters that QEMU shows for it. Holds the cache. One
 * thread.
 *
 * Everything that is sent while it is in use goes through it, zero pages as well: a cached page must
 * be what the destination has. */
#pragma once

#include <gio/gio.h>

#include "ram/xbzrle.h"

typedef struct {
    guint64 cache_bytes;   /* the size it is set to, a power of two of pages */
    guint64 pages;         /* sent as differences; those that had none are among them */
    guint64 bytes;         /* of differences */
    guint64 misses;        /* pages that were not in the cache */
    guint64 overflow;      /* pages whose difference was not shorter than they */
    double miss_rate;      /* of the last period: misses / pages looked at */
    double encoding_rate;  /* of the last period: bytes of pages / what was sent for them; 0: none */
} XbzrleStats;

typedef struct XbzrleEncoder XbzrleEncoder;

/* Sizes and errors as page_cache_new()'s; page_size at most XBZRLE_PAGE_MAX. */
XbzrleEncoder *xbzrle_encoder_new(guint64 cache_bytes, gsize page_size, GError **error);
void xbzrle_encoder_free(XbzrleEncoder *encoder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XbzrleEncoder, xbzrle_encoder_free)

/* A page that is to be sent in that round (0 is the first). The guest may write to data meanwhile:
 * the encoder takes one copy of it, and sends and remembers just that.
 *   XBZRLE_DELTA: *ret_data, *ret_len are the difference;
 *   XBZRLE_UNCHANGED: nothing to send, the destination has it;
 *   XBZRLE_OVERFLOW: *ret_data is the copy, a whole page: send that, and not data.
 * *ret_data is good until the next call. */
XbzrleResult xbzrle_encoder_page(XbzrleEncoder *encoder, guint block, guint64 offset,
                                 const guint8 *data, guint64 round, const guint8 **ret_data,
                                 gsize *ret_len);

/* It is sent as a zero page: the next difference is to that. */
void xbzrle_encoder_zero_page(XbzrleEncoder *encoder, guint block, guint64 offset, guint64 round);

/* The page is not as it was sent any more (discarded at the destination, or a frame of it was
 * lost). */
void xbzrle_encoder_forget(XbzrleEncoder *encoder, guint block, guint64 offset);

/* At any time, also in the midst of a round. */
gboolean xbzrle_encoder_resize(XbzrleEncoder *encoder, guint64 cache_bytes, GError **error);

/* Ends a period: the rates are of what came since the last call. Once a round. */
void xbzrle_encoder_end_period(XbzrleEncoder *encoder);
void xbzrle_encoder_stats(const XbzrleEncoder *encoder, XbzrleStats *ret_stats);
