/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The flags and parameters of one call of a post-copy migration, judged by the table
 * (xml/migrate_table.h): whether they can be had, what of them libvirtd is to see, and what is
 * asked of the session in its place. Pure. */
#pragma once

#include <glib.h>

/* The code of such an error is libvirt's virErrorNumber. */
#define MIGRATE_OPTIONS_ERROR (migrate_options_error_quark())
GQuark migrate_options_error_quark(void);

typedef enum {
    MIGRATE_PARAM_TEXT,
    MIGRATE_PARAM_NUMBER, /* of whatever size and sign */
    MIGRATE_PARAM_OTHER,
} MigrateParamType;

typedef struct {
    const char *name;
    MigrateParamType type;
    const char *text;
    gint64 number; /* what is larger is G_MAXINT64 */
} MigrateParam;

/* Lent. */
typedef struct {
    guint64 flags;
    gboolean peer_perform; /* the call that a peer-to-peer migration begins with */
    const MigrateParam *params;
    gsize n_params;
} MigrateAsked;

/* FALSE: the table refuses one of them, or what is asked of the session makes no sense: a method
 * twice, a level that there is not. What libvirtd will see is not judged here. */
gboolean migrate_options_check(const MigrateAsked *asked, GError **error);

/* What libvirtd is not to see. */
guint64 migrate_options_flags_taken(const MigrateAsked *asked);
gboolean migrate_options_param_taken(const MigrateAsked *asked, const MigrateParam *param);

/* What the session is to compress with. */
#define MIGRATE_METHODS_MAX 2
#define MIGRATE_METHOD_ZSTD "zstd"
#define MIGRATE_METHOD_ZLIB "zlib"

typedef enum {
    MIGRATE_COMPRESSION_UNSAID, /* as virtpostcopyd.conf has it */
    MIGRATE_COMPRESSION_ASKED,
    MIGRATE_COMPRESSION_NONE, /* asked for nothing else than level 0 */
} MigrateCompressionWish;

typedef struct {
    MigrateCompressionWish wish;
    const char *methods[MIGRATE_METHODS_MAX + 1]; /* asked: one or more of them, NULL at the end */
    gint zstd_level;                              /* 0: not said */
    gint zlib_level;                              /* 0: not said */
    guint threads;                                /* 0: not said */
} MigrateCompression;

/* What is asked of the session beside moving the guest. */
typedef struct {
    MigrateCompression compression;
    guint bulk;     /* channels beside the main and the preempt channel; 0: none */
    gboolean disks; /* that are copied along, with no way of their own */
} MigrateWishes;

void migrate_options_wishes(const MigrateAsked *asked, MigrateWishes *ret);
