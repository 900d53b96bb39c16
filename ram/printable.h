/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names that came from outside, for messages. */
#pragma once

#include <glib.h>

/* A copy with anything but printable ASCII replaced by '?'. */
static inline char *printable(const void *name, gsize len)
{
    char *text = g_strndup(name, len);

    for (gsize i = 0; i < len; i++)
        if (!g_ascii_isprint(((const char *)name)[i]))
            text[i] = '?';
    return text;
}
