/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/helper_summary.h"

static guint64 counter(GVariant *statistics, const char *name)
{
    guint64 value = 0;

    g_variant_lookup(statistics, name, "t", &value);
    return value;
}

/* Hundredths, so that no locale has a say in it. */
static guint64 ratio_in_hundredths(guint64 plain, guint64 encoded)
{
    return encoded ? (guint64)((double)plain * 100 / (double)encoded + 0.5) : 100;
}

/* name=ID:VALUE,ID:VALUE */
static void add_pairs(GString *line, const char *name, GVariant *pairs)
{
    GVariantIter iter;
    guint32 id;
    guint64 value;
    char sign = '=';

    if (g_variant_n_children(pairs) == 0)
        return;
    g_string_append_printf(line, " %s", name);
    g_variant_iter_init(&iter, pairs);
    while (g_variant_iter_next(&iter, "(ut)", &id, &value)) {
        g_string_append_printf(line, "%c%u:%" G_GUINT64_FORMAT, sign, id, value);
        sign = ',';
    }
}

void helper_summary_add_statistics(GString *line, GVariant *statistics)
{
    guint64 ratio = ratio_in_hundredths(counter(statistics, "plain-bytes"),
                                        counter(statistics, "encoded-bytes"));
    GVariantIter iter;
    const char *name;
    GVariant *value;

    g_variant_iter_init(&iter, statistics);
    while (g_variant_iter_loop(&iter, "{&sv}", &name, &value)) {
        if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
            g_string_append_printf(line, " %s=%" G_GUINT64_FORMAT, name,
                                   g_variant_get_uint64(value));
        else if (g_variant_is_of_type(value, G_VARIANT_TYPE("a(ut)")))
            add_pairs(line, name, value);
    }
    if (g_variant_lookup(statistics, "compression-method", "&s", &name))
        g_string_append_printf(line, " compression-method=%s", name);
    g_string_append_printf(line, " compression=%" G_GUINT64_FORMAT ".%02" G_GUINT64_FORMAT,
                           ratio / 100, ratio % 100);
}
