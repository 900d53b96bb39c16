/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bodies of the frames of mapped sessions: the first byte chooses which. What is taken is what
 * its encoder would make. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "ram/mapped/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const GByteArray *made, GBytes *body)
{
    gsize len;
    const guint8 *bytes = g_bytes_get_data(body, &len);

    g_assert(made->len == len && (len == 0 || memcmp(made->data, bytes, len) == 0));
}

static void try_blocks(GBytes *body)
{
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    g_autoptr(GArray) flags = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autoptr(GByteArray) made = g_byte_array_new();
    MappedBeginning beginning;

    if (!mapped_blocks_body_decode(body, blocks, flags, &beginning, NULL))
        return;
    g_assert(flags->len == ram_blocks_count(blocks));
    g_assert(mapped_blocks_body_encode(made, blocks, (const guint32 *)(gpointer)flags->data,
                                       beginning, FRAME_PAGES_MAX));
    /* Without blocks there are no flags, and then the encoder makes QEMU's form, which is the
     * same. */
    check_same(made, body);
}

static void try_discard(GBytes *body)
{
    g_autoptr(GByteArray) made = g_byte_array_new();
    DiscardBody discard;

    if (!discard_body_decode(body, &discard, NULL))
        return;
    discard_body_encode(made, &discard);
    check_same(made, body);
}

static void try_received(GBytes *body)
{
    g_autoptr(GByteArray) made = g_byte_array_new();
    ReceivedBody received;

    if (!received_body_decode(body, &received, NULL))
        return;
    received_body_encode(made, &received);
    check_same(made, body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) body = NULL;
    MappedPhase phase;

    if (size == 0 || size > FRAME_PAGES_MAX)
        return 0;
    body = g_bytes_new(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        try_blocks(body);
        break;
    case 1:
        try_discard(body);
        break;
    case 2:
        try_received(body);
        break;
    default:
        mapped_phase_body_decode(body, &phase, NULL);
    }
    return 0;
}
