/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The terminal that a live view is drawn on: another screen, without cursor, keys as they are
 * pressed. However the program ends, the terminal is as it was before; only SIGKILL is beyond that. */
#pragma once

#include <glib.h>

typedef struct Terminal Terminal;

/* NULL: standard input or output is no terminal that can be drawn on. One at a time. */
Terminal *terminal_new(GError **error);
void terminal_free(Terminal *terminal); /* gives the terminal back */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Terminal, terminal_free)

void terminal_size(const Terminal *terminal, gsize *ret_columns, gsize *ret_rows);

/* A list of TopLine, from the top; what was there is gone. */
void terminal_draw(Terminal *terminal, const GPtrArray *lines);

/* Stops the program, as Ctrl-Z does, and returns when it is continued. */
void terminal_suspend(Terminal *terminal);
