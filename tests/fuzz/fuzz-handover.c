/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages of memory clients. The first byte: how many descriptors came along. */
#include "config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "client/handover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted is the same when it is written anew, byte for byte: but for what another
 * version says. */
static void write_again(HandoverMessage *message, const uint8_t *data, size_t size)
{
    uint8_t *again = malloc(HANDOVER_MESSAGE_MAX);

    if (message->type == HANDOVER_HELLO && message->hello.version != HANDOVER_VERSION) {
        free(again);
        return;
    }
    assert(handover_encode(message, again) == size);
    assert(memcmp(again, data, size) == 0);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HandoverMessage *message;
    char error[HANDOVER_ERROR_MAX] = "";
    uint8_t *copy;

    if (size < 1 || size > HANDOVER_MESSAGE_MAX)
        return 0;
    /* Its own piece of memory, so that a read beyond the end is seen. */
    copy = malloc(size - 1 ? size - 1 : 1);
    memcpy(copy, data + 1, size - 1);
    message = calloc(1, sizeof *message);
    if (handover_decode(copy, size - 1, data[0] % 80, message, error))
        write_again(message, copy, size - 1);
    else
        assert(strlen(error) > 0 && strlen(error) < HANDOVER_ERROR_MAX);
    free(message);
    free(copy);
    return 0;
}
