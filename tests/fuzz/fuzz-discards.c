/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What passes a destination between PHASE discard and BLOCKS: the same answer in one piece and
 * byte by byte. */
#include "config.h"

#include <stdint.h>

#include "ram/discards.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gboolean read_all(const uint8_t *data, size_t size, size_t step, guint64 *ret_bytes)
{
    g_autoptr(Discards) discards = discards_new();

    for (size_t at = 0; at < size; at += step)
        discards_read(discards, data + at, MIN(step, size - at));
    return discards_bytes(discards, ret_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    guint64 whole = 0, pieces = 0;
    gboolean known = read_all(data, size, size ? size : 1, &whole);

    g_assert(known == read_all(data, size, 1, &pieces));
    g_assert(whole == pieces);
    return 0;
}
