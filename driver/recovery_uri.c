/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/recovery_uri.h"

#include <string.h>

#define SCHEME "postcopy+recover:"
#define PREFIX SCHEME "///system?session="

char *recovery_uri_format(const guint8 session[MIGRATION_SESSION_LEN])
{
    g_autoptr(GString) text = g_string_new(PREFIX);

    for (gsize i = 0; i < MIGRATION_SESSION_LEN; i++)
        g_string_append_printf(text, "%02x", session[i]);
    return g_strdup(text->str);
}

gboolean recovery_uri_is(const char *text)
{
    return g_ascii_strncasecmp(text, SCHEME, strlen(SCHEME)) == 0;
}

gboolean recovery_uri_parse(const char *text, guint8 ret_session[MIGRATION_SESSION_LEN])
{
    const char *hex;

    if (!g_str_has_prefix(text, PREFIX))
        return FALSE;
    hex = text + strlen(PREFIX);
    if (strlen(hex) != 2 * MIGRATION_SESSION_LEN ||
        strspn(hex, "0123456789abcdef") != 2 * MIGRATION_SESSION_LEN)
        return FALSE;
    for (gsize i = 0; i < MIGRATION_SESSION_LEN; i++)
        ret_session[i] = (guint8)(g_ascii_xdigit_value(hex[2 * i]) << 4 |
                                  g_ascii_xdigit_value(hex[2 * i + 1]));
    return TRUE;
}
