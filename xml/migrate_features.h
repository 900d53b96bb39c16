/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a migration is asked to have of the session, by the names of the session's features, and
 * what of that it has: the two ends may be of different versions, and set up differently. Pure. */
#pragma once

#include "xml/migrate_options.h"

/* Not one of the session's features yet: nobody has it. */
#define MIGRATE_FEATURE_BULK "bulk"

/* Names, NULL at the end; they are static, the array is the caller's. In any case "ram" and
 * "resume"; the methods of compression: those that are wished for, or virtpostcopyd.conf's if
 * nothing is said. */
const char **migrate_features_asked(const MigrateWishes *wishes, gboolean compresses_by_default);

/* "a, b; asked for and not to be had: c": the effective ones, and which of asked are not among
 * them. */
char *migrate_features_describe(const char *const *asked, const char *const *effective);
