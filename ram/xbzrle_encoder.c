/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/xbzrle_encoder.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#include "ram/blocks.h"
#include "ram/page_cache.h"

/* What one period counts. */
typedef struct {
    guint64 looked_at;
    guint64 misses;
    guint64 plain;   /* bytes of pages that were in the cache */
    guint64 encoded; /* what is sent for them */
} Period;

struct XbzrleEncoder {
    PageCache *cache;
    gsize page_size;
    guint8 *copy;  /* of the page, while the guest may write to it */
    guint8 *delta;
    XbzrleStats stats;
    Period period;
};

XbzrleEncoder *xbzrle_encoder_new(guint64 cache_bytes, gsize page_size, GError **error)
{
    g_autoptr(XbzrleEncoder) encoder = NULL;
    PageCache *cache;

    if (page_size > XBZRLE_PAGE_MAX) {
        g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                    _("XBZRLE has no differences of pages of %zu bytes; the largest are of 8192"),
                    page_size);
        return NULL;
    }
    cache = page_cache_new(cache_bytes, page_size, error);
    if (!cache)
        return NULL;
    encoder = g_new0(XbzrleEncoder, 1);
    encoder->cache = cache;
    encoder->page_size = page_size;
    encoder->copy = g_malloc(page_size);
    encoder->delta = g_malloc(page_size);
    encoder->stats.cache_bytes = page_cache_capacity(cache) * page_size;
    return g_steal_pointer(&encoder);
}

void xbzrle_encoder_free(XbzrleEncoder *encoder)
{
    if (!encoder)
        return;
    page_cache_free(encoder->cache);
    g_free(encoder->copy);
    g_free(encoder->delta);
    g_free(encoder);
}

static XbzrleResult send_copy(XbzrleEncoder *encoder, const guint8 **ret_data, gsize *ret_len)
{
    *ret_data = encoder->copy;
    *ret_len = encoder->page_size;
    return XBZRLE_OVERFLOW;
}

static void count(XbzrleEncoder *encoder, XbzrleResult result, gsize len)
{
    Period *period = &encoder->period;

    period->plain += encoder->page_size;
    switch (result) {
    case XBZRLE_OVERFLOW:
        encoder->stats.overflow++;
        period->encoded += encoder->page_size;
        return;
    case XBZRLE_DELTA:
        encoder->stats.bytes += len;
        period->encoded += len;
        break;
    case XBZRLE_UNCHANGED:
        break;
    }
    encoder->stats.pages++;
}

XbzrleResult xbzrle_encoder_page(XbzrleEncoder *encoder, guint block, guint64 offset,
                                 const guint8 *data, guint64 round, const guint8 **ret_data,
                                 gsize *ret_len)
{
    guint8 *before = page_cache_get(encoder->cache, block, offset, round);
    XbzrleResult result;
    gsize len = 0;

    memcpy(encoder->copy, data, encoder->page_size);
    encoder->period.looked_at++;
    if (!before) {
        encoder->stats.misses++;
        encoder->period.misses++;
        page_cache_insert(encoder->cache, block, offset, encoder->copy, round);
        return send_copy(encoder, ret_data, ret_len);
    }
    result = xbzrle_encode(before, encoder->copy, encoder->page_size, encoder->delta,
                           encoder->page_size - 1, &len);
    count(encoder, result, len);
    if (result == XBZRLE_UNCHANGED)
        return result;
    memcpy(before, encoder->copy, encoder->page_size);
    if (result == XBZRLE_OVERFLOW)
        return send_copy(encoder, ret_data, ret_len);
    *ret_data = encoder->delta;
    *ret_len = len;
    return result;
}

void xbzrle_encoder_zero_page(XbzrleEncoder *encoder, guint block, guint64 offset, guint64 round)
{
    guint8 *before = page_cache_get(encoder->cache, block, offset, round);

    /* Only what is in it: a page that never has been anything else would take room for nothing. */
    if (before)
        memset(before, 0, encoder->page_size);
}

void xbzrle_encoder_forget(XbzrleEncoder *encoder, guint block, guint64 offset)
{
    page_cache_drop(encoder->cache, block, offset);
}

gboolean xbzrle_encoder_resize(XbzrleEncoder *encoder, guint64 cache_bytes, GError **error)
{
    if (!page_cache_resize(encoder->cache, cache_bytes, error))
        return FALSE;
    encoder->stats.cache_bytes = page_cache_capacity(encoder->cache) * encoder->page_size;
    return TRUE;
}

void xbzrle_encoder_end_period(XbzrleEncoder *encoder)
{
    const Period *period = &encoder->period;

    encoder->stats.miss_rate =
        period->looked_at == 0 ? 0 : (double)period->misses / (double)period->looked_at;
    encoder->stats.encoding_rate =
        period->encoded == 0 ? 0 : (double)period->plain / (double)period->encoded;
    encoder->period = (Period){ 0 };
}

void xbzrle_encoder_stats(const XbzrleEncoder *encoder, XbzrleStats *ret_stats)
{
    *ret_stats = encoder->stats;
}
