/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The migration URI: it comes from another host, by way of a client. */
#include "config.h"

#include "xml/migration_uri.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(MigrationUri) uri = { 0 };
    g_auto(MigrationUri) again = { 0 };
    g_autofree char *written = NULL;

    if (!migration_uri_parse(text, &uri, NULL))
        return 0;
    /* What was accepted is written as it is read. */
    written = migration_uri_format(&uri);
    g_assert(migration_uri_is_ours(text));
    g_assert(migration_uri_parse(written, &again, NULL));
    g_assert_cmpstr(uri.host, ==, again.host);
    g_assert(uri.port == again.port);
    g_assert(memcmp(uri.token, again.token, sizeof uri.token) == 0);
    return 0;
}
