/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "xml/migrate_features.h"

#include <glib/gi18n.h>

/* tls/features.h has the names, which is beside this folder. */
#define FEATURE_RAM "ram"
#define FEATURE_RESUME "resume"
#define FEATURE_DISKS "disks"

const char **migrate_features_asked(const MigrateWishes *wishes, gboolean compresses_by_default)
{
    const MigrateCompression *c = &wishes->compression;
    GPtrArray *names = g_ptr_array_new();

    g_ptr_array_add(names, (gpointer)FEATURE_RAM);
    g_ptr_array_add(names, (gpointer)FEATURE_RESUME);
    for (const char *const *method = c->methods; *method; method++)
        g_ptr_array_add(names, (gpointer)*method);
    if (c->wish == MIGRATE_COMPRESSION_UNSAID && compresses_by_default)
        g_ptr_array_add(names, (gpointer)MIGRATE_METHOD_ZSTD);
    if (wishes->disks)
        g_ptr_array_add(names, (gpointer)FEATURE_DISKS);
    if (wishes->bulk)
        g_ptr_array_add(names, (gpointer)MIGRATE_FEATURE_BULK);
    g_ptr_array_add(names, NULL);
    return (const char **)g_ptr_array_free(names, FALSE);
}

char *migrate_features_describe(const char *const *asked, const char *const *effective)
{
    g_autofree char *have = g_strjoinv(", ", (char **)effective);
    g_autoptr(GString) text = g_string_new(*have ? have : "none");
    const char *before = _("; asked for and not to be had: ");

    for (const char *const *name = asked; *name; name++) {
        if (g_strv_contains(effective, *name))
            continue;
        g_string_append(text, before);
        g_string_append(text, *name);
        before = ", ";
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
