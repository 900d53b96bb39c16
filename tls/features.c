/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tls/features.h"

static const struct {
    guint64 bit;
    const char *name;
} known[] = {
    { SESSION_FEATURE_RAM, "ram" },       { SESSION_FEATURE_ZSTD, "zstd" },
    { SESSION_FEATURE_RESUME, "resume" }, { SESSION_FEATURE_ZLIB, "zlib" },
    { SESSION_FEATURE_DISKS, "disks" },   { SESSION_FEATURE_RUNS, "runs" },
    { SESSION_FEATURE_BULK, "bulk" },     { SESSION_FEATURE_MAPPED, "mapped" },
    { SESSION_FEATURE_XBZRLE, "xbzrle" }, { SESSION_FEATURE_COLO, "colo" },
};

const char **session_feature_names(guint64 features)
{
    const char **names = g_new0(const char *, G_N_ELEMENTS(known) + 1);
    gsize n = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        if (features & known[i].bit)
            names[n++] = known[i].name;
    }
    return names;
}

guint64 session_feature_from_name(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        if (g_str_equal(name, known[i].name))
            return known[i].bit;
    }
    return 0;
}
