/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is there anything in a page? Pure. */
#pragma once

#include <glib.h>
#include <string.h>

#define ZERO_PAGE_HEAD 32

/* len: at least ZERO_PAGE_HEAD. Most pages that are not zeros show it at the beginning; the rest
 * is compared with itself, one step on, which the C library does as fast as memory can be read. */
static inline gboolean zero_page_check(const guint8 *bytes, gsize len)
{
    for (gsize i = 0; i < ZERO_PAGE_HEAD; i++) {
        if (bytes[i] != 0)
            return FALSE;
    }
    return memcmp(bytes, bytes + ZERO_PAGE_HEAD, len - ZERO_PAGE_HEAD) == 0;
}
