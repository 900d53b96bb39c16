/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text of anybody's, for messages that take one line only. */
#pragma once

#include <glib.h>
#include <string.h>

/* A copy that is one line of UTF-8 of at most max bytes, whatever text was (NULL: ""): a control character is '?'
 * for each of its bytes, and what does not fit is left out by whole characters. */
static inline char *one_line(const char *text, gsize max)
{
    char *line = g_utf8_make_valid(text ? text : "", -1);

    for (char *c = line; *c; c = g_utf8_next_char(c))
        if (g_unichar_iscntrl(g_utf8_get_char(c)))
            memset(c, '?', (gsize)(g_utf8_next_char(c) - c));
    if (strlen(line) > max)
        *g_utf8_find_prev_char(line, line + max + 1) = '\0';
    return line;
}
