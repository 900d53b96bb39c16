/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What another host's daemon says to a check, and what comes out is said again the same way. */
#include "config.h"

#include "driver/check_answer.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_auto(CheckAnswer) answer = { NULL };
    g_auto(CheckAnswer) again = { NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    if (!check_answer_decode((const char *)data, size, &answer, &error)) {
        g_assert(error && !answer.version);
        return 0;
    }
    text = check_answer_encode(&answer);
    g_assert(check_answer_decode(text, strlen(text), &again, NULL));
    g_assert_cmpstr(again.version, ==, answer.version);
    g_assert(again.time_ms == answer.time_ms);
    g_assert_cmpstr(again.host, ==, answer.host);
    g_assert(again.port == answer.port);
    return 0;
}
