/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A page as its difference to the version sent before, in QEMU's encoding (docs/qemu-stream.md):
 * pairs of a count of unchanged bytes and a count of changed ones with their bytes, both counts
 * ULEB128 of at most two bytes; only the first unchanged count may be 0, no changed one; unchanged
 * bytes at the end are left out. Pure functions on two pages. */
#pragma once

#include <glib.h>

/* The largest page that two bytes can count. */
#define XBZRLE_PAGE_MAX 16383

typedef enum {
    XBZRLE_DELTA,     /* *ret_len bytes say it */
    XBZRLE_UNCHANGED, /* nothing needs to be sent */
    XBZRLE_OVERFLOW,  /* not shorter than max: send the page itself */
} XbzrleResult;

/* before, now: len bytes each (at most XBZRLE_PAGE_MAX); now must not change meanwhile: what a
 * guest writes to is copied first. out has room for max bytes; a delta is at most that long. */
XbzrleResult xbzrle_encode(const guint8 *before, const guint8 *now, gsize len, guint8 *out,
                           gsize max, gsize *ret_len);

/* Makes the page of len bytes what it is now. FALSE (RAM_ERROR_PROTOCOL, names the byte of the
 * delta): the delta is broken; nothing of page is changed then. */
gboolean xbzrle_decode(const guint8 *delta, gsize delta_len, guint8 *page, gsize len,
                       GError **error);
