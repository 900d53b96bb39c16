/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What becomes of each flag (VIR_MIGRATE_*) and each parameter (VIR_MIGRATE_PARAM_*) of a post-copy
 * migration: a row for every one that libvirt has, from 9.0 to 11.x. docs/flags.md is made from it.
 *
 * It is data: what is refused, taken out and translated is read from it in
 * xml/migrate_options.h. A bit or a name without a row is forwarded, and libvirtd decides. Pure. */
#pragma once

#include <glib.h>

typedef enum {
    MIGRATE_FORWARDED, /* to libvirtd, as it is */
    MIGRATE_CONSUMED,  /* by this driver; libvirtd does not see it */
    MIGRATE_ADAPTED,   /* something else is done in its place, or with a part of it */
    MIGRATE_REFUSED,
    MIGRATE_DISPOSITION_MAX,
} MigrateDisposition;

/* When libvirtd does not get to see it. */
typedef enum {
    MIGRATE_KEPT,               /* it always does */
    MIGRATE_TAKEN,              /* never */
    MIGRATE_TAKEN_BY_PREPARE,   /* the destination's gets another one in its Prepare */
    MIGRATE_TAKEN_UNLESS_PEER,  /* but by a source in a peer-to-peer one, for the other daemon */
    MIGRATE_TAKEN_BY_PARALLEL,  /* not when VIR_MIGRATE_PARALLEL is taken out as well */
    MIGRATE_TAKEN_METHODS,      /* as far as the session does it: see MigrateCompression */
    MIGRATE_TAKEN_BY_MT,        /* not with that method */
    MIGRATE_TAKEN_BY_ZLIB,
    MIGRATE_TAKEN_BY_ZSTD,
} MigrateTaking;

#define MIGRATE_NO_BIT (-1)

typedef struct {
    const char *name;   /* libvirt's: "VIR_MIGRATE_TLS", or of a parameter "tls.destination" */
    gint bit;           /* of a flag; MIGRATE_NO_BIT: a parameter */
    const char *option; /* virsh's, or NULL */
    MigrateDisposition disposition;
    MigrateTaking taking;
    gint code; /* refused: libvirt's virErrorNumber */
    /* To be translated. Refused: the error, which says what to do instead. Else what is done with
     * it; NULL where there is nothing to say. */
    const char *words;
} MigrateRow;

extern const MigrateRow migrate_rows[];
extern const gsize migrate_rows_len;

/* "forwarded", "consumed", "adapted", "refused" */
const char *migrate_disposition_name(MigrateDisposition disposition);

/* NULL: there is no row. */
const MigrateRow *migrate_table_flag(guint bit);
const MigrateRow *migrate_table_param(const char *name);

/* Those bits of flags that have no row. */
guint64 migrate_table_unknown(guint64 flags);
