/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bodies that open and end a channel. The first byte chooses which. */
#include "config.h"

#include <stdint.h>
#include <string.h>

#include "tls/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static GBytes *body_of(GBytes *frame)
{
    g_autoptr(GBytes) owned = frame;

    return g_bytes_new_from_bytes(owned, FRAME_HEADER_LEN,
                                  g_bytes_get_size(owned) - FRAME_HEADER_LEN);
}

/* What was accepted is accepted again when it is written anew. */
static void try_hello(GBytes *body)
{
    g_auto(HelloBody) hello = { 0 };
    g_auto(HelloBody) again = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) written = NULL;

    if (!hello_body_decode(body, &hello, &error)) {
        g_assert(error && error->domain == HELLO_ERROR);
        return;
    }
    written = body_of(frame_new_hello(&hello));
    g_assert(hello_body_decode(written, &again, NULL));
    g_assert(memcmp(&hello, &again, sizeof hello) == 0);
}

static void try_hello_ack(GBytes *body)
{
    HelloAckBody ack = { 0 }, again = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) written = NULL;

    if (!hello_ack_body_decode(body, &ack, &error)) {
        g_assert(error && error->domain == HELLO_ERROR);
        return;
    }
    written = body_of(frame_new_hello_ack(&ack));
    g_assert(hello_ack_body_decode(written, &again, NULL));
    g_assert(ack.version == again.version && ack.features == again.features &&
             ack.window == again.window && ack.resume == again.resume &&
             ack.resume_seq == again.resume_seq);
}

static void try_error(GBytes *body)
{
    g_auto(ErrorBody) text = { 0 };
    g_auto(ErrorBody) again = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) written = NULL;

    if (!error_body_decode(body, &text, &error)) {
        g_assert(error && error->domain == HELLO_ERROR);
        return;
    }
    g_assert(g_utf8_validate(text.text, -1, NULL) && !strchr(text.text, '\n'));
    written = body_of(frame_new_error(text.code, text.text));
    g_assert(error_body_decode(written, &again, NULL));
    /* A body longer than a frame may carry is cut. */
    if (strlen(text.text) <= FRAME_ERROR_TEXT_MAX)
        g_assert_cmpstr(text.text, ==, again.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(GBytes *) = { try_hello, try_hello_ack, try_error };
    g_autoptr(GBytes) body = NULL;

    if (size < 1)
        return 0;
    body = g_bytes_new(data + 1, size - 1);
    tries[data[0] % G_N_ELEMENTS(tries)](body);
    /* Any text can be sent as an error. */
    if (data[0] & 0x80) {
        g_autofree char *text = g_strndup((const char *)data + 1, size - 1);
        g_autoptr(GBytes) frame = body_of(frame_new_error(1, text));
        g_auto(ErrorBody) back = { 0 };

        g_assert(error_body_decode(frame, &back, NULL));
    }
    return 0;
}
