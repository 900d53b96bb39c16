/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migration URI that a user gives. */
#include "config.h"

#include <stdint.h>

#include "xml/migration_uri.h"
#include "xml/peer_uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(PeerUri) uri = { 0 };

    /* What was accepted can stand in the daemons' own. */
    if (peer_uri_parse(text, &uri, NULL))
        g_assert(migration_uri_host_is_valid(uri.host));
    return 0;
}
