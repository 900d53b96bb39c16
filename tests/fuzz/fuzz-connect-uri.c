/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connection URIs: what a client of this daemon gives as the destination. */
#include "config.h"

#include "xml/connect_uri.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(ConnectUri) uri = { 0 };
    g_autoptr(GError) error = NULL;

    if (!connect_uri_parse(text, &uri, &error)) {
        g_assert(error);
        return 0;
    }
    g_assert((uri.transport == CONNECT_TRANSPORT_UNIX) == (uri.host == NULL));
    /* These become arguments of ssh. */
    g_assert(!uri.host || uri.host[0] != '-');
    g_assert(!uri.user || uri.user[0] != '-');
    return 0;
}
