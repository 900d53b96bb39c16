/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A difference of a page from a peer. What is taken, our encoder says again, no longer, and it
 * means the same; what is refused changes nothing. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "ram/blocks.h"
#include "ram/xbzrle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGE 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    guint8 before[PAGE], now[PAGE], again[PAGE], delta[PAGE];
    g_autoptr(GError) error = NULL;
    gsize len;

    for (gsize i = 0; i < PAGE; i++)
        before[i] = (guint8)(i * 7);
    memcpy(now, before, PAGE);
    if (!xbzrle_decode(data, size, now, PAGE, &error)) {
        g_assert(g_error_matches(error, RAM_ERROR, RAM_ERROR_PROTOCOL));
        g_assert(memcmp(before, now, PAGE) == 0);
        return 0;
    }
    memcpy(again, before, PAGE);
    switch (xbzrle_encode(before, now, PAGE, delta, PAGE, &len)) {
    case XBZRLE_UNCHANGED:
        g_assert(memcmp(before, now, PAGE) == 0);
        break;
    case XBZRLE_DELTA:
        g_assert(xbzrle_decode(delta, len, again, PAGE, NULL));
        g_assert(memcmp(again, now, PAGE) == 0);
        break;
    case XBZRLE_OVERFLOW:
        break;
    }
    return 0;
}
