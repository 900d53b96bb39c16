/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers and names as a person reads them in a terminal. Pure. */
#pragma once

#include <glib.h>

/* Columns that it takes in a terminal (wide characters two, combining ones none). */
gsize text_width(const char *text);

/* Exactly so many columns: padded, or cut with "…" at its end. What would move the cursor becomes
 * "?". right: the text stands at the right end. */
char *text_fit(const char *text, gsize columns, gboolean right);

char *text_bytes(guint64 bytes);    /* "512 B", "1.5 KiB", "34 MiB" */
char *text_rate(guint64 bytes);     /* of bytes a second: "34 MiB/s" */
char *text_us(guint64 us);          /* "850 us", "1.2 ms", "34 ms", "2.1 s" */
char *text_ms(guint64 ms);          /* the same of milliseconds */
char *text_duration(guint64 seconds); /* "0:07", "12:34", "1:02:03" */
