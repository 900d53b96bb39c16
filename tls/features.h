/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bits of HELLO's features, and their names for users: what both sides have is spoken. Pure. */
#pragma once

#include <glib.h>

#define SESSION_FEATURE_RAM (G_GUINT64_CONSTANT(1) << 0)  /* PHASE to REQUEST, preempt channel */
#define SESSION_FEATURE_ZSTD (G_GUINT64_CONSTANT(1) << 1) /* PAGES may be compressed with it */
#define SESSION_FEATURE_RESUME (G_GUINT64_CONSTANT(1) << 2) /* lost connections are replaced */
#define SESSION_FEATURE_ZLIB (G_GUINT64_CONSTANT(1) << 3)   /* as ZSTD */
#define SESSION_FEATURE_DISKS (G_GUINT64_CONSTANT(1) << 4)  /* channels that carry disks */

#define SESSION_FEATURE_RUNS (G_GUINT64_CONSTANT(1) << 5)   /* records of several pages in PAGES */
#define SESSION_FEATURE_BULK (G_GUINT64_CONSTANT(1) << 6)   /* bulk channels */
#define SESSION_FEATURE_MAPPED (G_GUINT64_CONSTANT(1) << 7) /* between memory clients, not QEMUs */
#define SESSION_FEATURE_XBZRLE (G_GUINT64_CONSTANT(1) << 8) /* mapped: changes of pages in PAGES */
#define SESSION_FEATURE_COLO (G_GUINT64_CONSTANT(1) << 9)   /* mapped: checkpoints */

/* What PAGES may be compressed with. */
#define SESSION_FEATURES_PACK (SESSION_FEATURE_ZSTD | SESSION_FEATURE_ZLIB)
/* What a session between two QEMUs has not: SESSION_FEATURE_MAPPED, and what means nothing without it. */
#define SESSION_FEATURES_OF_MAPPED \
    (SESSION_FEATURE_MAPPED | SESSION_FEATURE_XBZRLE | SESSION_FEATURE_COLO)
/* What means nothing without SESSION_FEATURE_RAM, and that itself. */
#define SESSION_FEATURES_OF_RAM \
    (SESSION_FEATURE_RAM | SESSION_FEATURES_PACK | SESSION_FEATURE_RUNS | SESSION_FEATURE_BULK | \
     SESSION_FEATURES_OF_MAPPED)
/* What this version can do. */
#define SESSION_FEATURES_ALL \
    (SESSION_FEATURE_RAM | SESSION_FEATURES_PACK | SESSION_FEATURE_RESUME | \
     SESSION_FEATURE_DISKS | SESSION_FEATURE_RUNS | SESSION_FEATURE_BULK | \
     SESSION_FEATURE_MAPPED | SESSION_FEATURE_XBZRLE | SESSION_FEATURE_COLO)

/* The names of those that are known, by their bits: "ram", "zstd", "resume", "zlib", "disks"... The
 * array is the caller's, with a NULL at its end; the names are static. */
const char **session_feature_names(guint64 features);
/* 0: there is none of that name. */
guint64 session_feature_from_name(const char *name);
