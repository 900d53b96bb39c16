/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/text.h"

#include <glib/gi18n.h>

static gsize char_width(gunichar c)
{
    if (g_unichar_iszerowidth(c))
        return 0;
    return g_unichar_iswide(c) ? 2 : 1;
}

gsize text_width(const char *text)
{
    gsize width = 0;

    for (const char *p = text; *p; p = g_utf8_next_char(p))
        width += char_width(g_utf8_get_char(p));
    return width;
}

/* Names come from other hosts: none of them gets to talk to the terminal. */
static char *tame(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_new(NULL);

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        switch (g_unichar_type(c)) {
        case G_UNICODE_CONTROL:
        case G_UNICODE_FORMAT:
        case G_UNICODE_LINE_SEPARATOR:
        case G_UNICODE_PARAGRAPH_SEPARATOR:
            g_string_append_c(out, '?');
            break;
        default:
            g_string_append_unichar(out, c);
        }
    }
    return g_string_free(out, FALSE);
}

/* As much of text as fits into columns, and how many of them it takes. */
static char *cut(const char *text, gsize columns, gsize *ret_width)
{
    const char *p = text;
    gsize width = 0;

    for (; *p; p = g_utf8_next_char(p)) {
        gsize next = char_width(g_utf8_get_char(p));

        if (width + next > columns)
            break;
        width += next;
    }
    *ret_width = width;
    return g_strndup(text, (gsize)(p - text));
}

char *text_fit(const char *text, gsize columns, gboolean right)
{
    g_autofree char *tamed = tame(text);
    gsize width = text_width(tamed);
    g_autofree char *shown = NULL, *padding = NULL;

    if (width <= columns) {
        shown = g_steal_pointer(&tamed);
    } else if (columns == 0) {
        shown = g_strdup("");
        width = 0;
    } else {
        g_autofree char *part = cut(tamed, columns - 1, &width);

        shown = g_strconcat(part, "…", NULL);
        width++;
    }
    padding = g_strnfill(columns - width, ' ');
    return right ? g_strconcat(padding, shown, NULL) : g_strconcat(shown, padding, NULL);
}

/* Three digits are enough: 1.5, 15, 150, 1500. */
static char *scaled(double value, const char *unit)
{
    return g_strdup_printf(value < 9.95 ? "%.1f %s" : "%.0f %s", value, unit);
}

char *text_bytes(guint64 bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    gsize unit = 0;

    if (bytes < 1024)
        return g_strdup_printf("%" G_GUINT64_FORMAT " B", bytes);
    for (value /= 1024; value >= 1023.5 && unit + 1 < G_N_ELEMENTS(units); unit++)
        value /= 1024;
    return scaled(value, units[unit]);
}

char *text_rate(guint64 bytes)
{
    g_autofree char *amount = text_bytes(bytes);

    /* Translators: an amount of data a second, "34 MiB/s" */
    return g_strdup_printf(_("%1$s/s"), amount);
}

char *text_us(guint64 us)
{
    if (us < 1000)
        return g_strdup_printf("%" G_GUINT64_FORMAT " us", us);
    if (us < 999500)
        return scaled((double)us / 1e3, "ms");
    return scaled((double)us / 1e6, "s");
}

char *text_ms(guint64 ms)
{
    return ms > G_MAXUINT64 / 1000 ? text_us(G_MAXUINT64) : text_us(ms * 1000);
}

char *text_duration(guint64 seconds)
{
    guint64 hours = seconds / 3600;
    guint minutes = (guint)(seconds / 60 % 60), rest = (guint)(seconds % 60);

    if (hours > 0)
        return g_strdup_printf("%" G_GUINT64_FORMAT ":%02u:%02u", hours, minutes, rest);
    return g_strdup_printf("%u:%02u", minutes, rest);
}
